/** Short messages at the edge of the page, with something to do about them. */

import { find, make } from "./element.js";

const SHOWN_MILLISECONDS = 8000;

/** Show a message for some seconds; `action` is {label, run}. The one before it goes. */
export function notify(text, action = null) {
  const notice = make("div", { class: "notice" }, make("span", {}, text));
  if (action !== null) {
    const run = () => {
      notice.remove();
      action.run();
    };
    const attributes = { type: "button", class: "quiet-button", onclick: run };
    notice.append(make("button", attributes, action.label));
  }
  find("notices").replaceChildren(notice);
  let timer = null;
  const hideLater = () => {
    timer = setTimeout(() => notice.remove(), SHOWN_MILLISECONDS);
  };
  // Whoever is about to press the button keeps it.
  const keep = () => clearTimeout(timer);
  for (const name of ["pointerenter", "focusin"]) notice.addEventListener(name, keep);
  for (const name of ["pointerleave", "focusout"]) notice.addEventListener(name, hideLater);
  hideLater();
}
