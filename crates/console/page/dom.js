// Elements. Whatever comes from elsewhere goes in as text, and never as markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export const by = (id) => document.getElementById(id);

export const html = (tag, attributes, ...children) =>
  fill(document.createElement(tag), attributes, children);

export const svg = (tag, attributes, ...children) =>
  fill(document.createElementNS(SVG, tag), attributes, children);

/** Sets a text where it is another one: who selects it is not disturbed. */
export function text(element, value) {
  const wanted = String(value ?? "");
  if (element.textContent !== wanted) element.textContent = wanted;
}

export function attribute(element, name, value) {
  if (value === null) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, String(value));
}

/** Children for items, by key: those that stay are kept, with their focus. */
export function keyed(parent, items, key, create, update) {
  const found = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let before = null;
  for (const item of items) {
    const name = String(key(item));
    let child = found.get(name);
    if (!child) {
      child = create(item);
      child.dataset.key = name;
    }
    found.delete(name);
    update(child, item);
    const place = before ? before.nextSibling : parent.firstChild;
    if (place !== child) parent.insertBefore(child, place);
    before = child;
  }
  for (const child of found.values()) child.remove();
}

/** A table whose rows are kept by key. Columns: `[title, class, (cell, item) => …]`. */
export class Table {
  constructor(parent, label, columns, key) {
    this.columns = columns;
    this.key = key;
    this.body = html("tbody");
    const titles = columns.map(([title, kind]) =>
      html("th", { scope: "col", class: kind === "number" ? kind : null }, title));
    this.table = html("table", { "aria-label": label, hidden: true },
      html("thead", {}, html("tr", {}, ...titles)), this.body);
    parent.replaceChildren(this.table);
  }

  show(items) {
    this.table.hidden = items.length === 0;
    const create = (item) =>
      html("tr", {}, ...this.columns.map(([, kind, , make]) =>
        html("td", { class: kind }, ...(make ? make(item) : []))));
    const update = (row, item) =>
      this.columns.forEach(([, , write], index) => write?.(row.children[index], item));
    keyed(this.body, items, this.key, create, update);
  }
}

/** A question with yes and no; with `token`, what was typed. */
export function ask({ title, words, yes, token = false }) {
  const dialog = by("ask");
  text(by("ask-title"), title);
  text(by("ask-text"), words);
  text(by("ask-yes"), yes);
  by("ask-field").hidden = !token;
  by("ask-token").value = "";
  dialog.returnValue = "no";
  dialog.showModal();
  (token ? by("ask-token") : by("ask-yes")).focus();
  return new Promise((resolve) => {
    const done = () => {
      const agreed = dialog.returnValue === "yes";
      const typed = by("ask-token").value.trim();
      by("ask-token").value = "";
      resolve(token ? (agreed && typed) || null : agreed);
    };
    dialog.addEventListener("close", done, { once: true });
  });
}

/** Says what became of something; at most five at a time. */
export function say(words, bad = false) {
  const messages = by("messages");
  const message = html("p", { class: bad ? "bad" : null }, words);
  messages.append(message);
  while (messages.children.length > 5) messages.firstChild.remove();
  setTimeout(() => message.remove(), bad ? 12_000 : 6_000);
}
