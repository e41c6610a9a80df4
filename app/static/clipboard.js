/** Copies text, also on plain http where browsers hide their clipboard. */

import { icon } from "./element.js";

const CONFIRMED_MILLISECONDS = 1500;

/** Whether the text is on the clipboard now. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text); // there on https and localhost only
    return true;
  } catch {
    return copyBySelection(text);
  }
}

/** Copy, and let the button say so for a moment. */
export async function copyWith(button, text) {
  const copied = await copy(text);
  const [label, image] = [button.getAttribute("aria-label"), button.firstElementChild];
  if (button.dataset.busy !== undefined) return;
  button.dataset.busy = "";
  button.setAttribute("aria-label", copied ? "Copied" : "Could not copy");
  if (copied) image.replaceWith(icon("check"));
  setTimeout(() => {
    delete button.dataset.busy;
    button.setAttribute("aria-label", label);
    button.firstElementChild.replaceWith(image);
  }, CONFIRMED_MILLISECONDS);
}

function copyBySelection(text) {
  const focused = document.activeElement;
  const field = document.createElement("textarea");
  field.value = text;
  field.className = "off-screen";
  document.body.append(field);
  field.select();
  const copied = document.execCommand("copy");
  field.remove();
  focused?.focus();
  return copied;
}
