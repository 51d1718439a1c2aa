/**
 * What is on record: executions with their realism, and the account.
 */

import { signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";

import * as desk from "./desk.js";
import { VersusQuote } from "./outcome.js";
import { colourOf } from "./palette.js";
import { ageWords, codeWords, timeWords } from "./words.js";
import { Amount, Heads, html, Panel, Venue } from "./ui.js";

/** The id of the execution whose details are open. */
const opened = signal("");

/** The account's executions, newest first. */
export function ExecutionsPanel() {
  const all = desk.executions.value;
  if (!desk.may("account")) {
    return html`<${Panel} name="executions" title="Executions"><${NotAllowed} what="executions" /><//>`;
  }
  return html`<${Panel} name="executions" title="Executions" aside=${html`<p class="note">${desk.executionsProblem.value}</p>`}>
    <div class="scroll" tabindex="0" role="group" aria-label="Executions, newest first">
      <table aria-label="Executions">
        <thead>
          <tr>
            <th scope="col">Time</th>
            <th scope="col">Symbol</th>
            <th scope="col">Side</th>
            <th scope="col" class="number">Filled</th>
            <th scope="col" class="number">All in</th>
            <th scope="col" class="number">Total</th>
            <th scope="col">Status</th>
            <th scope="col" title="share still there after 50 ms, 250 ms and 1 s; how far mid has moved your way after 1, 10 and 60 s">
              Realism
            </th>
          </tr>
        </thead>
        <tbody>
          ${all.map((one) => html`<${ExecutionRow} key=${one.execution_id} one=${one} />`)}
        </tbody>
      </table>
      ${all.length === 0 && html`<p class="empty">Nothing has been executed with this account yet.</p>`}
    </div>
    <${Details} />
  <//>`;
}

function ExecutionRow({ one }) {
  const rejected = one.status === "rejected";
  return html`<tr data-execution=${one.execution_id} data-status=${one.status} onClick=${() => (opened.value = one.execution_id)}>
    <td>
      <button type="button" class="link" aria-label=${`Details of the execution at ${timeWords(one.executed_at)}`}>
        ${timeWords(one.executed_at)}
      </button>
    </td>
    <td>${one.symbol}</td>
    <td class=${one.side}>${one.side}</td>
    <td class="number"><${Amount} value=${rejected ? one.requested_quantity : one.filled_quantity} faintAfter=${8} /></td>
    <td class="number"><${Amount} value=${one.all_in_price} /></td>
    <td class="number"><${Amount} value=${rejected ? null : one.total} /></td>
    <td>
      <span class=${`badge ${one.status}`}>${rejected ? codeWords(one.reject_code) : codeWords(one.status)}</span>
    </td>
    <td><${Realism} one=${one} /></td>
  </tr>`;
}

const percent = (share) => (share === null ? "–" : `${(Number(share) * 100).toFixed(0)} %`);
const moved = (bps) => (bps === null ? "–" : `${Number(bps) > 0 ? "+" : ""}${Number(bps).toFixed(1)}`);

function Realism({ one }) {
  if (one.status === "rejected") return html`<span class="none">–</span>`;
  const { realism } = one;
  if (!realism || realism.pending) return html`<span class="none" title="known after a minute">being watched …</span>`;
  if (realism.survival.every(({ share }) => share === null)) return html`<span class="none">not seen</span>`;
  return html`<span class="realism">
    ${realism.survival.map(({ share }) => percent(share)).join(" · ")}
    <span class="markout">${realism.markout_bps.map(({ bps }) => moved(bps)).join(" · ")} bps</span>
  </span>`;
}

/** One execution, whole. */
function Details() {
  const dialog = useRef(null);
  const one = desk.executions.value.find(({ execution_id }) => execution_id === opened.value);
  useEffect(() => {
    if (one && !dialog.current.open) dialog.current.showModal();
    if (!one && dialog.current.open) dialog.current.close();
  });
  const close = () => (opened.value = "");
  return html`<dialog ref=${dialog} class="details" aria-label="Execution" onClose=${close} onClick=${(event) => event.target === dialog.current && close()}>
    ${one && html`<${DetailsOf} one=${one} close=${close} />`}
  </dialog>`;
}

function DetailsOf({ one, close }) {
  const [base, quote] = one.symbol.split("/");
  const fact = (label, value) => html`<div><dt>${label}</dt><dd>${value}</dd></div>`;
  return html`<div class="inner">
    <header>
      <h2>${codeWords(one.side)} ${one.symbol} <span class=${`badge ${one.status}`}>${codeWords(one.reject_code ?? one.status)}</span></h2>
      <button type="button" onClick=${close}>Close</button>
    </header>
    <dl class="facts">
      ${fact("Filled", html`<${Amount} value=${one.filled_quantity} unit=${base} faintAfter=${8} />`)}
      ${fact("Average", html`<${Amount} value=${one.average_price} />`)}
      ${fact("All in", html`<${Amount} value=${one.all_in_price} />`)}
      ${fact("Versus the quote", html`<${VersusQuote} bps=${one.versus_quote_bps} />`)}
    </dl>
    <table class="costs" aria-label="Costs">
      <tbody>
        ${[
          ["Levels", one.subtotal],
          ["Fees", one.fees],
          ["Markup", one.markup],
          ["Total", one.total],
        ].map(([label, amount]) => html`<tr><th scope="row">${label}</th><td class="number"><${Amount} value=${amount} unit=${quote} /></td></tr>`)}
      </tbody>
    </table>
    ${one.realism && html`<${RealismTable} realism=${one.realism} />`}
    <div class="scroll" tabindex="0" role="group" aria-label="Fills">
      <table aria-label="Fills">
        <${Heads} words=${["Venue"]} numbers=${["Price", "Quantity", "Fee", "Book's age"]} />
        <tbody>
          ${one.fills.map(
            (fill) => html`<tr>
              <th scope="row"><${Venue} name=${fill.venue} colour=${colourOf(fill.venue)} /></th>
              <td class="number"><${Amount} value=${fill.price} /></td>
              <td class="number"><${Amount} value=${fill.quantity} faintAfter=${8} /></td>
              <td class="number"><${Amount} value=${fill.fee} /></td>
              <td class="number">${ageWords(fill.book_age_ms)}</td>
            </tr>`,
          )}
        </tbody>
      </table>
    </div>
    <dl class="ids">
      ${fact("Execution", one.execution_id)} ${fact("Your order", one.client_order_id)} ${fact("At", one.executed_at)}
      ${desk.requestOf(one) && fact("Request", desk.requestOf(one))}
      ${fact("Prices", `${one.market_data}, ${one.execution} execution`)}
    </dl>
  </div>`;
}

function RealismTable({ realism }) {
  if (realism.pending) return html`<p class="note">The real books are watched for a minute after the fill; what they showed stands here then.</p>`;
  const cells = [
    ...realism.survival.map(({ after_ms, share }) => [`Still there after ${ageWords(after_ms)}`, percent(share)]),
    ...realism.markout_bps.map(({ after_s, bps }) => [`Mid moved your way after ${after_s} s`, bps === null ? "–" : `${bps} bps`]),
  ];
  return html`<dl class="facts realism-facts">${cells.map(([label, value]) => html`<div><dt>${label}</dt><dd>${value}</dd></div>`)}</dl>`;
}

const NotAllowed = ({ what }) =>
  html`<p class="empty">This key may not see ${what}: it lacks the scope “account”.</p>`;

/** Balances and positions. */
export function AccountPanel() {
  const account = desk.account.value;
  const allowed = desk.may("account");
  const aside = html`<p class="note">${desk.accountProblem.value || desk.session.value?.account}</p>`;
  return html`<${Panel} name="account" title="Account" aside=${aside}>
    ${!allowed && html`<${NotAllowed} what="the account" />`}
    ${allowed && html`<div class="scroll" tabindex="0" role="group" aria-label="Balances and positions"><${Balances} account=${account} /><${Positions} account=${account} /></div>`}
  <//>`;
}

function Balances({ account }) {
  return html`<table aria-label="Balances">
    <${Heads} words=${["Asset"]} numbers=${["Available", "Held", "Total"]} />
    <tbody>
      ${Object.entries(account?.balances ?? {}).map(
        ([asset, { available, held, total }]) => html`<tr data-asset=${asset}>
          <th scope="row">${asset}</th>
          <td class="number"><${Amount} value=${available} /></td>
          <td class="number"><${Amount} value=${held} /></td>
          <td class="number"><${Amount} value=${total} /></td>
        </tr>`,
      )}
    </tbody>
  </table>`;
}

function Positions({ account }) {
  const positions = account?.positions ?? [];
  return html`<table aria-label="Positions" class="positions">
    <${Heads} words=${["Position"]} numbers=${["Quantity", "Average cost", "Realised", "Unrealised"]} />
    <tbody>
      ${positions.map(
        ({ symbol, quantity, average_cost, realised_pnl, unrealised_pnl }) => html`<tr data-symbol=${symbol}>
          <th scope="row">${symbol}</th>
          <td class="number"><${Amount} value=${quantity} faintAfter=${8} /></td>
          <td class="number"><${Amount} value=${average_cost} /></td>
          <td class="number"><${Gain} value=${realised_pnl} /></td>
          <td class="number"><${Gain} value=${unrealised_pnl} /></td>
        </tr>`,
      )}
      ${positions.length === 0 && html`<tr><td colspan="5" class="empty">No positions.</td></tr>`}
    </tbody>
  </table>`;
}

function Gain({ value }) {
  const kind = !value || value === "0" ? "" : value.startsWith("-") ? "loss" : "gain";
  return html`<span class=${kind}><${Amount} value=${value} plus /></span>`;
}
