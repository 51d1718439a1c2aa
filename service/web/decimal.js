/**
 * Exact sums of amounts, which arrive as decimal texts and stay texts: money never passes through a float.
 */

const SCALE = 18;
const ONE = 10n ** BigInt(SCALE);

/**
 * Read a decimal text as a whole number of 10**-18; what stands beyond that is cut off.
 * @param {string} text
 * @returns {bigint}
 */
export function units(text) {
  const negative = text.charCodeAt(0) === 45;
  const point = text.indexOf(".");
  const whole = point < 0 ? text.slice(negative ? 1 : 0) : text.slice(negative ? 1 : 0, point);
  const part = point < 0 ? "" : text.slice(point + 1, point + 1 + SCALE);
  const value = BigInt(whole + part.padEnd(SCALE, "0"));
  return negative ? -value : value;
}

/**
 * Write a whole number of 10**-18 as a decimal text, without zeros at its end.
 * @param {bigint} value
 * @returns {string}
 */
export function text(value) {
  const size = value < 0n ? -value : value;
  const part = (size % ONE).toString().padStart(SCALE, "0").replace(/0+$/, "");
  return `${value < 0n ? "-" : ""}${size / ONE}${part ? `.${part}` : ""}`;
}

/**
 * Give the exact difference of two decimal texts, as a text.
 * @param {string} one
 * @param {string} less
 */
export const difference = (one, less) => text(units(one) - units(less));

/**
 * Give how far *ask* is above *bid* in basis points of their middle, to two decimals, as a text.
 * @param {bigint} bid
 * @param {bigint} ask
 */
export function spreadBps(bid, ask) {
  const twiceMid = bid + ask;
  if (twiceMid === 0n) return "0";
  const hundredths = ((ask - bid) * 2n * 1_000_000n) / twiceMid;
  return text(hundredths * (ONE / 100n));
}

/**
 * Put a plus before what is positive.
 * @param {string} amount
 */
export const signed = (amount) => (amount.startsWith("-") || /^0(\.0*)?$/.test(amount) ? amount : `+${amount}`);
