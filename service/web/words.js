/**
 * What codes mean, for a person. A code that is not here is shown with its underscores as spaces.
 */

const REASONS = {
  no_book_yet: "no book has come yet",
  stale: "its book is too old",
  outlier: "its prices are far from all others",
  frozen_side: "one side of its book stands still",
  excluded: "left out by the request",
  jump: "its price has jumped; waiting for confirmation",
  disagrees: "the venues contradict each other",
  crossed: "its book is crossed",
  locked: "its best bid equals its best ask",
  no_stable_pair: "no live book to convert its prices through",
  depegged: "the stable pair is too far from 1",
  no_instrument: "it does not trade this symbol",
  no_instruments: "its list of instruments could not be read",
  no_fee: "its fee is not known",
  loop_stalled: "the service stood still for a moment",
  replay_ended: "the recording is over",
  unreachable: "it cannot be reached",
  rate_limited: "it asks us to be slower",
  banned: "it refuses us",
  empty: "a side of its book was empty",
  one_sided: "only one side of its book came",
  bad_number: "its book held something that is no number",
  bad_response: "its answer could not be read",
  bad_message: "its message could not be read",
  bad_checksum: "its book failed its own checksum",
  duplicate_price: "a price stood twice in its book",
  wrong_symbol: "the book was another symbol's",
  out_of_order: "its books came out of order",
  sequence_gap: "a change of its book was missing",
  rest_disagrees: "its stream contradicts its own answers",
  too_large: "its answer was too large",
  timeout: "it did not answer in time",
  no_pong: "its stream fell silent",
  not_supported: "it has no such stream",
};

const WARNINGS = {
  single_venue: "only one venue stands behind this price",
  crossed: "venues cross: one bids more than another asks",
  thin: "the books hold less than you ask for",
  unroutable: "part of it comes in amounts that no venue accepts",
};

const STEPS = {
  mid: "Mid",
  half_spread: "Half spread",
  depth: "Depth",
  conversion: "Conversion",
  fees: "Fees",
  markup: "Markup",
  total: "Total",
};

const RETRY = {
  never: "Change the order before you try again.",
  same_request: "The very same order may be sent again.",
  new_quote: "Take a new quote; the one above is always the latest.",
};

const HAPPENED = {
  not_executed: "Nothing was executed.",
  executed: "It was executed.",
  unknown: "Whether it was executed is not known yet.",
};

const plain = (code) => code.replaceAll("_", " ");

/** @param {string} code A reason for which a venue does not count. */
export const reasonWords = (code) => REASONS[code] ?? (/^http_\d+$/.test(code) ? `it answered with HTTP ${code.slice(5)}` : plain(code));
/** @param {string} code A warning of a quote. */
export const warningWords = (code) => WARNINGS[code] ?? plain(code);
/** @param {string} step A line of the waterfall. */
export const stepWords = (step) => STEPS[step] ?? plain(step);
/** @param {string} retry What a problem says may help. */
export const retryWords = (retry) => RETRY[retry] ?? "";
/** @param {string} state What a problem says has happened. */
export const happenedWords = (state) => HAPPENED[state] ?? "";
/** @param {string} code A code, where nothing better is known. */
export const codeWords = (code) => plain(code).replace(/^./, (first) => first.toUpperCase());

/**
 * Say how long something takes, in its largest fitting unit.
 * @param {number} ms
 */
export function ageWords(ms) {
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1_000).toFixed(1)} s`;
  if (ms < 3_600_000) return `${Math.floor(ms / 60_000)} min`;
  return `${Math.floor(ms / 3_600_000)} h`;
}

/** @param {string} moment RFC 3339; gives the local time of day. */
export const timeWords = (moment) => new Date(moment).toLocaleTimeString("en-GB", { hour12: false });

const SENTENCE = /^[a-z]/;

/** @param {string} detail A problem's detail, as a sentence. */
export function sentence(detail) {
  const begun = SENTENCE.test(detail) ? detail[0].toUpperCase() + detail.slice(1) : detail;
  return /[.!?]$/.test(begun) ? begun : `${begun}.`;
}
