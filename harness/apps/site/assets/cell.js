// The rows behind a parity plot: read by pointing at it, or as a table. They lie in a file of their
// own that is loaded when it is asked for.
"use strict";
(() => {
  const { make, prepare } = window.harnessTables;
  const box = document.getElementById("all-rows");
  const plot = document.getElementById("parity");
  const tip = document.getElementById("tip");
  let data = null, waiting = [];

  const withRows = (use) => {
    if (data) return use();
    waiting.push(use);
    if (waiting.length > 1) return;
    const script = make("script", { src: box.dataset.source });
    script.addEventListener("error", () => { tip.textContent = `The file ${box.dataset.source} is missing.`; });
    document.head.append(script);
  };
  window.harnessRows = (rows) => { data = rows; waiting.forEach((use) => use()); waiting = []; };

  const short = (value) => (value === null ? "failed" : String(Number(value.toPrecision(3))));

  // --- pointing --------------------------------------------------------------------------------

  const [xLow, xHigh, xStart, xEnd, yLow, yHigh, yStart, yEnd] = JSON.parse(plot.dataset.axes);
  const place = (value, low, high, start, end) => {
    const inside = Math.min(Math.max(value, low), high);
    const share = data.log ? Math.log(inside / low) / Math.log(high / low) : (inside - low) / (high - low);
    return start + share * (end - start);
  };
  const ring = document.createElementNS("http://www.w3.org/2000/svg", "circle");
  ring.setAttribute("class", "pointed");
  ring.setAttribute("r", "6");
  const point = (event) => {
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(plot.getScreenCTM().inverse());
    let nearest = null, least = 20 ** 2;
    for (const row of data.rows) {
      if (row[3] === null) continue;
      const x = place(row[2], xLow, xHigh, xStart, xEnd), y = place(row[3], yLow, yHigh, yStart, yEnd);
      const distance = (x - at.x) ** 2 + (y - at.y) ** 2;
      if (distance < least) [nearest, least] = [[row, x, y], distance];
    }
    if (!nearest) return ring.remove();
    const [[run, material, target, predicted, overlap], x, y] = nearest;
    const [part, id, formula] = data.materials[material];
    ring.setAttribute("cx", x);
    ring.setAttribute("cy", y);
    plot.append(ring);
    tip.textContent = `${formula || id} (${id}, ${part}), run ${run}: target ${short(target)}, ` +
      `predicted ${short(predicted)} ${data.unit}${overlap ? "; its formula was trained on" : ""}`;
  };
  plot.addEventListener("pointermove", (event) => withRows(() => point(event)));
  plot.addEventListener("pointerleave", () => ring.remove());

  // --- the table -------------------------------------------------------------------------------

  let heads = [];  // made once the rows are here, which say what was predicted
  const titles = () => [["material", "name"], ["id", "text"], ["dataset", "name"], ["run", "number"],
    [`target ${data.symbol}`, "number"], [`predicted ${data.symbol}`, "number"],
    [data.log ? "factor off" : `off by, ${data.unit}`, "number"], ["trained on its formula", "text"]];
  const entry = (column, text, value) => {
    const [title, kind] = heads[column];
    const item = make(kind === "name" ? "th" : "td", { className: kind }, text);
    item.dataset.label = title;
    if (kind === "name") item.scope = "row";
    if (kind === "number") item.dataset.value = value ?? "";
    return item;
  };
  const off = (target, predicted) => {
    if (predicted === null) return null;
    if (!data.log) return Math.abs(predicted - target);
    return 10 ** Math.abs(Math.log10(Math.max(predicted, data.lowest) / Math.max(target, data.lowest)));
  };
  const line = ([run, material, target, predicted, overlap]) => {
    const [part, id, formula] = data.materials[material];
    const factor = off(target, predicted);
    return make("tr", {}, entry(0, formula || id), entry(1, id), entry(2, part), entry(3, String(run), run),
      entry(4, short(target), target), entry(5, short(predicted), predicted),
      entry(6, factor === null ? "—" : data.log ? factor.toFixed(2) : short(factor), factor), entry(7, overlap ? "yes" : "no"));
  };
  const showTable = () => {
    heads = titles();
    const table = make("table", { id: "rows", className: "data" },
      make("thead", {}, make("tr", {}, ...heads.map(([title, kind]) => {
        const head = make("th", { className: kind, scope: "col" }, title);
        return head;
      }))),
      make("tbody", {}, ...data.rows.map(line)));
    table.dataset.sortable = "";
    const bar = make("div", { className: "toolbar needs-script" },
      make("label", { className: "field" }, "Filter", make("input", { type: "search" })));
    bar.dataset.bar = "rows";
    const frame = make("div", { className: "scroll tall", tabIndex: 0 }, table);
    frame.setAttribute("role", "region");
    frame.setAttribute("aria-label", "All predictions");
    box.replaceChildren(make("h3", { tabIndex: -1 }, "All predictions"), bar, frame);
    prepare(box);
    box.querySelector("h3").focus();
  };
  box.querySelector("button").addEventListener("click", () => withRows(showTable));
})();
