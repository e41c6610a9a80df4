/** The drawer of settings: values that replace those of a style's preset, and the API key. */

import { find } from "./element.js";
import * as storage from "./storage.js";

const KEY = "settings";
const NUMBERS = ["temperature", "max_new_tokens", "seed"]; // ids of fields, and words of /generate

/** Fires `change` when an override came or went. */
export class Settings extends EventTarget {
  #dialog = find("settings");
  #values = read(storage.load(KEY));

  constructor() {
    super();
    for (const name of NUMBERS) {
      find(name).value = this.#values[name] ?? "";
      find(name).addEventListener("input", () => this.#readNumber(name));
    }
    find("api_key").value = this.apiKey;
    find("api_key").addEventListener("input", ({ target }) => {
      this.#set("api_key", target.value.trim());
    });
    find("open-settings").addEventListener("click", () => this.open());
    find("close-settings").addEventListener("click", () => this.close());
    find("settings-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.close(); // Enter in a field
    });
    find("reset-settings").addEventListener("click", () => this.#reset());
    this.#dialog.addEventListener("click", ({ target }) => {
      if (target === this.#dialog) this.close(); // the backdrop counts as the dialog itself
    });
    this.#showWhetherChanged();
  }

  /** What a request says beside its messages and style. */
  get overrides() {
    const given = NUMBERS.filter((name) => this.#values[name] !== null);
    return Object.fromEntries(given.map((name) => [name, this.#values[name]]));
  }

  get apiKey() {
    return this.#values.api_key;
  }

  /** Open the drawer, at a field if one is named. */
  open(name = "temperature") {
    this.#dialog.showModal();
    find(name).focus();
  }

  close() {
    this.#dialog.close();
  }

  /** Show what an empty field means for the chosen styles. */
  showPresets(presets) {
    for (const name of ["temperature", "max_new_tokens"]) {
      find(name).placeholder = presets.map((preset) => preset[name]).join(" · ");
    }
  }

  #readNumber(name) {
    const field = find(name);
    find(`${name}-problem`).textContent = field.validationMessage;
    field.setAttribute("aria-invalid", String(!field.validity.valid));
    if (field.validity.valid) this.#set(name, field.value === "" ? null : field.valueAsNumber);
  }

  #set(name, value) {
    this.#values = { ...this.#values, [name]: value };
    storage.save(KEY, this.#values);
    this.#showWhetherChanged();
    this.dispatchEvent(new Event("change"));
  }

  #reset() {
    for (const name of NUMBERS) {
      find(name).value = "";
      this.#readNumber(name);
    }
  }

  #showWhetherChanged() {
    const changed = Object.keys(this.overrides).length > 0;
    const button = find("open-settings");
    const words = changed ? "Settings (changed)" : "Settings";
    button.classList.toggle("changed", changed);
    button.setAttribute("aria-label", words);
    button.title = words;
  }
}

function read(kept) {
  const numbers = NUMBERS.map((name) => [name, Number.isFinite(kept?.[name]) ? kept[name] : null]);
  const key = typeof kept?.api_key === "string" ? kept.api_key : "";
  return { ...Object.fromEntries(numbers), api_key: key };
}
