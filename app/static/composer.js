/** The field for the next question, with its buttons to send and to stop. */

import { find } from "./element.js";

/** Fires `ask` with the question as detail, and `stop`. */
export class Composer extends EventTarget {
  #field = find("question");
  #send = find("send");
  #stop = find("stop");
  #busy = false;

  constructor() {
    super();
    this.#field.addEventListener("input", () => this.#fit());
    this.#field.addEventListener("keydown", (event) => this.#keyDown(event));
    this.#stop.addEventListener("click", () => this.dispatchEvent(new Event("stop")));
    find("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.#fit();
  }

  focus() {
    this.#field.focus();
  }

  /** While answers are on their way the button stops instead of sending. */
  showBusy(busy) {
    this.#busy = busy;
    const hadFocus = document.activeElement === this.#stop;
    this.#stop.hidden = !busy;
    this.#send.hidden = busy;
    // A focused button that goes away must not leave the keyboard nowhere.
    if (busy && document.activeElement === document.body) this.#stop.focus();
    if (!busy && hadFocus) this.#send.focus();
    this.#fit();
  }

  #keyDown(event) {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    this.#submit();
  }

  #submit() {
    const question = this.#field.value.trim();
    if (question === "" || this.#busy) return;
    this.#field.value = "";
    this.#fit();
    this.dispatchEvent(new CustomEvent("ask", { detail: question }));
  }

  /** As high as its text; style.css sets the limit. */
  #fit() {
    this.#field.style.height = "auto";
    this.#field.style.height = `${this.#field.scrollHeight}px`;
    this.#send.disabled = this.#field.value.trim() === "";
  }
}
