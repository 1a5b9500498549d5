// What is seen of the first table that is shown in arguments[0]; see `browsing.Table`.
const shown = (element) => element.checkVisibility();
const text = (element) => element.innerText.replace(/\s+/g, " ").trim();
const table = [...document.querySelectorAll(`${arguments[0]} table.grid`)].find(shown);
const heads = [...table.querySelector("tr.heads").cells].filter(shown);
const rows = [...table.tBodies, table.tFoot]
  .flatMap((part) => [...(part?.rows ?? [])])
  .filter((row) => shown(row) && !row.matches(".section"));
const label = (cell) => [...cell.childNodes]
  .filter((node) => !node.matches?.("small, .path"))
  .map((node) => node.textContent)
  .join("")
  .trim();
return {
  caption: text(table.caption),
  names: heads.map((head) => head.dataset.name),
  sorts: heads.map((head) => head.getAttribute("aria-sort")),
  labels: rows.map((row) => label(row.cells[0])),
  rows: rows.map((row) => [...row.cells].slice(1).filter(shown).map(text)),
};
