// Two configurations beside each other. The numbers come from files beside the page, one per
// metric, that are loaded when they are asked for.
"use strict";
(() => {
  const { make, sortAgain, remember, restore } = window.harnessTables;
  const verdicts = JSON.parse(document.getElementById("verdicts").textContent);
  const form = document.getElementById("pair-choice");
  const status = document.getElementById("pair-status");
  const table = document.getElementById("pair");
  const loaded = {};
  const opposite = { better: "worse", "better?": "worse?", worse: "better", "worse?": "better?" };

  const signed = (value) => (value === null ? "—" : `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(3)}`);
  const minus = (value) => (value === null ? null : -value);
  const mirror = ([train, test, a, b, gain, low, high, p, adjusted, verdict, tests]) =>
    [train, test, b, a, minus(gain), minus(high), minus(low), p, adjusted, opposite[verdict] ?? verdict, tests];

  const name = (text) => {
    const place = make("th", { className: "name", scope: "row" }, text);
    return place;
  };
  const entry = (column, text, value) => {
    const place = make("td", { className: "number" }, text);
    place.dataset.label = table.tHead.rows[0].cells[column].textContent;
    place.dataset.value = value ?? (Number.isNaN(parseFloat(text)) ? "" : parseFloat(text));
    return place;
  };
  const fill = (rows) => {
    table.tBodies[0].replaceChildren(...rows.map(
      ([train, test, a, b, gain, low, high, p, adjusted, verdict, tests]) => {
        const told = make("td", { className: "text" }, verdicts[verdict].replace("{tests}", tests));
        told.dataset.label = "verdict";
        const interval = low === null ? "—" : `${signed(low)} … ${signed(high)}`;
        return make("tr", {}, name(train), name(test), entry(2, a), entry(3, b), entry(4, signed(gain), gain),
          entry(5, interval, low), entry(6, p), entry(7, adjusted), told);
      }));
    sortAgain(table);
  };

  const show = () => {
    const { a, b, metric } = form.elements;
    const data = loaded[metric.value];
    if (!data) return load(metric.value);
    const [i, j] = [a.selectedIndex, b.selectedIndex];
    const rows = data.pairs[`${i}-${j}`] ?? data.pairs[`${j}-${i}`]?.map(mirror);
    fill(rows ?? []);
    status.textContent = i === j ? "A and B are the same: choose another."
      : rows ? `${data.title}; a gain above 0 says that B is better. ${rows.length} cells.`
      : "These two cannot be paired: they have another protocol, or other runs.";
    for (const field of [a, b, metric]) remember(field.name, field.value);
  };
  const load = (metric) => {
    status.textContent = "Loading …";
    const script = make("script", { src: `compare/${metric}.js` });
    script.addEventListener("error", () => { status.textContent = `The file compare/${metric}.js is missing.`; });
    document.head.append(script);
  };
  window.harnessPairs = (data) => { loaded[data.metric] = data; show(); };

  for (const field of ["a", "b", "metric"]) restore(form.elements[field], field);
  form.elements.swap.addEventListener("click", () => {
    const { a, b } = form.elements;
    [a.value, b.value] = [b.value, a.value];
    show();
  });
  form.addEventListener("change", show);
  form.addEventListener("submit", (event) => event.preventDefault());
  show();
})();
