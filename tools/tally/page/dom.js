// Elements. Whatever a record says goes in as text, never as HTML.

// h("td", {class: "number", onclick: f}, "text", child, ...); properties that are null are left out.
export function h(name, properties, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

export function replace(element, ...children) {
  element.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
}

// A table that reads well aloud. columns: [{head, number}]; rows: [[cell, ...]].
export function table(caption, columns, rows) {
  const cells = (row) => row.map((cell, i) => h("td", { class: columns[i].number ? "number" : null }, cell));
  return h("table", null, h("caption", { class: "hidden" }, caption),
    h("thead", null, h("tr", null, columns.map((column) =>
      h("th", { scope: "col", class: column.number ? "number" : null }, column.head)))),
    h("tbody", null, rows.map((row) => h("tr", null, cells(row)))));
}

// What a chart shows when the pointer is over it: a title, lines of [label, value, colour].
export function tip(title, lines, note) {
  return h("div", { class: "tip" }, h("b", null, title),
    h("table", null, lines.map(([label, value, colour]) => h("tr", null,
      h("th", null, colour ? h("i", { style: `background:${colour}` }) : null, label), h("td", null, value)))),
    note ? h("p", null, note) : null);
}

// Buttons of which one is pressed. options: [[value, label, title]].
export function choice(label, options, value, change) {
  const buttons = options.map(([key, text, title]) => h("button", {
    type: "button", "data-value": key, "aria-pressed": String(key === value), title,
    onclick: () => {
      for (const other of buttons) other.setAttribute("aria-pressed", String(other.dataset.value === key));
      change(key);
    },
  }, text));
  return h("div", { class: "choice", role: "group", "aria-label": label }, buttons);
}
