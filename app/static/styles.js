/** The switch between the styles of the adapter, and all of them side by side. */

import { make } from "./element.js";
import * as storage from "./storage.js";

const KEY = "style";
const ALL = "*";

export class StyleSwitch extends EventTarget {
  #element;
  #styles = [];
  #choice = storage.load(KEY);

  constructor(element) {
    super();
    this.#element = element;
    element.addEventListener("change", ({ target }) => this.#choose(target.value));
  }

  /** Names of the styles to answer in; [null], the server's default, before they are known. */
  get chosen() {
    if (this.#choice === ALL) return this.names;
    return [this.#choice];
  }

  get names() {
    return this.#styles.map(({ name }) => name);
  }

  /** Presets of the chosen styles. */
  get presets() {
    const { chosen } = this;
    return this.#styles.filter(({ name }) => chosen.includes(name)).map(({ preset }) => preset);
  }

  /** Build the switch from a report of /health, if the styles are others than before. */
  show(styles, defaultStyle) {
    if (JSON.stringify(styles) === JSON.stringify(this.#styles)) return;
    this.#styles = styles;
    const choices = styles.map(({ name, description }) => [name, label(name), description]);
    if (styles.length > 1) choices.push([ALL, "Side by side", "One answer in every style."]);
    if (!choices.some(([value]) => value === this.#choice)) this.#choice = defaultStyle;
    const options = choices.map((choice) => this.#option(...choice));
    this.#element.replaceChildren(this.#element.firstElementChild, ...options);
    this.dispatchEvent(new Event("change"));
  }

  #option(value, text, description) {
    const checked = value === this.#choice;
    const input = make("input", { type: "radio", name: "style", value, checked });
    return make("label", { class: "segment", title: description }, input, make("span", {}, text));
  }

  #choose(value) {
    this.#choice = value;
    storage.save(KEY, value);
    this.dispatchEvent(new Event("change"));
  }
}

/** How a style is written on the page. */
export function label(name) {
  return name === null ? "Answer" : name.charAt(0).toUpperCase() + name.slice(1);
}
