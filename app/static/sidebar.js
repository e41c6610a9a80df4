/** The list of conversations; beside the page where there is room, else drawn over it. */

import { find, iconButton, make } from "./element.js";
import { notify } from "./notice.js";

const NARROW = matchMedia("(max-width: 820px)"); // as in style.css

/** Fires `open` with an id, `new`, and `remove` with an id. */
export class Sidebar extends EventTarget {
  #history;
  #list = find("conversations");

  constructor(history) {
    super();
    this.#history = history;
    find("new-conversation").addEventListener("click", () => this.#leaveFor("new"));
    find("menu").addEventListener("click", () => this.#slide(true));
    find("backdrop").addEventListener("click", () => this.#slide(false));
    find("export").addEventListener("click", () => this.#export());
    find("import").addEventListener("click", () => find("import-file").click());
    find("import-file").addEventListener("change", ({ target }) => this.#import(target));
    find("sidebar").addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || !this.#slidOver) return;
      event.stopPropagation();
      this.#slide(false);
    });
    NARROW.addEventListener("change", () => this.#slide(false));
  }

  /** Draw the list anew. */
  show(currentId) {
    const focused = document.activeElement?.dataset.conversation;
    const conversations = this.#history.titles;
    find("no-conversations").hidden = conversations.length > 0;
    find("export").disabled = conversations.length === 0;
    this.#list.replaceChildren(...conversations.map((item) => this.#item(item, currentId)));
    if (focused === undefined) return;
    this.#list.querySelector(`[data-conversation="${focused}"]`)?.focus();
  }

  #item({ id, title, updated }, currentId) {
    const open = make(
      "button",
      {
        type: "button",
        class: "conversation",
        title: `${title}\n${new Date(updated).toLocaleString()}`,
        "aria-current": id === currentId ? "true" : false,
        "data-conversation": id,
        onclick: () => this.#leaveFor("open", id),
      },
      title,
    );
    const remove = iconButton("delete", `Delete “${title}”`, () => {
      this.dispatchEvent(new CustomEvent("remove", { detail: id }));
      find("new-conversation").focus();
    });
    return make("li", {}, open, remove);
  }

  #leaveFor(name, detail = null) {
    this.#slide(false);
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  get #slidOver() {
    return find("sidebar").classList.contains("open");
  }

  #slide(open) {
    const was = this.#slidOver;
    find("sidebar").classList.toggle("open", open);
    find("backdrop").hidden = !open;
    find("main").inert = open;
    find("menu").setAttribute("aria-expanded", String(open));
    if (open) find("new-conversation").focus();
    else if (was) find("menu").focus();
  }

  #export() {
    const blob = new Blob([this.#history.exported()], { type: "application/json" });
    const href = URL.createObjectURL(blob);
    const day = new Date().toISOString().slice(0, 10);
    make("a", { href, download: `laconic-conversations-${day}.json` }).click();
    setTimeout(() => URL.revokeObjectURL(href), 60_000);
  }

  async #import(input) {
    const [file] = input.files;
    input.value = ""; // so that the same file can be chosen again
    if (file === undefined) return;
    try {
      const taken = this.#history.import(await file.text());
      const things = taken === 1 ? "1 conversation" : `${taken} conversations`;
      notify(taken === 0 ? "Nothing new in that file." : `Imported ${things}.`);
    } catch (error) {
      notify(error.message);
    }
  }
}
