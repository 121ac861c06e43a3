// Tables that sort, filter, show other columns and give themselves as CSV, and the choice of metric
// and test rows. Everything is on the page. What a reader has chosen lives in the address, by name.
"use strict";
(() => {
  document.documentElement.classList.add("js");
  const order = new Intl.Collator("en", { numeric: true, sensitivity: "base" });
  const make = (tag, properties, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };

  // --- the address: #name=value&…, anything else there is the name of a heading -----------------

  const state = new URLSearchParams(location.hash.includes("=") ? location.hash.slice(1) : "");
  const remember = (name, value) => {
    if (value) state.set(name, value);
    else state.delete(name);
    history.replaceState(null, "", state.size ? `#${state}` : location.pathname + location.search);
  };
  const restore = (select, name) => {
    if ([...select.options].some((option) => option.value === state.get(name))) select.value = state.get(name);
  };

  // --- sorting: a missing number comes last in either direction -------------------------------

  const headsOf = (table) => [...table.tHead.rows[0].cells];
  const rowsOf = (table) => [...table.tBodies[0].rows];
  const titleOf = (head) => head.textContent.trim();

  const valueOf = (place, numeric) => {
    if (!numeric) return place.textContent.trim();
    return place?.dataset.value ? Number(place.dataset.value) : null;
  };

  const compare = (a, b, numeric, sign) => {
    if (a === null || b === null) return (a === null) - (b === null);
    return sign * (numeric ? a - b : order.compare(a, b));
  };

  // Ranks are told by the column that rows are sorted by, or by the place that stands for a row.
  const rank = (table, column) => {
    if (!table.querySelector("td.rank")) return;
    const scores = column >= 0 && table.querySelector(`tbody td[data-rank]:nth-child(${column + 1})`);
    for (const row of rowsOf(table)) {
      const place = scores ? row.cells[column] : row.querySelector("[data-home]");
      row.querySelector("td.rank").textContent = place?.dataset.rank ?? "";
    }
    const told = document.querySelector("[data-ranked]");
    told.textContent = scores ? `by the test on ${titleOf(headsOf(table)[column])}` : "by the test on the dataset trained on";
  };

  const finish = (table, column, direction) => {
    headsOf(table).forEach((head, place) => {
      if (place === column) head.setAttribute("aria-sort", direction);
      else head.removeAttribute("aria-sort");
    });
    rank(table, column);
    table.dispatchEvent(new CustomEvent("sorted", { detail: { column, direction } }));
  };

  const sort = (table, column, direction) => {
    const numeric = headsOf(table)[column].classList.contains("number");
    const sign = direction === "ascending" ? 1 : -1;
    const rows = rowsOf(table).map((row) => [valueOf(row.cells[column], numeric), row]);
    rows.sort(([a], [b]) => compare(a, b, numeric, sign));
    table.tBodies[0].append(...rows.map(([, row]) => row));
    finish(table, column, direction);
  };

  // The order of the page itself: groups one after another, in each the best first.
  const sortAsItIs = (table) => {
    if (!table.querySelector("[data-group]")) return;
    const head = headsOf(table).find((own) => own.dataset.better);
    const sign = head?.dataset.better === "higher" ? -1 : 1;
    const rows = rowsOf(table).map((row) => [Number(row.dataset.group), valueOf(row.querySelector("[data-home]"), true), row]);
    rows.sort(([g, a], [h, b]) => g - h || compare(a, b, true, sign));
    table.tBodies[0].append(...rows.map(([, , row]) => row));
    finish(table, -1);
  };

  const sortAgain = (table) => {
    const column = headsOf(table).findIndex((head) => head.ariaSort);
    if (column >= 0) sort(table, column, headsOf(table)[column].ariaSort);
    else sortAsItIs(table);
  };

  const makeSortable = (table) => {
    headsOf(table).forEach((head, column) => {
      if (head.classList.contains("rank")) return;
      const button = make("button", { type: "button" }, titleOf(head));
      button.addEventListener("click", () => {
        const first = head.dataset.better === "higher" ? "descending" : "ascending";
        const other = first === "ascending" ? "descending" : "ascending";
        sort(table, column, head.ariaSort === first ? other : first);
      });
      head.replaceChildren(button);
    });
  };

  // --- the bar above a table: filters, columns, CSV ---------------------------------------------

  const choices = (table, column) => [...new Set(rowsOf(table).map((row) => row.cells[column].textContent.trim()))];

  const csvOf = (table) => {
    const quote = (text) => {
      const safe = /^[=+\-@\t]/.test(text) && Number.isNaN(Number(text)) ? `'${text}` : text;
      return /[",\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
    };
    const shown = (row) => [...row.cells].filter((cell) => !cell.hidden);
    const lines = [table.tHead.rows[0], ...rowsOf(table).filter((row) => !row.hidden)];
    return lines.map((row) => shown(row).map((cell) => quote(cell.innerText.trim().replace(/\s+/g, " "))).join(",")).join("\n");
  };

  const makeCsv = (table) => {
    const link = make("a", { className: "action", href: "#", download: `${table.id}.csv` }, "CSV of what is shown");
    link.addEventListener("click", () => {
      link.href = URL.createObjectURL(new Blob([csvOf(table), "\n"], { type: "text/csv" }));
    });
    return link;
  };

  const makeColumns = (table, changed) => {
    const name = `${table.id}.columns`;
    const boxes = headsOf(table).map((head) => [head, make("input", { type: "checkbox", checked: !head.hidden })]);
    const usual = boxes.map(([, box]) => box.checked);
    const wanted = state.get(name)?.split("|");
    if (wanted) boxes.forEach(([head, box]) => { box.checked = wanted.includes(titleOf(head)); });
    const apply = () => boxes.forEach(([head, box], column) => {
      for (const row of [table.tHead.rows[0], ...rowsOf(table)]) row.cells[column].hidden = !box.checked;
    });
    const list = make("div", { className: "menu" }, ...boxes.map(([head, box]) => make("label", {}, box, ` ${titleOf(head)}`)));
    list.addEventListener("change", () => {
      apply();
      const same = boxes.every(([, box], place) => box.checked === usual[place]);
      remember(name, same ? "" : boxes.filter(([, box]) => box.checked).map(([head]) => titleOf(head)).join("|"));
      changed();
    });
    apply();
    return make("details", { className: "columns" }, make("summary", {}, "Columns"), list);
  };

  const makeFilters = (bar, table, search) => {
    const status = make("p", {});
    status.setAttribute("role", "status");
    const selects = [];
    headsOf(table).forEach((head, column) => {
      const options = head.classList.contains("name") ? choices(table, column) : [];
      if (options.length < 2 || options.length > 40) return;
      const select = make("select", {}, make("option", { value: "" }, "all"));
      options.forEach((text) => select.append(make("option", { value: text }, text)));
      const name = `${table.id}.${titleOf(head)}`;
      restore(select, name);
      select.addEventListener("change", () => remember(name, select.value));
      const field = make("label", { className: "field" }, titleOf(head), select);
      selects.push([column, select, field, head]);
      bar.append(field);
    });
    search.value = state.get(`${table.id}.words`) ?? "";
    search.addEventListener("input", () => remember(`${table.id}.words`, search.value));
    const apply = () => {
      const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const row of rowsOf(table)) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word)) || !selects.every(
          ([column, select]) => !select.value || row.cells[column].textContent.trim() === select.value);
      }
      const shown = rowsOf(table).filter((row) => !row.hidden).length;
      status.textContent = `${shown} of ${table.tBodies[0].rows.length} rows`;
      for (const [, select, field, head] of selects) field.hidden = head.hidden && !select.value;
    };
    bar.addEventListener("input", apply);
    table.addEventListener("filled", apply);
    return [status, apply];
  };

  const makeSorting = (table) => {
    const sorting = make("select", {}, make("option", { value: "" }, "as it is"));
    headsOf(table).forEach((head) => {
      if (head.classList.contains("rank")) return;
      for (const arrow of ["↑", "↓"]) sorting.append(make("option", {}, `${titleOf(head)} ${arrow}`));
    });
    const apply = () => {
      const column = headsOf(table).findIndex((head) => titleOf(head) === sorting.value.slice(0, -2));
      if (column < 0) sortAsItIs(table);
      else sort(table, column, sorting.value.endsWith("↑") ? "ascending" : "descending");
    };
    restore(sorting, `${table.id}.sort`);
    if (sorting.value) apply();
    sorting.addEventListener("change", apply);
    table.addEventListener("sorted", ({ detail: { column, direction } }) => {
      sorting.value = column < 0 ? "" : `${titleOf(headsOf(table)[column])} ${direction === "ascending" ? "↑" : "↓"}`;
      remember(`${table.id}.sort`, sorting.value);
    });
    return make("label", { className: "field narrow-only" }, "Sort by", sorting);
  };

  const prepare = (root) => {
    root.querySelectorAll("table[data-sortable]").forEach((table) => {
      makeSortable(table);
      const bar = root.querySelector(`[data-bar="${table.id}"]`);
      if (!bar) return;
      const search = bar.querySelector("input");
      if (!search) return bar.append(makeCsv(table));
      const [status, apply] = makeFilters(bar, table, search);
      bar.append(makeSorting(table), makeColumns(table, apply), makeCsv(table), status);
      apply();
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
    const selects = [...bar.querySelectorAll("select")];
    const show = () => {
      const [metric, subset] = selects.map((select) => select.value);
      for (const place of document.querySelectorAll("[data-key]")) {
        const [text, value, shade, marks, rank] = scores[metric].cells[subset][place.dataset.key];
        place.querySelector("a").textContent = text;
        const mark = place.querySelector(".mark");
        if (mark) {
          mark.textContent = marks;
          mark.classList.toggle("words", marks.length > 3);
        }
        place.dataset.value = value ?? "";
        place.dataset.rank = rank;
        shadeOf(place, shade);
      }
      for (const head of document.querySelectorAll("#matrix th[data-better]")) {
        if (document.querySelector(`#matrix td[data-key]:nth-child(${head.cellIndex + 1})`)) head.dataset.better = scores[metric].better;
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
    selects.forEach((select) => {
      restore(select, select.name);
      select.addEventListener("change", () => {
        remember(select.name, select.selectedIndex ? select.value : "");
        show();
      });
    });
    if (selects.some((select) => select.selectedIndex)) show();
  };

  window.harnessTables = { make, prepare, sortAgain, remember, restore };
  prepare(document);
  const choice = document.querySelector(".toolbar#choice"); // a guide may have such a heading
  if (choice) makeChoice(choice);
})();
