/**
 * The waterfall as a picture: from mid to the total, each step a bar that begins where the one before it ended.
 */

import { difference, signed, text, units } from "./decimal.js";
import { stepWords } from "./words.js";
import { Amount, html } from "./ui.js";

const STEPS = ["mid", "half_spread", "depth", "conversion", "fees", "markup", "total"];

/** Where each bar begins and ends, as shares of the picture's width. */
function bars(lines) {
  let at = 0;
  const spans = lines.map(({ step, bps }) => {
    if (step === "mid") return [0, 0];
    if (step === "total") return [0, at];
    const begun = at;
    at += Number(bps);
    return [begun, at];
  });
  const low = Math.min(0, ...spans.flat());
  const high = Math.max(0, ...spans.flat());
  const size = high - low || 1;
  return spans.map(([from, to]) => [(Math.min(from, to) - low) / size, Math.abs(to - from) / size, (0 - low) / size]);
}

/** @param {{side: object|null, asset: string}} props A side of a quote. */
export function Waterfall({ side, asset }) {
  const lines = side?.waterfall ?? STEPS.map((step) => ({ step, amount: null, bps: null }));
  const spans = side ? bars(lines) : lines.map(() => [0, 0, 0]);
  const buys = side ? side.pays === asset : true;
  return html`<figure class="waterfall" aria-label="Waterfall">
    <table>
      <caption class="unseen">From mid to the total</caption>
      <colgroup><col class="step" /><col /><col class="money" /><col class="bps" /></colgroup>
      <thead class="unseen">
        <tr>
          <th scope="col">Step</th>
          <th scope="col">Picture</th>
          <th scope="col">Amount in ${asset}</th>
          <th scope="col">Basis points</th>
        </tr>
      </thead>
      <tbody>
        ${lines.map(({ step, amount, bps }, place) => {
          const [left, width, zero] = spans[place];
          const end = step === "mid" || step === "total";
          const none = bps === null || bps === "0";
          const worse = !none && bps.startsWith("-") !== buys;
          return html`<tr class=${`${step} ${end ? "end" : none ? "nothing" : worse ? "worse" : "better"}`} data-step=${step}>
            <th scope="row">${stepWords(step)}</th>
            <td class="picture" aria-hidden="true">
              <i class="zero" style=${{ left: `${zero * 100}%` }}></i>
              <i class="span" style=${{ left: `${left * 100}%`, width: `${width * 100}%` }}></i>
            </td>
            <td class="number"><${Amount} value=${amount} plus=${!end} /></td>
            <td class="number"><${Amount} value=${bps} plus unit="bps" faintAfter=${4} /></td>
          </tr>`;
        })}
      </tbody>
    </table>
    <figcaption>${side ? caption(side, asset, buys) : "Each step from mid to the total, once there is a quote."}</figcaption>
  </figure>`;
}

function caption(side, asset, buys) {
  const [mid, ...rest] = side.waterfall;
  const total = rest.pop();
  const sum = rest.reduce((sum, { amount }) => sum + units(amount), 0n);
  const over = signed(text(sum));
  const whole = text(units(mid.amount) + sum) === total.amount ? "the steps add up exactly" : `total ${difference(total.amount, mid.amount)}`;
  return `${over} ${asset} ${buys ? "on top of" : "against"} mid; ${whole}.`;
}
