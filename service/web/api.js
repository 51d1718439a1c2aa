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

/** No answer came: whether the request arrived is not known. */
export class Unreachable extends Error {}

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
  if (!response.ok) throw new Problem(answer, Number(response.headers.get("Retry-After")) || null);
  return {
    body: answer,
    requestId: response.headers.get("X-Request-Id"),
    replayed: response.headers.get("Idempotent-Replayed") === "true",
  };
}

const ATTEMPTS_MAX = 6;
const wait = (ms) => new Promise((done) => setTimeout(done, ms));

/**
 * Execute an order, sent until its outcome is known: the same id stands for the same order, so it is executed once.
 * @param {string} key
 * @param {object} order With a client_order_id.
 * @param {(attempt: number) => void} onRetry Told before each further attempt.
 */
export async function execute(key, order, onRetry) {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await ask(key, "/execute", { method: "POST", body: order });
    } catch (error) {
      const again =
        error instanceof Unreachable || (error instanceof Problem && error.body.retry === "same_request");
      if (!again || attempt === ATTEMPTS_MAX) throw error;
      const afterS = error.retryAfterS ?? 0.25 * 2 ** attempt;
      await wait(afterS * 1_000 + Math.random() * 200);
      onRetry(attempt + 1);
    }
  }
}
