// Tables that sort and filter, and the choice of metric and test rows. Everything is on the page.
"use strict";
(() => {
  document.documentElement.classList.add("js");
  const order = new Intl.Collator("en", { numeric: true, sensitivity: "base" });
  const make = (tag, properties, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };

  // --- sorting: a missing number comes last in either direction -------------------------------

  const valueOf = (row, column, numeric) => {
    const place = row.cells[column];
    if (!numeric) return place.textContent.trim();
    return place.dataset.value ? Number(place.dataset.value) : null;
  };

  const sort = (table, column, direction) => {
    const numeric = table.tHead.rows[0].cells[column].classList.contains("number");
    const sign = direction === "ascending" ? 1 : -1;
    const rows = [...table.tBodies[0].rows].map((row) => [valueOf(row, column, numeric), row]);
    rows.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null);
      return sign * (numeric ? a - b : order.compare(a, b));
    });
    table.tBodies[0].append(...rows.map(([, row]) => row));
    [...table.tHead.rows[0].cells].forEach((head, place) => {
      if (place === column) head.setAttribute("aria-sort", direction);
      else head.removeAttribute("aria-sort");
    });
    table.dispatchEvent(new CustomEvent("sorted", { detail: { column, direction } }));
  };

  const sortAgain = (table) => {
    const column = [...table.tHead.rows[0].cells].findIndex((head) => head.ariaSort);
    if (column >= 0) sort(table, column, table.tHead.rows[0].cells[column].ariaSort);
  };

  const makeSortable = (table) => {
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = make("button", { type: "button" }, head.textContent);
      button.addEventListener("click", () =>
        sort(table, column, head.ariaSort === "ascending" ? "descending" : "ascending"));
      head.replaceChildren(button);
    });
  };

  // --- filtering: words that must occur, and one choice per column of names --------------------

  const choices = (table, column) =>
    [...new Set([...table.tBodies[0].rows].map((row) => row.cells[column].textContent.trim()))];

  const makeFilters = (bar, table) => {
    const search = bar.querySelector("input");
    const status = make("p", {});
    status.setAttribute("role", "status");
    const selects = [];
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const options = head.classList.contains("name") ? choices(table, column) : [];
      if (options.length < 2 || options.length > 40) return;
      const select = make("select", {}, make("option", { value: "" }, "all"));
      options.forEach((text) => select.append(make("option", { value: text }, text)));
      selects.push([column, select]);
      bar.append(make("label", { className: "field" }, head.textContent, select));
    });
    const sorting = make("select", {}, make("option", { value: "" }, "as it is"));
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      for (const [direction, arrow] of [["ascending", "↑"], ["descending", "↓"]]) {
        sorting.append(make("option", { value: `${column} ${direction}` }, `${head.textContent} ${arrow}`));
      }
    });
    sorting.addEventListener("change", () => {
      const [column, direction] = sorting.value.split(" ");
      if (direction) sort(table, Number(column), direction);
    });
    table.addEventListener("sorted", ({ detail }) => { sorting.value = `${detail.column} ${detail.direction}`; });
    bar.append(make("label", { className: "field narrow-only" }, "Sort by", sorting), status);
    const apply = () => {
      const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      const rows = [...table.tBodies[0].rows];
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word)) || !selects.every(
          ([column, select]) => !select.value || row.cells[column].textContent.trim() === select.value);
      }
      const shown = rows.filter((row) => !row.hidden).length;
      status.textContent = `${shown} of ${rows.length} rows`;
    };
    bar.addEventListener("input", apply);
    table.addEventListener("filled", apply);
    apply();
  };

  const prepare = (root) => {
    root.querySelectorAll("table[data-sortable]").forEach((table) => {
      makeSortable(table);
      const bar = root.querySelector(`[data-filters="${table.id}"]`);
      if (bar) makeFilters(bar, table);
    });
  };

  // --- another metric, other test rows ---------------------------------------------------------

  const shadeOf = (element, shade) => {
    element.classList.remove(...[...element.classList].filter((name) => /^s\d$/.test(name)));
    if (shade !== null) element.classList.add(`s${shade}`);
  };

  const makeChoice = (bar) => {
    const read = (id) => JSON.parse(document.getElementById(id).textContent);
    const scores = read("scores"), titles = read("titles");
    const show = () => {
      const [metric, subset] = [...bar.querySelectorAll("select")].map((select) => select.value);
      for (const place of document.querySelectorAll("[data-key]")) {
        const [text, value, shade, marks] = scores[metric].cells[subset][place.dataset.key];
        place.querySelector("a").textContent = text;
        const mark = place.querySelector(".mark");
        if (mark) {
          mark.textContent = marks;
          mark.classList.toggle("words", marks.length > 3);
        }
        place.dataset.value = value ?? "";
        shadeOf(place, shade);
      }
      for (const list of document.querySelectorAll(".scale")) {
        const [first, ...rest] = [...list.children];
        const items = scores[metric].legend.map(([text, shade]) => make("li", { className: `s${shade}` }, text));
        list.replaceChildren(first, ...items, rest.at(-1));
      }
      document.getElementById("marks").replaceChildren(
        ...scores[metric].marks[subset].map((line) => make("li", {}, line)));
      for (const title of document.querySelectorAll("[data-metric-title]")) {
        title.textContent = titles[metric] + (subset === "all" ? "" : ", overlap-free test rows");
      }
      document.querySelectorAll("table[data-sortable]").forEach((table) => {
        sortAgain(table);
        table.dispatchEvent(new CustomEvent("filled"));
      });
    };
    bar.addEventListener("change", show);
    if (bar.querySelector("select").selectedIndex || bar.querySelectorAll("select")[1].selectedIndex) show();
  };

  window.harnessTables = { make, prepare, sortAgain };
  prepare(document);
  const choice = document.querySelector(".toolbar#choice"); // a guide may have such a heading
  if (choice) makeChoice(choice);
})();
