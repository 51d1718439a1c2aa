/**
 * Ask the service over HTTP: the same routes, with the same key, that any client uses.
 */

/** A refusal as the service words it (RFC 9457). */
export class Problem extends Error {
  /** @param {object} body problem+json */
  constructor(body, retryAfterS = null) {
    super(body.detail);
    this.body = body;
    this.retryAfterS = retryAfterS;
  }
}

/** No answer of the service came: whether the request arrived is not known. */
export class Unreachable extends Error {}

const PROBLEM = "application/problem+json";

const ANSWER_WITHIN_MS = 10_000;

/**
 * Send a request and give its JSON.
 * @param {string} key
 * @param {string} path
 * @param {{method?: string, body?: object}} [options]
 * @returns {Promise<{body: object, requestId: string|null, replayed: boolean}>}
 * @throws {Problem|Unreachable}
 */
export async function ask(key, path, { method = "GET", body } = {}) {
  let response;
  let answer;
  try {
    response = await fetch(path, {
      method,
      headers: { "X-API-Key": key, ...(body && { "Content-Type": "application/json" }) },
      body: body && JSON.stringify(body),
      cache: "no-store",
      credentials: "omit",
      redirect: "error",
      signal: AbortSignal.timeout(ANSWER_WITHIN_MS),
    });
    answer = await response.json();
  } catch {
    throw new Unreachable("no answer came");
  }
  const refused = (response.headers.get("Content-Type") ?? "").startsWith(PROBLEM);
  if (refused && !response.ok) throw new Problem(answer, Number(response.headers.get("Retry-After")) || null);
  if (refused || !response.ok) throw new Unreachable("an answer came that is not the service's");
  return {
    body: answer,
    requestId: response.headers.get("X-Request-Id"),
    replayed: response.headers.get("Idempotent-Replayed") === "true",
  };
}

const ATTEMPTS_MAX = 6;
const WAIT_MAX_S = 5;
/** With these an order is refused only after its client_order_id was looked up: it is not on record. */
const TOLD_AFTER_LOOKING = [404, 409, 410, 422];
const wait = (ms) => new Promise((done) => setTimeout(done, ms));

/** Send an order once; gives its execution. */
async function sendOnce(key, order) {
  const answer = await ask(key, "/execute", { method: "POST", body: order });
  if (!answer.body?.execution_id) throw new Unreachable("an answer came that is not the service's");
  return answer;
}

/**
 * Execute an order, sent until its outcome is known: the same id stands for the same order, so it is executed once.
 *
 * A refusal that came before anybody looked for the order says nothing of an attempt before it whose answer was lost.
 * @param {string} key
 * @param {object} order With a client_order_id.
 * @param {(attempt: number) => void} onRetry Told before each further attempt.
 */
export async function execute(key, order, onRetry) {
  let lost = false;
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await sendOnce(key, order);
    } catch (error) {
      const refused = error instanceof Problem;
      lost ||= !refused || error.body.execution_state === "unknown";
      if (refused && lost && !TOLD_AFTER_LOOKING.includes(error.body.status)) error.body.execution_state = "unknown";
      const again = error instanceof Unreachable || (refused && error.body.retry === "same_request");
      if (!again || attempt === ATTEMPTS_MAX) throw error;
      const afterS = Math.min(WAIT_MAX_S, error.retryAfterS ?? 0.25 * 2 ** attempt);
      await wait(afterS * 1_000 + Math.random() * 200);
      onRetry(attempt + 1);
    }
  }
}
