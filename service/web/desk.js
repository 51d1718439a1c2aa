/**
 * What the page knows, as signals, and what it can do: everything goes through the public API with the person's key.
 *
 * The key lives in this tab's session storage and nowhere else.
 */

import { batch, computed, signal } from "@preact/signals";

import { ask, execute, Problem } from "./api.js";
import { Stream } from "./stream.js";

const KEY = "iob.key";
const KEPT_MAX = 100;
const PAGE = 20;
const ACCOUNT_EVERY_MS = 5_000;
const REALISM_EVERY_MS = 5_000;
const PENDING_AT_ONCE = 3;
const ASK_AGAIN_MS = 1_000;
const REST_MS = 600;
/** How many levels a side the ladder may show. */
export const DEPTHS = [10, 25, 50, 100, 200];

export const key = signal(sessionStorage.getItem(KEY) ?? "");
/** Why a key was turned away; shown at the key form. */
export const turnedAway = signal("");
export const session = signal(null);
export const connection = signal({ state: "connecting", detail: "" });
export const symbols = signal([]);
export const symbol = signal("");
export const view = signal("net");
export const depth = signal(50);
/** The latest book, or why there is none. */
export const book = signal(null);
export const bookProblem = signal(null);
export const venues = signal([]);
/** What is asked for in the ticket. */
export const order = signal({ side: "buy", quantity: "", total: "", tolerance: "0" });
/** The latest quote with the moment at which it came, or why there is none. */
export const quote = signal(null);
export const quoteProblem = signal(null);
/** The quote's time is over, and no other has come. */
export const expired = signal(false);
/** An order has just been answered: the second half of a double click is not another one. */
export const resting = signal(false);
/** What became of the latest order: {state: "sending" | "done" | "refused" | "unknown", …}. */
export const outcome = signal(null);
export const executions = signal([]);
export const executionsProblem = signal("");
export const account = signal(null);
export const accountProblem = signal("");

/** What the service says of the prices: live, simulated or replay; empty until it has said so. */
export const marketData = signal("");
/** The symbol's entry of /v1/symbols. */
export const instrument = computed(() => symbols.value.find((one) => one.symbol === symbol.value) ?? null);
export const assets = computed(() => ({
  base: instrument.value?.base_asset ?? "",
  quote: instrument.value?.quote_asset ?? "",
}));

let stream = null;

/** When the latest message came, by performance.now(); null before the first. */
export const heardAt = () => stream?.heardAt ?? null;

/** @param {string} scope */
export const may = (scope) => session.value?.scopes.includes(scope) ?? false;

/**
 * Open the desk with a key.
 * @param {string} text
 */
export function open(text) {
  sessionStorage.setItem(KEY, text);
  batch(() => {
    key.value = text;
    turnedAway.value = "";
    connection.value = { state: "connecting", detail: "" };
  });
  start();
}

/** Go by the key that this tab has, if it has one. */
export function start() {
  if (!key.value) return;
  stream?.close();
  stream = new Stream(key.value, {
    onStatus: (status) => (connection.value = status),
    onSession: begin,
    onRefused: turnAway,
  });
}

/** Forget the key and all that was seen with it. */
export function forget() {
  turnAway("");
}

function turnAway(detail) {
  sessionStorage.removeItem(KEY);
  stream?.close();
  stream = null;
  batch(() => {
    key.value = "";
    turnedAway.value = detail;
    session.value = null;
    for (const one of [book, bookProblem, quote, quoteProblem, outcome, account]) one.value = null;
    for (const one of [symbols, venues, executions]) one.value = [];
    marketData.value = "";
    symbol.value = "";
    connection.value = { state: detail ? "refused" : "connecting", detail };
  });
}

/** The stream has authenticated, for the first time or again: symbols may have changed meanwhile. */
async function begin(told) {
  session.value = told;
  const answer = await untilTold(() => ask(key.value, "/v1/symbols"));
  if (!answer) return;
  const served = answer.body.symbols;
  const first = symbols.value.length === 0;
  symbols.value = served;
  if (first) followAlways();
  if (!served.some((one) => one.symbol === symbol.value)) choose(hashSymbol() || served[0]?.symbol || "");
  refreshAccount();
  loadExecutions();
}

/** Ask until there is an answer; gives null once the stream it is for is another one, or none. */
async function untilTold(asking) {
  for (const mine = stream; mine && mine === stream; ) {
    const answer = await tell(asking, () => {});
    if (mine !== stream) return null;
    if (answer) return answer;
    await new Promise((done) => setTimeout(done, ASK_AGAIN_MS));
  }
  return null;
}

function followAlways() {
  stream.subscribe("venues", { channel: "venues" }, (data) => (venues.value = data.venues), () => {});
  if (may("account")) {
    const failed = (problem) => (executionsProblem.value = problem.detail);
    stream.subscribe("executions", { channel: "executions" }, addExecution, failed, true);
  }
}

function hashSymbol() {
  const named = decodeURIComponent(location.hash.slice(1));
  return symbols.value.some((one) => one.symbol === named) ? named : "";
}

window.addEventListener("hashchange", () => hashSymbol() && choose(hashSymbol()));

/**
 * Look at a symbol.
 * @param {string} named
 */
export function choose(named) {
  if (!named || named === symbol.value) return;
  asked += 1;
  batch(() => {
    symbol.value = named;
    for (const one of [book, bookProblem, quote, quoteProblem, outcome]) one.value = null;
  });
  history.replaceState(null, "", `#${named}`);
  followBook();
  followQuote();
}

/** Show prices with the venues' fees ("net") or without ("gross"). */
export function look(newView, newDepth) {
  batch(() => {
    view.value = newView;
    depth.value = newDepth;
  });
  followBook();
}

function followBook() {
  stream.subscribe(
    "book",
    { channel: "book", symbol: symbol.value, depth: depth.value, view: view.value },
    (data) =>
      batch(() => {
        book.value = data;
        bookProblem.value = null;
        marketData.value = data.market_data;
      }),
    (problem) =>
      batch(() => {
        book.value = null;
        bookProblem.value = problem;
      }),
  );
}

/** Change what the ticket asks for; the price follows. */
export function change(fields) {
  order.value = { ...order.value, ...fields };
  if ("tolerance" in fields) return;
  asked += 1;
  quote.value = null; // What is no longer asked for must not be executed.
  if (outcome.value?.state !== "sending") outcome.value = null;
  clearTimeout(followSoon);
  followSoon = setTimeout(followQuote, 150);
}
let followSoon = 0;
/** Counts questions: what answers an older one is passed over. */
let asked = 0;

/** Ask for the price of what the ticket says, at once. */
export function followQuote() {
  clearTimeout(followSoon);
  const { side, quantity, total } = order.value;
  batch(() => {
    if (!quantity && !total) quote.value = null;
    quoteProblem.value = null;
  });
  if (!stream || !symbol.value) return;
  if (!quantity && !total) {
    stream.unsubscribe("ticket");
    return;
  }
  const amount = quantity ? { quantity } : { total };
  const mine = asked;
  stream.subscribe(
    "ticket",
    { channel: "quote", symbol: symbol.value, side, ...amount },
    (data) =>
      mine === asked &&
      batch(() => {
        quote.value = { data, receivedAt: performance.now() };
        quoteProblem.value = null;
        marketData.value = data.market_data;
      }),
    (problem) =>
      mine === asked &&
      batch(() => {
        quote.value = null;
        quoteProblem.value = problem;
      }),
  );
}

/** Tell whether the quote on the ticket can be executed at this moment. */
export const executable = () =>
  may("execute") &&
  connection.value.state === "live" &&
  outcome.value?.state !== "sending" &&
  !resting.value &&
  quote.value !== null &&
  !expired.value &&
  remainingMs(quote.value) > 0;

/** Give how long a quote is good for. */
export const remainingMs = ({ data, receivedAt }) => data.expires_in_ms - (performance.now() - receivedAt);

/** Execute the quote that the ticket shows. */
export function executeShown() {
  if (!executable()) return;
  const { side, tolerance } = order.value;
  const { data } = quote.value;
  send({
    quote_id: data.quote_id,
    side,
    client_order_id: newId(),
    ...(tolerance && tolerance !== "0" && { tolerance_bps: tolerance }),
  });
}

/** Make an id; crypto.randomUUID is not there by plain http and another name than localhost. */
function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Send an order whose outcome is not known again; the same id executes it once. */
export function sendAgain() {
  if (outcome.value?.state === "unknown") send(outcome.value.order);
}

async function send(sent) {
  outcome.value = { state: "sending", order: sent, attempt: 1 };
  const again = (attempt) => (outcome.value = { state: "sending", order: sent, attempt });
  try {
    const { body, requestId, replayed } = await execute(key.value, sent, again);
    remember(body.execution_id, requestId);
    outcome.value = { state: "done", order: sent, execution: body, requestId, replayed };
  } catch (error) {
    if (!(error instanceof Problem)) outcome.value = { state: "unknown", order: sent, problem: null };
    else if (error.body.code === "unauthenticated") turnAway(error.body.detail);
    else if (error.body.execution_state === "unknown") outcome.value = { state: "unknown", order: sent, problem: error.body };
    else {
      remember(error.body.execution_id, error.body.request_id);
      outcome.value = { state: "refused", order: sent, problem: error.body };
    }
  }
  resting.value = true;
  setTimeout(() => (resting.value = false), REST_MS);
  refreshAccount();
}

/** Under which request of this tab an execution came on record, where that is known. */
export const requestOf = ({ execution_id, request_id }) => request_id ?? requests.get(execution_id) ?? null;
const requests = new Map();

function remember(executionId, requestId) {
  if (!executionId || !requestId) return;
  requests.set(executionId, requestId);
  if (requests.size > KEPT_MAX) requests.delete(requests.keys().next().value);
}

/** Ask, and turn the person away where the key is no longer good. */
async function tell(asking, onProblem) {
  try {
    const answer = await asking();
    onProblem("");
    return answer;
  } catch (error) {
    if (error instanceof Problem && error.body.code === "unauthenticated") turnAway(error.body.detail);
    else onProblem(error.message);
    return null;
  }
}

/** Look at the account again. */
export async function refreshAccount() {
  if (!may("account")) return;
  const answer = await tell(() => ask(key.value, "/v1/account"), (detail) => (accountProblem.value = detail));
  if (answer && session.value) account.value = answer.body;
}

async function loadExecutions() {
  if (!may("account")) return;
  const asking = () => ask(key.value, `/v1/executions?limit=${PAGE}`);
  const answer = await tell(asking, (detail) => (executionsProblem.value = detail));
  if (answer && session.value) keep(answer.body.executions);
}

function addExecution(execution) {
  keep([execution]);
  refreshAccount();
}

/** Take executions over, newest first; what is told of one later holds more of it. */
function keep(found) {
  const known = new Map(executions.value.map((one) => [one.execution_id, one]));
  for (const one of found) {
    const before = known.get(one.execution_id);
    if (!before || !one.realism?.pending) known.set(one.execution_id, one);
  }
  const all = [...known.values()].sort((one, other) => (one.executed_at < other.executed_at ? 1 : -1));
  executions.value = all.slice(0, KEPT_MAX);
}

/** See whether what the books showed after fills is known by now; the oldest are first. */
async function lookAtFills() {
  const pending = executions.value.filter(({ status, realism }) => status !== "rejected" && (realism?.pending ?? true));
  for (const { execution_id } of pending.slice(-PENDING_AT_ONCE)) {
    const answer = await tell(() => ask(key.value, `/v1/executions/${execution_id}`), () => {});
    if (!answer || !session.value) return;
    if (!answer.body.realism.pending) keep([answer.body]);
  }
}

const visible = () => document.visibilityState === "visible" && session.value && connection.value.state === "live";

setInterval(() => visible() && refreshAccount(), ACCOUNT_EVERY_MS);
setInterval(() => visible() && lookAtFills(), REALISM_EVERY_MS);
document.addEventListener("visibilitychange", () => visible() && refreshAccount());
