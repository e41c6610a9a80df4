/** Whether the server can answer, asked again and again; `change` tells of every new finding. */

const READY_SECONDS = 30;
const LOADING_SECONDS = 2;
const LONGEST_WAIT_SECONDS = 16;
const LONGEST_ANSWER_MILLISECONDS = 8000;

export class Health extends EventTarget {
  /** asking, unreachable, or the server's own word: ready, loading, stalled, failed, … */
  state = "asking";
  /** The newest body of /health; null before there was any. */
  report = null;
  #timer = null;
  #failures = 0;

  constructor() {
    super();
    document.addEventListener("visibilitychange", () => {
      if (document.visibilityState === "visible") this.check();
    });
  }

  /** Seconds until the next question, while the server cannot be reached. */
  get retrySeconds() {
    return Math.min(2 ** (this.#failures - 1), LONGEST_WAIT_SECONDS);
  }

  /** Ask now. */
  async check() {
    clearTimeout(this.#timer);
    try {
      const signal = AbortSignal.timeout(LONGEST_ANSWER_MILLISECONDS);
      const response = await fetch("/health", { cache: "no-store", signal });
      const report = await response.json();
      if (typeof report?.status !== "string") throw new TypeError("this is no report");
      this.report = report;
      this.state = report.status;
      this.#failures = 0;
    } catch {
      this.state = "unreachable";
      this.#failures += 1;
    }
    this.#askLater();
    this.dispatchEvent(new Event("change"));
  }

  #askLater() {
    let seconds = LOADING_SECONDS;
    if (this.state === "ready") seconds = READY_SECONDS;
    if (this.state === "unreachable") seconds = this.retrySeconds;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      if (document.visibilityState === "visible") this.check(); // else when it becomes visible
    }, seconds * 1000);
  }
}
