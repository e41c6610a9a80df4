/** One answer on the page: its style, its words as they come, its figures, what to do with it. */

import { copyWith } from "./clipboard.js";
import { iconButton, make } from "./element.js";
import { GrowingText } from "./render.js";
import { label } from "./styles.js";

export class AnswerView {
  #answer;
  #actions;
  #text;
  #name = make("h2", { class: "answer-style" });
  #bar = make("div", { class: "length", "aria-hidden": "true" });
  #body = make("div", { class: "prose" });
  #state = make("div", { class: "answer-state" });
  #foot = make("div", { class: "answer-foot" });
  #countdown = null;

  /** `actions` has again(answer), forget(answer), compare(), askForKey() and canForget(). */
  constructor(answer, actions) {
    this.#answer = answer;
    this.#actions = actions;
    this.#text = new GrowingText(this.#body);
    const parts = [this.#name, this.#bar, this.#body, this.#state, this.#foot];
    this.element = make("article", { class: "answer" }, ...parts);
    if (answer.state === "running") this.begin();
    else this.settle();
  }

  /** The words are yet to come. */
  begin() {
    this.#label();
    this.#text.finish("");
    this.element.setAttribute("aria-busy", "true"); // read out once, when it is complete
    this.element.classList.add("running");
    this.#state.replaceChildren(
      make("p", { class: "waiting", role: "img", "aria-label": "Waiting for the answer" }, dots()),
    );
    this.#foot.replaceChildren();
  }

  /** Some more words came. */
  grow() {
    if (this.#state.hasChildNodes()) this.#state.replaceChildren();
    this.#text.update(this.#answer.response);
  }

  /** The answer is as complete as it will be. */
  settle(failure = null) {
    clearInterval(this.#countdown);
    const answer = this.#answer;
    this.#label();
    this.#text.finish(answer.response);
    this.#state.replaceChildren(...this.#messages(failure));
    this.#foot.replaceChildren(
      make("p", { class: "figures", title: details(answer) }, figures(answer)),
      make("div", { class: "answer-actions" }, ...this.#buttons()),
    );
    this.element.classList.remove("running");
    this.element.removeAttribute("aria-busy");
  }

  /** Draw the length beside that of the longest answer, in characters; null for no bar. */
  compareWith(longest) {
    const share = longest > 0 ? (100 * this.#answer.response.length) / longest : 0;
    this.#bar.style.setProperty("--share", `${share}%`);
    this.#bar.hidden = longest === null;
  }

  #label() {
    const { style } = this.#answer;
    this.#name.textContent = label(style);
    this.element.setAttribute("aria-label", style === null ? "Answer" : `${label(style)} answer`);
  }

  #buttons() {
    const answer = this.#answer;
    const buttons = [];
    if (answer.response !== "") {
      const copy = iconButton("copy", "Copy the answer", () => copyWith(copy, answer.response));
      buttons.push(copy);
    }
    if (answer.state !== "failed") { // a problem has buttons of its own
      const only = { class: "icon-button only-last" };
      const all = { class: "icon-button only-last only-single" };
      buttons.push(
        iconButton("again", "Answer again", () => this.#actions.again(answer), only),
        iconButton("columns", "Answer in every style", () => this.#actions.compare(), all),
      );
    }
    return buttons;
  }

  #messages(failure) {
    const answer = this.#answer;
    if (answer.state === "stopped") return [make("p", { class: "note" }, "Stopped.")];
    if (answer.state === "failed") return [this.#problem(failure)];
    if (answer.finish_reason === "length") {
      return [make("p", { class: "note" }, "Cut off at the longest length allowed.")];
    }
    return answer.response === "" ? [make("p", { class: "note" }, "The answer is empty.")] : [];
  }

  #problem(failure) {
    const words = make("p", {}, this.#answer.problem);
    const buttons = make("div", { class: "problem-actions only-last" });
    const offer = (text, run) => {
      const button = make("button", { type: "button", class: "small-button", onclick: run }, text);
      buttons.append(button);
      return button;
    };
    if (failure?.status === 401) offer("Enter an API key", () => this.#actions.askForKey());
    const again = offer("Try again", () => this.#actions.again(this.#answer));
    if ([413, 422].includes(failure?.status) && this.#actions.canForget()) {
      offer("Ask without the earlier turns", () => this.#actions.forget(this.#answer));
    }
    if (failure?.retryAfterSeconds > 0) this.#countDown(again, failure.retryAfterSeconds);
    const attributes = { class: "problem", role: "group", "aria-label": "Problem" };
    return make("div", attributes, words, buttons);
  }

  /** The server said when to come back: the button opens then. */
  #countDown(button, seconds) {
    const end = Date.now() + seconds * 1000;
    button.setAttribute("aria-live", "off"); // the seconds are for eyes only
    const tick = () => {
      const left = Math.ceil((end - Date.now()) / 1000);
      button.disabled = left > 0;
      button.textContent = left > 0 ? `Try again in ${left} s` : "Try again";
      if (left <= 0) clearInterval(this.#countdown);
    };
    this.#countdown = setInterval(tick, 250);
    tick();
  }
}

function dots() {
  return make("span", { class: "dots" }, make("i"), make("i"), make("i"));
}

/** "18 tokens · 62 tokens/s · 0.29 s" */
function figures({ tokens, latency }) {
  const parts = [];
  if (tokens !== null) parts.push(`${tokens} ${tokens === 1 ? "token" : "tokens"}`);
  if (tokens !== null && latency > 0) parts.push(`${speed(tokens / latency)} tokens/s`);
  if (latency !== null) parts.push(`${latency.toFixed(2)} s`);
  return parts.join(" · ");
}

function speed(perSecond) {
  return perSecond < 10 ? perSecond.toFixed(1) : Math.round(perSecond).toString();
}

function details({ prompt_tokens: promptTokens }) {
  if (promptTokens === null) return false;
  return `After a prompt of ${promptTokens} tokens. Time and speed include waiting.`;
}
