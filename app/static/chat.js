/** The conversation on the page: asks, stops, asks again, and keeps what came. */

import { messagesFor, newAnswer, newConversation, newTurn, titleFor } from "./conversation.js";
import { notify } from "./notice.js";
import { generate } from "./stream.js";
import { TurnView } from "./turn.js";

const SAVE_EVERY_MILLISECONDS = 1000;

/**
 * Fires `change` when it gets busy or idle or shows another conversation, `asked` with the element
 * of the turn to be answered, and `failed` with what a request ended in.
 */
export class Chat extends EventTarget {
  conversation = newConversation();
  #log;
  #history;
  #settings;
  #styles;
  #views = new Map();
  #stopper = null;
  #leaving = false;
  #finished = Promise.resolve();

  constructor({ log, history, settings, styles }) {
    super();
    this.#log = log;
    this.#history = history;
    this.#settings = settings;
    this.#styles = styles;
    addEventListener("pagehide", () => {
      if (this.busy) this.#save();
      this.#leaving = true; // that the connection breaks now is no failure to be kept
    });
    addEventListener("pageshow", () => {
      this.#leaving = false;
    });
  }

  /** Whether an answer is on its way. */
  get busy() {
    return this.#stopper !== null;
  }

  /** Show another conversation; an answer on its way is stopped and kept as far as it came. */
  async open(conversation) {
    await this.stop();
    this.conversation = conversation;
    this.#views.clear();
    this.#log.replaceChildren();
    for (const turn of conversation.turns) this.#show(turn);
    this.#changed();
  }

  /** Ask a new question in the chosen styles. */
  ask(question) {
    const { conversation } = this;
    if (conversation.turns.length === 0) conversation.title = titleFor(question);
    const turn = newTurn(question, this.#styles.chosen);
    conversation.turns.push(turn);
    this.#show(turn);
    return this.#run(turn, turn.answers);
  }

  /** Give up the answers on their way; resolves when the page is at rest. */
  async stop() {
    this.#stopper?.abort();
    await this.#finished;
  }

  async #again(turn, answer) {
    await this.stop();
    Object.assign(answer, newAnswer(answer.style));
    return this.#run(turn, [answer]);
  }

  /** Ask once more, without what was said before. */
  async #forget(turn, answer) {
    await this.stop();
    turn.fresh = true;
    Object.assign(answer, newAnswer(answer.style));
    await this.open(this.conversation);
    return this.#run(turn, [answer]);
  }

  /** Add the answers in the styles that the turn does not have yet. */
  async #compare(turn) {
    await this.stop();
    const present = turn.answers.map(({ style }) => style);
    const added = this.#styles.names.filter((name) => !present.includes(name)).map(newAnswer);
    turn.answers.push(...added);
    for (const answer of added) this.#views.get(turn).add(answer);
    return added.length > 0 ? this.#run(turn, added) : undefined;
  }

  /** Ask another question in a turn's place; the turns after it go, and can be brought back. */
  async #edit(turn, question) {
    await this.stop();
    const { conversation } = this;
    const before = structuredClone(conversation);
    const index = conversation.turns.indexOf(turn);
    const [, ...later] = conversation.turns.splice(index);
    if (index === 0) conversation.title = titleFor(question);
    const edited = newTurn(question, turn.answers.map(({ style }) => style));
    conversation.turns.push({ ...edited, fresh: turn.fresh });
    await this.open(conversation);
    if (later.length > 0) {
      const undo = () => this.open(before).then(() => this.#save());
      notify("The turns after the edited question were removed.", { label: "Undo", run: undo });
    }
    const asked = conversation.turns.at(-1);
    return this.#run(asked, asked.answers);
  }

  #show(turn) {
    const view = new TurnView(turn, {
      again: (of, answer) => this.#again(of, answer),
      forget: (of, answer) => this.#forget(of, answer),
      canForget: (of) => messagesFor(this.conversation, of, null).length > 1,
      compare: (of) => this.#compare(of),
      edit: (of, question) => this.#edit(of, question),
      askForKey: () => this.#settings.open("api_key"),
    });
    this.#views.set(turn, view);
    this.#log.append(view.element);
  }

  /** Answer a turn in all these styles at once. */
  async #run(turn, answers) {
    this.#stopper = new AbortController();
    const { signal } = this.#stopper;
    const saving = setInterval(() => this.#save(), SAVE_EVERY_MILLISECONDS);
    this.#save();
    const view = this.#views.get(turn);
    this.dispatchEvent(new CustomEvent("asked", { detail: view.element }));
    const running = answers.map((answer) => this.#answer(turn, answer, view, signal));
    this.#finished = Promise.all(running).then(() => {
      clearInterval(saving);
      this.#stopper = null;
      this.#save();
      this.#changed();
    });
    this.#changed();
    await this.#finished;
  }

  async #answer(turn, answer, turnView, signal) {
    const view = turnView.view(answer);
    view.begin();
    turnView.compare();
    let failure = null;
    try {
      for await (const { delta, result } of this.#request(turn, answer, signal)) {
        if (result === undefined) answer.response += delta;
        else Object.assign(answer, result, { state: "done" });
        view.grow();
        turnView.compare();
      }
    } catch (error) {
      if (error.name !== "RequestFailed" && error.name !== "AbortError") console.error(error);
      answer.state = error.name === "AbortError" ? "stopped" : "failed";
      failure = error;
    }
    if (answer.state === "failed") {
      answer.problem = failure.message;
      this.dispatchEvent(new CustomEvent("failed", { detail: failure }));
    }
    view.settle(failure);
    turnView.compare();
  }

  #request(turn, answer, signal) {
    const messages = messagesFor(this.conversation, turn, answer.style);
    const style = answer.style === null ? {} : { style: answer.style };
    const body = { messages, ...style, ...this.#settings.overrides };
    return generate(body, { signal, apiKey: this.#settings.apiKey });
  }

  #save() {
    if (this.#leaving) return;
    this.conversation.updated = Date.now();
    this.#history.save(this.conversation);
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}
