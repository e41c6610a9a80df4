/** The conversations that this browser keeps, each under a key of its own, and their JSON file. */

import { readConversation } from "./conversation.js";
import * as storage from "./storage.js";

const START = "conversation.";
const FORMAT = "laconic-conversations";
const VERSION = 1;

/** Fires `change` when the list changed, here or in another tab, and `full` when nothing fits. */
export class History extends EventTarget {
  #titles = new Map();

  constructor() {
    super();
    this.#readTitles();
    addEventListener("storage", () => {
      this.#readTitles();
      this.#changed();
    });
  }

  /** {id, title, updated} of every conversation, the newest first. */
  get titles() {
    return [...this.#titles.values()].sort((a, b) => b.updated - a.updated);
  }

  /** Every conversation, the newest first. */
  all() {
    return this.titles.map(({ id }) => this.get(id)).filter((item) => item !== null);
  }

  /** The conversation of that id, or null. */
  get(id) {
    try {
      return readConversation(storage.load(START + id));
    } catch {
      return null; // gone, or not ours
    }
  }

  save(conversation) {
    const kept = storage.save(START + conversation.id, conversation);
    if (!kept) this.dispatchEvent(new Event("full"));
    this.#remember(conversation);
    this.#changed();
  }

  remove(id) {
    storage.remove(START + id);
    this.#titles.delete(id);
    this.#changed();
  }

  /** All conversations as the text of a file. */
  exported() {
    const head = { format: FORMAT, version: VERSION, exported: new Date().toISOString() };
    return JSON.stringify({ ...head, conversations: this.all() }, null, 2);
  }

  /** Take over a file's conversations; the number taken. Throws an Error if it is no such file. */
  import(text) {
    const list = readFile(text);
    let taken = 0;
    for (const conversation of list) {
      const present = this.get(conversation.id);
      if (present !== null && present.updated >= conversation.updated) continue;
      this.save(conversation);
      taken += 1;
    }
    return taken;
  }

  #readTitles() {
    this.#titles.clear();
    for (const name of storage.names(START)) {
      const conversation = this.get(name.slice(START.length));
      if (conversation !== null) this.#remember(conversation);
    }
  }

  #remember({ id, title, updated }) {
    this.#titles.set(id, { id, title, updated });
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}

function readFile(text) {
  let content;
  try {
    content = JSON.parse(text);
  } catch {
    throw new Error("The file is not JSON.");
  }
  if (content?.format !== FORMAT || !Array.isArray(content.conversations)) {
    throw new Error("The file was not exported from this page.");
  }
  if (content.version !== VERSION) throw new Error("The file is of another version of this page.");
  return content.conversations.map((value, index) => {
    try {
      return readConversation(value);
    } catch (error) {
      throw new Error(`Conversation ${index + 1} of the file cannot be read: ${error.message}.`);
    }
  });
}
