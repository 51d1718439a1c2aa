/**
 * What the page knows, as signals, and what it can do: everything goes through the public API with the person's key.
 *
 * The key lives in this tab's session storage and nowhere else.
 */

import { batch, computed, signal } from "@preact/signals";

import { ask, execute, Problem } from "./api.js";
import { Kept } from "./kept.js";
import { Stream } from "./stream.js";

const kept = new Kept(() => sessionStorage, "iob.key");
const KEPT_MAX = 100;
const PAGE = 20;
const ACCOUNT_EVERY_MS = 5_000;
const REALISM_EVERY_MS = 5_000;
const PENDING_AT_ONCE = 3;
const ASK_AGAIN_MS = 1_000;
const REST_MS = 600;
const NO_LONGER = "the key is no longer in force";
/** How many levels a side the ladder may show. */
export const DEPTHS = [10, 25, 50, 100, 200];

export const key = signal(kept.get() ?? "");
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
const EMPTY = { side: "buy", quantity: "", total: "", tolerance: "0" };
export const order = signal(EMPTY);
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
  kept.set(text);
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
  kept.set(null);
  stream?.close();
  stream = null;
  asked += 1;
  clearTimeout(followSoon);
  requests.clear();
  batch(() => {
    order.value = EMPTY;
    resting.value = false;
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
  quote.value = null; // What was quoted before may be older than it looks: the machine may have slept.
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
    if (answer || mine !== stream) return answer;
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
  const written = location.hash.slice(1);
  const found = symbols.value.find((one) => one.symbol === written || encodeURIComponent(one.symbol) === written);
  return found?.symbol ?? "";
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
    for (const one of [book, bookProblem, quote, quoteProblem]) one.value = null;
    if (!isOpen(outcome.value)) outcome.value = null;
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

/** Tell whether an order is on its way, or may be on record without our knowing: it is not forgotten for another one. */
const isOpen = (one) => one?.state === "sending" || one?.state === "unknown";

/** Change what the ticket asks for; the price follows. */
export function change(fields) {
  order.value = { ...order.value, ...fields };
  if ("tolerance" in fields) return;
  asked += 1;
  quote.value = null; // What is no longer asked for must not be executed.
  if (!isOpen(outcome.value)) outcome.value = null;
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
    (data, receivedAt) =>
      mine === asked &&
      batch(() => {
        quote.value = { data, receivedAt };
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
  !isOpen(outcome.value) &&
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

/** Let an order be whose outcome is not known: executions tell whether it is on record. */
export function setAside() {
  if (outcome.value?.state === "unknown") outcome.value = null;
}

async function send(sent) {
  const mine = stream;
  outcome.value = { state: "sending", order: sent, attempt: 1 };
  const again = (attempt) => {
    if (mine === stream) outcome.value = { state: "sending", order: sent, attempt };
  };
  const became = await outcomeOf(sent, again);
  if (mine !== stream) return; // Somebody else may be looking by now.
  if (became.problem?.code === "unauthenticated") {
    turnAway(NO_LONGER);
    return;
  }
  const { execution_id, request_id } = became.execution ?? became.problem ?? {};
  remember(execution_id, became.requestId ?? request_id);
  outcome.value = became;
  if (became.state === "unknown") settle(sent);
  resting.value = true;
  setTimeout(() => (resting.value = false), REST_MS);
  refreshAccount();
}

/** Execute an order; gives what is to be said of it. */
async function outcomeOf(sent, again) {
  try {
    const { body, requestId, replayed } = await execute(key.value, sent, again);
    return { state: "done", order: sent, execution: body, requestId, replayed };
  } catch (error) {
    const problem = error instanceof Problem ? error.body : null;
    return { state: problem && problem.execution_state !== "unknown" ? "refused" : "unknown", order: sent, problem };
  }
}

/** Under which request of this tab an execution came on record, where that is known. */
export const requestOf = ({ execution_id, request_id }) => request_id ?? requests.get(execution_id) ?? null;
const requests = new Map();

function remember(executionId, requestId) {
  if (!executionId || !requestId) return;
  requests.set(executionId, requestId);
  if (requests.size > KEPT_MAX) requests.delete(requests.keys().next().value);
}

/** Ask, and turn the person away where the key is no longer good; gives null where another one has come meanwhile. */
async function tell(asking, onProblem) {
  const mine = stream;
  try {
    const answer = await asking();
    if (mine !== stream) return null;
    onProblem("");
    return answer;
  } catch (error) {
    if (mine !== stream) return null;
    if (error instanceof Problem && error.body.code === "unauthenticated") turnAway(NO_LONGER);
    else onProblem(error.message);
    return null;
  }
}

/** Look at the account again. */
export async function refreshAccount() {
  if (!may("account")) return;
  const answer = await tell(() => ask(key.value, "/v1/account"), (detail) => (accountProblem.value = detail));
  if (answer) account.value = answer.body;
}

async function loadExecutions() {
  if (!may("account")) return;
  const asking = () => ask(key.value, `/v1/executions?limit=${PAGE}`);
  const answer = await tell(asking, (detail) => (executionsProblem.value = detail));
  if (answer) keep(answer.body.executions);
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
  if (outcome.value?.state === "unknown") settle(outcome.value.order);
}

/** An order whose outcome was not known is on record, if executions have it. */
function settle(sent) {
  const found = executions.value.find(({ client_order_id }) => client_order_id === sent.client_order_id);
  if (found && found.status !== "rejected") outcome.value = { state: "done", order: sent, execution: found };
}

/** See whether what the books showed after fills is known by now; the oldest are first. */
async function lookAtFills() {
  const pending = executions.value.filter(({ status, realism }) => status !== "rejected" && (realism?.pending ?? true));
  for (const { execution_id } of pending.slice(-PENDING_AT_ONCE)) {
    const answer = await tell(() => ask(key.value, `/v1/executions/${execution_id}`), () => {});
    if (!answer) return;
    if (!answer.body.realism.pending) keep([answer.body]);
  }
}

const visible = () => document.visibilityState === "visible" && session.value && connection.value.state === "live";

setInterval(() => visible() && refreshAccount(), ACCOUNT_EVERY_MS);
setInterval(() => visible() && lookAtFills(), REALISM_EVERY_MS);
document.addEventListener("visibilitychange", () => visible() && refreshAccount());
