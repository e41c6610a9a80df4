/** Makes DOM elements. Text is always text: nothing on this page takes HTML as a string. */

/**
 * An element with attributes and children. `false` and `null` leave an attribute out, `true` sets
 * it without a value, and a function under `onclick` and the like listens to that event.
 */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null) continue;
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

/** The element of that id; the page is broken without it. */
export function find(id) {
  const element = document.getElementById(id);
  if (element === null) throw new Error(`the page has no element #${id}`);
  return element;
}

/** A copy of the icon that index.html keeps as a template. */
export function icon(name) {
  return find(`icon-${name}`).content.firstElementChild.cloneNode(true);
}

/** A button that shows an icon and is called `label`. */
export function iconButton(name, label, onclick, attributes = {}) {
  const shared = { type: "button", class: "icon-button", "aria-label": label, title: label };
  return make("button", { ...shared, onclick, ...attributes }, icon(name));
}
