/** `POST /generate` as a stream: pieces of text as they come, then the whole result. */

/** The server, or the way to it, failed; the message is for people. */
export class RequestFailed extends Error {
  /** `status` is 0 when there was no answer at all; `retryAfterSeconds` is null if unknown. */
  constructor(message, { status = 0, retryAfterSeconds = null } = {}) {
    super(message);
    this.name = "RequestFailed";
    this.status = status;
    this.retryAfterSeconds = retryAfterSeconds;
  }
}

/**
 * Yields {delta} for each piece, at last {result}: response, style, tokens, prompt_tokens, latency
 * and finish_reason. Throws RequestFailed, or the browser's AbortError after `signal` was aborted.
 */
export async function* generate(body, { signal, apiKey }) {
  const response = await post({ ...body, stream: true }, signal, apiKey);
  for await (const { name, data } of readEvents(response.body)) {
    const content = parse(data);
    if (name === "error") throw failure(content, 200, null);
    if (name === "done") {
      yield { result: content };
      return;
    }
    if (typeof content?.delta === "string") yield { delta: content.delta };
  }
  throw new RequestFailed("The server ended the connection before the answer was complete.");
}

async function post(body, signal, apiKey) {
  const headers = { "Content-Type": "application/json", Accept: "text/event-stream" };
  if (apiKey) headers.Authorization = `Bearer ${apiKey}`;
  let response;
  try {
    const options = { method: "POST", headers, body: JSON.stringify(body), signal };
    response = await fetch("/generate", { ...options, cache: "no-store", redirect: "error" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new RequestFailed("The server cannot be reached.");
  }
  if (response.ok) return response;
  const wait = Number.parseInt(response.headers.get("Retry-After") ?? "", 10);
  const problem = parse(await response.text().catch(() => ""));
  throw failure(problem, response.status, Number.isFinite(wait) ? wait : null);
}

/** The named events of a body of server-sent events; comments are skipped. */
export async function* readEvents(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  while (true) {
    const { done, value } = await readPart(reader);
    if (done) return;
    buffer += value;
    const blocks = buffer.split(/\r?\n\r?\n/);
    buffer = blocks.pop();
    for (const event of blocks.map(parseEvent)) if (event.data !== "") yield event;
  }
}

async function readPart(reader) {
  try {
    return await reader.read();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new RequestFailed("The connection to the server broke off.");
  }
}

function parseEvent(block) {
  const event = { name: "message", data: "" };
  const data = [];
  for (const line of block.split(/\r?\n/)) {
    const [, field, value] = /^([^:]*):? ?(.*)$/.exec(line);
    if (field === "event") event.name = value;
    if (field === "data") data.push(value);
  }
  return { ...event, data: data.join("\n") };
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null; // a proxy's HTML page, or nothing
  }
}

function failure(problem, status, retryAfterSeconds) {
  const words = problem?.detail || problem?.title || `The server answered with status ${status}.`;
  const real = Number.isInteger(problem?.status) ? problem.status : status;
  return new RequestFailed(String(words), { status: real, retryAfterSeconds });
}
