// Asks the server for rows and sends it edits: one after the other, and again where it does not answer.

const RETRY_MS = 1000;
const KEPT_ALIVE = 20_000;

export class Refused extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

async function answer(response) {
  const value = await response.json().catch(() => ({}));
  if (!response.ok) throw new Refused(value.error?.message ?? value.error ?? `the server answered ${response.status}`, response.status);
  return value;
}

export function query(parameters) {
  const given = Object.entries(parameters).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  return new URLSearchParams(given).toString();
}

export async function get(path, parameters = {}) {
  const response = await fetch(`/rows/${path}?${query(parameters)}`).catch(() => {
    throw new Refused("the server does not answer; start vtg.app again with the same files, and go on here", 0);
  });
  return answer(response);
}

/** Edits in the order they were made, each with the revision that the one before led to. */
export class Edits {
  /** `onWaiting()`: the server is away; `onCount()`: `waiting`, the edits that are not answered, is another number. */
  constructor({ onWaiting, onCount }) {
    this.onWaiting = onWaiting;
    this.onCount = onCount;
    this.revision = 0;
    this.waiting = 0;
    this.last = Promise.resolve();
  }

  /** Posts `body` with the revision once all before is done; throws Refused. */
  send(path, body) {
    this.#count(1);
    const sent = this.last.then(() => this.#post(path, { ...body, revision: this.revision })).finally(() => this.#count(-1));
    // What is refused must not keep the next from being sent.
    this.last = sent.catch(() => {});
    return sent;
  }

  /** Rows of a revision were read: the next edit is of those, unless they come later than an edit's own answer. */
  saw(revision) {
    this.revision = Math.max(this.revision, revision);
  }

  #count(by) {
    this.waiting += by;
    this.onCount();
  }

  async #post(path, body) {
    const text = JSON.stringify(body);
    for (;;) {
      let response = null;
      try {
        response = await fetch(`/rows/${path}`, {
          method: "POST",
          headers: { "Content-Type": "application/json" },
          body: text,
          // Sent to its end although the page is left; browsers allow that for short ones.
          keepalive: text.length < KEPT_ALIVE,
        });
      } catch {
        // The server is away: whatever was edited waits for it, and nothing is lost.
        this.onWaiting();
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
        continue;
      }
      const value = await answer(response);
      this.saw((value.state ?? value).revision);
      return value;
    }
  }
}
