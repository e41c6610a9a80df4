/** One question on the page, with its answers beneath it or side by side. */

import { AnswerView } from "./answer.js";
import { copyWith } from "./clipboard.js";
import { iconButton, make } from "./element.js";

const FRESH = "Earlier turns are left out from here on";

export class TurnView {
  #turn;
  #actions;
  #question = make("div", { class: "question" });
  #answers = make("div", { class: "answers" });
  #views = new Map();

  /** `actions` has those of AnswerView, each with the turn before it, and edit(turn, question). */
  constructor(turn, actions) {
    this.#turn = turn;
    this.#actions = actions;
    const parts = [this.#question, this.#answers];
    if (turn.fresh) parts.unshift(make("p", { class: "divider" }, FRESH));
    this.element = make("div", { class: "turn" }, ...parts);
    this.#showQuestion();
    for (const answer of turn.answers) this.add(answer);
  }

  /** The view of one of the turn's answers. */
  view(answer) {
    return this.#views.get(answer);
  }

  /** Show one more answer. */
  add(answer) {
    const turn = this.#turn;
    const view = new AnswerView(answer, {
      again: (one) => this.#actions.again(turn, one),
      forget: (one) => this.#actions.forget(turn, one),
      canForget: () => this.#actions.canForget(turn),
      compare: () => this.#actions.compare(turn),
      askForKey: () => this.#actions.askForKey(),
    });
    this.#views.set(answer, view);
    this.#answers.append(view.element);
    this.compare();
  }

  /** Draw how long the answers are beside each other. */
  compare() {
    const { answers } = this.#turn;
    const several = answers.length > 1;
    this.element.classList.toggle("side-by-side", several);
    const longest = Math.max(...answers.map(({ response }) => response.length));
    for (const view of this.#views.values()) view.compareWith(several ? longest : null);
  }

  #showQuestion() {
    const { question } = this.#turn;
    const copy = iconButton("copy", "Copy the question", () => copyWith(copy, question));
    const edit = iconButton("edit", "Edit the question", () => this.#showEditor());
    this.#question.replaceChildren(
      make("div", { class: "question-actions" }, edit, copy),
      make("p", { class: "question-text" }, question),
    );
  }

  #showEditor() {
    const attributes = { class: "question-editor", "aria-label": "Edit the question", rows: "3" };
    const field = make("textarea", attributes);
    field.value = this.#turn.question;
    const cancel = () => {
      this.#showQuestion();
      this.#question.querySelector("button").focus();
    };
    const send = () => {
      const question = field.value.trim();
      if (question !== "") this.#actions.edit(this.#turn, question);
    };
    field.addEventListener("keydown", (event) => {
      if (event.key === "Escape") {
        event.stopPropagation(); // Escape leaves the editor, and stops no answer
        cancel();
      }
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        send();
      }
    });
    const button = (text, run, name = "") =>
      make("button", { type: "button", class: `small-button ${name}`, onclick: run }, text);
    const buttons = [button("Cancel", cancel), button("Ask again", send, "strong")];
    this.#question.replaceChildren(field, make("div", { class: "editor-actions" }, ...buttons));
    field.focus();
    field.setSelectionRange(field.value.length, field.value.length);
  }
}
