/**
 * What became of an order, or why it was refused, in words a person can act on.
 */

import * as desk from "./desk.js";
import { codeWords, happenedWords, reasonWords, retryWords, sentence } from "./words.js";
import { Amount, html } from "./ui.js";

/** @param {{outcome: object}} props What desk.outcome holds. */
export function Outcome({ outcome }) {
  const { state, attempt, execution, problem, requestId, replayed } = outcome;
  if (state === "done") return html`<${Fill} execution=${execution} requestId=${requestId} replayed=${replayed} />`;
  if (state === "refused") return html`<${Refusal} problem=${problem} what="Not executed" />`;
  if (state === "unknown") return html`<${Unknown} problem=${problem} />`;
  return html`<div class="outcome sending" role="status">
    <h3>Executing …</h3>
    <p>${attempt === 1 ? "Waiting for the answer." : `No answer yet: sending the same order again (attempt ${attempt}). It is executed once.`}</p>
  </div>`;
}

function Fill({ execution, requestId, replayed }) {
  const { status, side, symbol, filled_quantity, all_in_price, total, versus_quote_bps, balances = {} } = execution;
  const [base, quote] = symbol.split("/");
  const verb = side === "buy" ? "Bought" : "Sold";
  const partly = status === "partially_filled" ? "partly filled" : "filled";
  return html`<div class="outcome done" role="status" data-testid="fill" data-execution=${execution.execution_id}>
    <h3>${verb} <${Amount} value=${filled_quantity} unit=${base} faintAfter=${8} /> <span class="status">${partly}</span></h3>
    <dl class="facts">
      <div><dt>${side === "buy" ? "Paid" : "Received"}</dt><dd><${Amount} value=${total} unit=${quote} /></dd></div>
      <div><dt>All in</dt><dd><${Amount} value=${all_in_price} /></dd></div>
      <div><dt>Versus the quote</dt><dd><${VersusQuote} bps=${versus_quote_bps} /></dd></div>
    </dl>
    <table class="balances" aria-label="Balances around the fill">
      <tbody>
        ${Object.entries(balances).map(
          ([asset, { before, after }]) => html`<tr>
            <th scope="row">${asset}</th>
            <td class="number"><${Amount} value=${before} /></td>
            <td aria-hidden="true">→</td>
            <td class="number"><span class="unseen">then </span><${Amount} value=${after} /></td>
          </tr>`,
        )}
      </tbody>
    </table>
    <p class="note">${replayed ? "It was on record already. " : ""}${requestId ? `Request ${requestId}` : ""}</p>
  </div>`;
}

/** How much worse, or better, than quoted. */
export function VersusQuote({ bps }) {
  if (bps === null) return "–";
  if (/^-?0(\.0*)?$/.test(bps)) return "as quoted";
  const better = bps.startsWith("-");
  return html`<${Amount} value=${better ? bps.slice(1) : bps} unit=${`bps ${better ? "better" : "worse"}`} faintAfter=${4} />`;
}

function Unknown({ problem }) {
  return html`<div class="outcome refused" role="alert" data-testid="refusal">
    <h3>The outcome is not known yet</h3>
    <p>${problem ? sentence(problem.detail) : "No answer came, several times."} The order may be sent again safely: it is executed once.</p>
    <p>
      <button type="button" onClick=${desk.sendAgain}>Send the same order again</button>
      ${" "}<button type="button" onClick=${desk.setAside}>Set it aside</button>
    </p>
    <p class="note">Nothing else is executed before that. If it is on record, Executions has it.</p>
  </div>`;
}

/**
 * A refusal: what was wrong, field by field, with what would do as a button, and what may help.
 * @param {{problem: object, what: string}} props problem+json
 */
export function Refusal({ problem, what }) {
  const { title, detail, code, errors = [], sources = [], retry, execution_state, execution_id, request_id, fresh_quote } = problem;
  const told = errors.filter((one) => errors.length > 1 || one.detail !== detail || one.suggested);
  return html`<div class="outcome refused" role="alert" data-testid="refusal" data-code=${code}>
    <h3>${what}: ${title ?? codeWords(code)}</h3>
    <p>${sentence(detail)}</p>
    ${told.length > 0 && html`<ul class="reasons">${told.map((error) => html`<${Fault} error=${error} />`)}</ul>`}
    ${sources.length > 0 &&
    html`<ul class="reasons">
      ${sources
        .filter(({ used }) => !used)
        .map(({ venue, state, reason }) => html`<li><b>${venue}</b> ${state}${reason && `: ${reasonWords(reason)}`}</li>`)}
    </ul>`}
    ${fresh_quote && html`<${FreshQuote} quote=${fresh_quote} />`}
    <p class="note">
      ${what === "Not executed" && `${happenedWords(execution_state)} `}${what === "Not executed" && retryWords(retry)}
      ${execution_id ? ` On record as ${execution_id}.` : ""}${request_id ? ` Request ${request_id}.` : ""}
    </p>
  </div>`;
}

function Fault({ error }) {
  const { pointer, parameter, detail, suggested } = error;
  const name = (pointer ?? parameter ?? "").replace(/^\//, "").replaceAll("_", " ");
  const field = (pointer ?? parameter ?? "").replace(/^\//, "");
  const other = { quantity: "total", total: "quantity" }[field];
  const fill = () => desk.change({ [field === "tolerance_bps" ? "tolerance" : field]: suggested, ...(other && { [other]: "" }) });
  const fillable = suggested && ["quantity", "total", "tolerance_bps"].includes(field);
  return html`<li>
    ${name && html`<b>${name}</b>`} ${detail}${suggested && !fillable && ` (${suggested} would do)`}
    ${fillable && html` <button type="button" onClick=${fill}>Use ${suggested}</button>`}
  </li>`;
}

function FreshQuote({ quote }) {
  const side = quote[desk.order.value.side];
  if (!side) return null;
  return html`<p>
    Now it is <${Amount} value=${side.total} unit=${quote.quote_asset} /> for
    ${" "}<${Amount} value=${side.quantity} unit=${quote.base_asset} faintAfter=${8} />; the price above follows the market, and Execute takes that.
  </p>`;
}
