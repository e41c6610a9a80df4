/**
 * A conversation as it is kept and exported, in the words of `POST /generate`:
 *
 *   {id, title, created, updated, turns: [{question, fresh, answers: [answer, …]}]}
 *   answer: {style, response, state, problem, tokens, prompt_tokens, latency, finish_reason}
 *
 * A turn with several answers was asked side by side. A `fresh` turn forgets those before it.
 * `state` is running, done, stopped or failed; times are milliseconds since 1970.
 */

const STATES = ["running", "done", "stopped", "failed"];
const TITLE_CHARACTERS = 60;

export function newConversation() {
  const now = Date.now();
  return { id: newId(), title: "New conversation", created: now, updated: now, turns: [] };
}

/** A turn to be answered in each of these styles; null is the server's default style. */
export function newTurn(question, styles) {
  return { question, fresh: false, answers: styles.map(newAnswer) };
}

export function newAnswer(style) {
  const numbers = { tokens: null, prompt_tokens: null, latency: null };
  return { style, response: "", state: "running", problem: "", finish_reason: null, ...numbers };
}

/** What the list of conversations shows for one that begins with this question. */
export function titleFor(question) {
  const line = question.trim().split("\n")[0];
  if (line.length <= TITLE_CHARACTERS) return line;
  return `${line.slice(0, TITLE_CHARACTERS - 1).trimEnd()}…`;
}

/**
 * The messages to send for a turn. Each style sees its own earlier answers where there are any, so
 * that the columns of a comparison stay conversations of their own.
 */
export function messagesFor(conversation, turn, style) {
  const turns = conversation.turns.slice(0, conversation.turns.indexOf(turn) + 1);
  const start = Math.max(0, turns.findLastIndex((candidate) => candidate.fresh));
  const messages = [];
  for (const earlier of turns.slice(start, -1)) {
    const answer = answerToRemember(earlier, style);
    if (answer === undefined) continue; // an unanswered question would break the alternation
    messages.push({ role: "user", content: earlier.question });
    messages.push({ role: "assistant", content: answer.response });
  }
  return [...messages, { role: "user", content: turn.question }];
}

function answerToRemember(turn, style) {
  const usable = turn.answers.filter(
    ({ state, response }) => state !== "failed" && response.trim() !== "",
  );
  return usable.find((answer) => answer.style === style) ?? usable[0];
}

/** A conversation made of what a file or the storage holds; throws an Error that says why not. */
export function readConversation(value) {
  if (value === null || typeof value !== "object" || !Array.isArray(value.turns)) {
    throw new Error("it has no turns");
  }
  const turns = value.turns.map(readTurn);
  const id = /^[a-z0-9-]{1,40}$/.test(value.id) ? value.id : newId();
  const title = isText(value.title) ? value.title : titleFor(turns[0]?.question ?? "Conversation");
  const created = number(value.created) ?? Date.now();
  return { id, title, created, updated: number(value.updated) ?? created, turns };
}

function readTurn(value) {
  if (!isText(value?.question)) throw new Error("a question is not text");
  if (!Array.isArray(value.answers)) throw new Error("a turn has no list of answers");
  const answers = value.answers.map(readAnswer);
  return { question: value.question, fresh: value.fresh === true, answers };
}

function readAnswer(value) {
  if (typeof value?.response !== "string") throw new Error("an answer is not text");
  // Whatever was running when the page was closed is not running any more.
  const state = STATES.includes(value.state) && value.state !== "running" ? value.state : "stopped";
  return {
    style: isText(value.style) ? value.style : null,
    response: value.response,
    state,
    problem: isText(value.problem) ? value.problem : "",
    tokens: number(value.tokens),
    prompt_tokens: number(value.prompt_tokens),
    latency: number(value.latency),
    finish_reason: isText(value.finish_reason) ? value.finish_reason : null,
  };
}

function isText(value) {
  return typeof value === "string" && value !== "";
}

function number(value) {
  return typeof value === "number" && Number.isFinite(value) && value >= 0 ? value : null;
}

function newId() {
  // crypto.randomUUID is missing on plain http
  const parts = crypto.getRandomValues(new Uint32Array(2));
  return `${Date.now().toString(36)}-${[...parts].map((part) => part.toString(36)).join("")}`;
}
