// Making and finding elements. Text always goes in as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

// An element with properties (on* are listeners, others attributes; null and false are left out) and children.
export function h(tag, properties = {}, ...children) {
  return filled(document.createElement(tag), properties, children);
}

export function svg(tag, properties = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), properties, children);
}

function filled(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

// Changes the text only when it differs, so that screen readers are not told the same thing twice.
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function facts(list, entries) {
  list.replaceChildren(...entries.map(([term, value]) => h("div", {}, h("dt", {}, term), h("dd", {}, value))));
}

// A table of columns {title, cell(row), number, wide, heads}; `caption` is for those who cannot see where it stands.
export function table(caption, columns, rows, properties = {}) {
  const kind = (column) => (column.number ? "number" : column.wide ? "wide" : null);
  return h(
    "table",
    properties,
    h("caption", { class: "sr" }, caption),
    h("thead", {}, h("tr", {}, columns.map((column) => h("th", { scope: "col", class: kind(column), "aria-sort": column.sort }, column.head ?? column.title)))),
    h("tbody", {}, rows.map((row) => h("tr", {}, columns.map((column) => {
      const cell = column.cell(row);
      return column.heads ? h("th", { scope: "row" }, cell) : h("td", { class: kind(column) }, cell);
    })))),
  );
}
