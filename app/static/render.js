/**
 * Markdown as DOM nodes: HTML in an answer is shown as text, code is highlighted, and everything
 * passes DOMPurify last. No other file turns an answer into elements.
 */

import DOMPurify from "./vendor/dompurify-3.4.18.js";
import hljs from "./vendor/highlight-11.12.0.js";
import { Marked } from "./vendor/marked-18.2.1.js";
import { copyWith } from "./clipboard.js";
import { iconButton, make } from "./element.js";

const ALLOWED = {
  ALLOWED_TAGS: [
    ..."a blockquote br code del em h3 h4 h5 h6 hr li ol p pre span strong".split(" "),
    ..."table tbody td th thead tr ul".split(" "),
  ],
  ALLOWED_ATTR: ["align", "class", "data-language", "href", "start"],
  ADD_URI_SAFE_ATTR: ["align", "data-language", "start"], // or they would have to look like links
  ALLOWED_URI_REGEXP: /^(?:https?:|mailto:)/i,
  ALLOW_ARIA_ATTR: false,
  ALLOW_DATA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};
const HIGHLIGHTED_CHARACTERS = 20_000; // longer code stays plain: highlighting it would stutter

const marked = new Marked({
  gfm: true,
  renderer: {
    code: ({ text, lang }) => {
      const language = hljs.getLanguage(firstWord(lang)) ? firstWord(lang) : "";
      const fits = language !== "" && text.length <= HIGHLIGHTED_CHARACTERS;
      const html = fits ? hljs.highlight(text, { language }).value : escape(text);
      const name = escape(firstWord(lang) || "text");
      return `<pre data-language="${name}"><code class="hljs">${html}\n</code></pre>`;
    },
    html: ({ text, block }) => {
      const literal = escape(text.trimEnd()).replaceAll("\n", "<br>");
      return block ? `<p>${literal}</p>` : literal;
    },
    image: ({ href, text }) => `<a href="${escape(href)}">${escape(text || href)}</a>`,
    checkbox: ({ checked }) => (checked ? "☑ " : "☐ "),
    heading({ tokens, depth }) {
      const level = Math.max(depth, 3); // the page itself has the first two levels
      return `<h${level}>${this.parser.parseInline(tokens)}</h${level}>`;
    },
  },
});

/** A fragment with nothing but the elements and attributes allowed above. */
export function purify(html) {
  return DOMPurify.sanitize(html, ALLOWED);
}

/** A safe fragment for any text whatsoever. */
export function render(markdown) {
  const fragment = purify(marked.parse(markdown));
  for (const link of fragment.querySelectorAll("a")) {
    link.target = "_blank";
    link.rel = "noopener noreferrer nofollow";
  }
  for (const pre of fragment.querySelectorAll("pre")) frame(pre, codeHead(pre));
  for (const table of fragment.querySelectorAll("table")) frame(table);
  return fragment;
}

/**
 * Markdown that grows: drawn anew at most once a frame, and for at most a quarter of the time, so
 * that long answers leave slow phones some; only the blocks that changed are touched.
 */
export class GrowingText {
  #element;
  #text = "";
  #frame = null;
  #restUntil = 0;

  constructor(element) {
    this.#element = element;
  }

  /** Show this text with the next frame. */
  update(text) {
    this.#text = text;
    this.#frame ??= requestAnimationFrame(() => this.#tick());
  }

  /** Show this text now, also in a tab that nobody sees, where frames do not come. */
  finish(text) {
    this.#text = text;
    if (this.#frame !== null) cancelAnimationFrame(this.#frame);
    this.#draw();
  }

  #tick() {
    if (performance.now() >= this.#restUntil) this.#draw();
    else this.#frame = requestAnimationFrame(() => this.#tick());
  }

  #draw() {
    this.#frame = null;
    const begin = performance.now();
    const shown = [...this.#element.childNodes];
    const wanted = [...render(this.#text).childNodes];
    let same = 0;
    while (same < shown.length && same < wanted.length && shown[same].isEqualNode(wanted[same])) {
      same += 1; // what a reader has selected in finished blocks stays selected
    }
    for (const node of shown.slice(same)) node.remove();
    this.#element.append(...wanted.slice(same));
    const end = performance.now();
    this.#restUntil = end + 3 * (end - begin);
  }
}

/** Put a wide element into a box of its own, so that it scrolls and the page does not. */
function frame(element, ...head) {
  const box = make("div", { class: `${element.localName}-frame` }, ...head);
  element.replaceWith(box);
  const name = element.localName === "pre" ? `Code, ${element.dataset.language}` : "Table";
  const attributes = { class: "wide", tabindex: "0", role: "region", "aria-label": name };
  box.append(make("div", attributes, element)); // focusable: arrow keys scroll it
}

function codeHead(pre) {
  const button = iconButton("copy", "Copy the code", () => {
    copyWith(button, pre.textContent.replace(/\n$/, ""));
  });
  return make("div", { class: "code-head" }, make("span", {}, pre.dataset.language), button);
}

function firstWord(text) {
  return (text ?? "").trim().split(/\s+/)[0].toLowerCase();
}

function escape(text) {
  const names = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
  return text.replace(/[&<>"']/g, (character) => names[character]);
}
