// Makes a page better; without it every table and figure stands. It formats no number: what it shows was written by
// bertprof, and it only shows, hides, sorts and copies that.
"use strict";
(() => {
  const all = (root, selector) => [...root.querySelectorAll(selector)];
  const headsOf = (table) => [...(table.querySelector("tr.heads")?.cells ?? [])];
  const oneLine = (text) => text.trim().replace(/\s+/g, " ");

  function nameOf(row) {
    const name = row.cells[0].cloneNode(true);
    for (const note of all(name, "small")) note.remove();
    return oneLine(name.textContent);
  }
  const values = (row) => JSON.parse(row.dataset.values ?? "[]");

  // Switching: what carries data-KEY shows where that is the value chosen for KEY; "" is any. What is marked data-only
  // is too much for a table of everything, and shows once a metric or a kind of value is chosen.

  function matches(element, chosen) {
    if (element.dataset.only !== undefined && !chosen.metric && !chosen.as) return false;
    return Object.entries(chosen).every(([key, value]) => {
      const own = element.dataset[key];
      return own === undefined || value === "" || own === value;
    });
  }

  // What is chosen in every control. One after the other offers only what there is to see of what is chosen before it.
  function choose(explorer) {
    const chosen = {};
    for (const control of all(explorer, "select[data-control]")) {
      const key = control.dataset.control;
      const carriers = all(explorer, `[data-${key}]`);
      const has = (value) => carriers.some((element) => {
        const view = element.closest(".view");
        const now = { ...chosen, [key]: value };
        return element.dataset[key] === value && matches(element, now) && (!view || matches(view, now));
      });
      for (const option of control.options) option.disabled = option.value !== "" && !has(option.value);
      if (control.selectedOptions[0]?.disabled) control.value = [...control.options].find((o) => !o.disabled)?.value;
      chosen[key] = control.value;
    }
    return chosen;
  }

  function switchTo(explorer) {
    const chosen = choose(explorer);
    explorer.classList.toggle("one", Boolean(chosen.metric));
    const own = Object.keys(chosen).map((key) => `[data-${key}]`).join(",");
    for (const element of own ? all(explorer, own) : [])
      if (element.tagName !== "TH") element.hidden = !matches(element, chosen);
    for (const view of all(explorer, "details.view")) view.open = !view.hidden;
    for (const table of all(explorer, "table.grid")) showColumns(table, chosen);
  }

  function showColumns(table, chosen) {
    const shown = headsOf(table).map((head) => matches(head, chosen));
    for (const row of table.rows)
      if (!row.matches(".groups"))
        shown.forEach((show, i) => { if (row.cells[i]) row.cells[i].hidden = !show; });
    let at = 0;
    for (const cell of table.querySelector("tr.groups")?.cells ?? []) {
      const over = Number(cell.dataset.over ?? 1);
      const left = shown.slice(at, at + over).filter(Boolean).length;
      at += over;
      cell.hidden = left === 0;
      cell.colSpan = Math.max(1, left);
    }
  }

  for (const explorer of all(document, ".explorer")) {
    for (const control of all(explorer, "select[data-control]"))
      control.addEventListener("change", () => switchTo(explorer));
    explorer.classList.add("live");
    for (const tools of all(explorer, ".tools")) tools.hidden = false;
    switchTo(explorer);
  }

  // Sorting: figures from the largest on, words by the alphabet; then the other way round; then as it was. What is not
  // known stands last.

  const alphabet = new Intl.Collator("en", { numeric: true });

  function sort(table, column, original) {
    const heads = headsOf(table);
    const keys = new Map(original.flat().map((row) => [row, column ? values(row)[column - 1] ?? null : nameOf(row)]));
    const numbers = [...keys.values()].some((key) => typeof key === "number");
    const steps = numbers ? ["descending", "ascending"] : ["ascending", "descending"];
    const next = steps[steps.indexOf(heads[column].getAttribute("aria-sort")) + 1];
    for (const head of heads) head.removeAttribute("aria-sort");
    if (next) heads[column].setAttribute("aria-sort", next);
    table.classList.toggle("sorted", Boolean(next));
    const sign = next === "descending" ? -1 : 1;
    const compare = (a, b) => {
      const [first, second] = [keys.get(a), keys.get(b)];
      if (first === null || second === null) return (first === null) - (second === null);
      return sign * (numbers ? first - second : alphabet.compare(first, second));
    };
    [...table.tBodies].forEach((body, i) => body.append(...(next ? [...original[i]].sort(compare) : original[i])));
  }

  // Out of its tree, a row is known by its path.
  function withPaths(rows) {
    const names = [];
    for (const row of rows) {
      const depth = Number(row.cells[0].style.getPropertyValue("--depth"));
      if (!depth) continue;
      names.length = depth;
      const path = document.createElement("span");
      path.className = "path";
      path.textContent = names.slice(1).map((name) => `${name}.`).join("");
      names.push(nameOf(row));
      row.cells[0].prepend(path);
    }
  }

  for (const table of all(document, "table.grid")) {
    const original = [...table.tBodies].map((body) => [...body.rows]);
    original.forEach(withPaths);
    headsOf(table).forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => sort(table, column, original));
    });
  }

  // Copying: what is shown, in its order; Markdown as it reads, CSV with counts in full and seven digits of the rest.

  const text = (cell) => oneLine(cell.textContent);

  // As bertprof's own files: inert where HTML is allowed, and no formula for a spreadsheet.
  const special = /[\\`*|~$]|\b_+|_+\b|\](?=\()|&(?=#?\w+;)|^[[#=:]|^[+-](?!\d)|^\d+[.)](?=\s|$)|#$/g;
  const escaped = (cell) => cell.replace(special, (found) => found.replace(/_|\W/g, "\\$&"))
    .replace(/</g, "&lt;").replace(/>/g, "&gt;").replace(/@/g, "@<!-- -->");
  const field = (value) => {
    if (value === null || typeof value === "number") return String(value ?? "");
    const harmless = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
    return /[",\r\n]/.test(harmless) ? `"${harmless.replace(/"/g, '""')}"` : harmless;
  };

  const rowsOf = (table) => [...table.tBodies, ...(table.tFoot ? [table.tFoot] : [])]
    .flatMap((part) => [...part.rows]).filter((row) => !row.closest("[hidden]"));

  function headers(table) {
    const groups = [...table.querySelector("tr.groups")?.cells ?? []]
      .flatMap((cell) => Array(Number(cell.dataset.over ?? 1)).fill(text(cell)));
    return headsOf(table).map((head, i) => [groups[i], text(head)].filter(Boolean).join(" "));
  }

  function markdown(table) {
    const heads = headsOf(table);
    const line = (cells) => `| ${cells.filter((_, i) => !heads[i].hidden).join(" | ")} |`;
    const rule = heads.map((head, i) => (i && !head.classList.contains("word") ? "---:" : "---"));
    const rows = rowsOf(table).map((row) => [nameOf(row), ...[...row.cells].slice(1).map(text)]);
    return [line(headers(table).map(escaped)), line(rule), ...rows.map((row) => line(row.map(escaped)))].join("\n");
  }

  function csv(table) {
    const heads = headsOf(table);
    const line = (cells) => cells.filter((_, i) => !heads[i].hidden).map(field).join(",");
    const rows = rowsOf(table).map((row) => line([nameOf(row), ...values(row)]));
    return [line(heads.map((head) => head.dataset.name)), ...rows].join("\n");
  }

  async function copy(content) {
    try {
      await navigator.clipboard.writeText(content);
    } catch {
      const area = document.createElement("textarea");
      area.value = content;
      area.style.cssText = "position: fixed; top: 0; left: 0";
      document.body.append(area);
      area.select();
      const done = document.execCommand("copy");
      area.remove();
      if (!done) throw new Error("the browser refused");
    }
  }

  for (const button of all(document, "button[data-copy]"))
    button.addEventListener("click", async () => {
      const explorer = button.closest(".explorer");
      const tables = all(explorer, "table.grid").filter((table) => !table.closest("[hidden]"));
      const status = explorer.querySelector(".status");
      const [written, name] = button.dataset.copy === "csv" ? [csv, "CSV"] : [markdown, "Markdown"];
      try {
        await copy(tables.map(written).join("\n\n") + "\n");
        status.textContent = `Copied as ${name}: ${tables.flatMap(rowsOf).length} rows.`;
      } catch (error) {
        status.textContent = `Not copied: ${error.message}.`;
      }
      button.focus();
    });

  // Tips: a title becomes a box for keyboard and finger as well. In a table arrow keys go from one to the next.

  const box = document.createElement("div");
  box.id = "tip-box";
  box.setAttribute("role", "tooltip");
  box.hidden = true;
  document.body.append(box);
  let owner = null;

  function show(element) {
    hide();
    owner = element;
    box.textContent = element.dataset.tip;
    box.hidden = false;
    element.setAttribute("aria-describedby", box.id);
    const at = element.getBoundingClientRect();
    const own = box.getBoundingClientRect();
    const width = document.documentElement.clientWidth;
    const below = at.bottom + own.height <= window.innerHeight || at.top < own.height;
    box.style.left = `${Math.max(8, Math.min(at.left, width - own.width - 8)) + window.scrollX}px`;
    box.style.top = `${(below ? at.bottom : at.top - own.height) + window.scrollY}px`;
  }

  function hide() {
    box.hidden = true;
    owner?.removeAttribute("aria-describedby");
    owner = null;
  }

  // The pointer is off: the tip of what has the focus stands again.
  function leave(event) {
    if (event.relatedTarget === box) return;
    const focused = document.activeElement;
    if (focused?.matches(".tip[data-tip]")) show(focused);
    else hide();
  }

  function reach(element) {
    const others = all(element.closest("table"), ".tip[data-tip]");
    for (const other of others) other.tabIndex = other === element ? 0 : -1;
    return others.filter((other) => !other.closest("[hidden]"));
  }

  for (const element of all(document, ".tip[title]")) {
    element.dataset.tip = element.title;
    element.removeAttribute("title");
    element.tabIndex = element.closest("table").querySelector(".tip[tabindex]") ? -1 : 0;
    element.addEventListener("focus", () => { reach(element); show(element); });
    element.addEventListener("blur", hide);
    element.addEventListener("mouseenter", () => show(element));
    element.addEventListener("mouseleave", leave);
    element.addEventListener("keydown", (event) => {
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      const others = step ? reach(element) : [];
      const next = others[others.indexOf(element) + step];
      if (next) { event.preventDefault(); next.focus(); }
    });
  }
  box.addEventListener("mouseleave", leave);
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });

  // The record: saved as plain JSON where the browser can unpack it, else as it is.

  for (const link of all(document, "a[data-record]"))
    link.addEventListener("click", async (event) => {
      if (!("DecompressionStream" in window)) return;
      event.preventDefault();
      const save = document.createElement("a");
      try {
        const bytes = Uint8Array.from(atob(link.href.split(",")[1]), (c) => c.charCodeAt(0));
        const unpacked = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
        const plain = await new Response(unpacked).arrayBuffer();
        save.href = URL.createObjectURL(new Blob([plain], { type: "application/json" }));
        save.download = link.download.replace(/\.gz$/, "");
      } catch {
        [save.href, save.download] = [link.href, link.download];
      }
      save.click();
      setTimeout(() => URL.revokeObjectURL(save.href), 10000);
    });

  // Print: what can be unfolded is, while it is printed.

  const unfolded = [];
  window.addEventListener("beforeprint", () => {
    for (const each of all(document, "details:not([hidden], [open])")) {
      unfolded.push(each);
      each.open = true;
    }
  });
  window.addEventListener("afterprint", () => { for (const each of unfolded.splice(0)) each.open = false; });
})();
