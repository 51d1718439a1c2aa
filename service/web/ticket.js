/**
 * The ticket: an amount, its live price taken apart, and the order on it with what became of it.
 */

import { useEffect, useRef } from "preact/hooks";

import * as desk from "./desk.js";
import { colourOf } from "./palette.js";
import { Outcome, Refusal } from "./outcome.js";
import { reasonWords, warningWords } from "./words.js";
import { Waterfall } from "./waterfall.js";
import { Amount, Choice, Heads, html, Panel, Venue } from "./ui.js";

/** The quote of the ticket's side, or null. */
const shownSide = () => desk.quote.value?.data[desk.order.value.side] ?? null;

/** Side, amount, price, execute. */
export function TicketPanel() {
  const submit = (event) => {
    event.preventDefault();
    desk.followQuote();
  };
  return html`<${Panel} name="ticket" title="Quote" aside=${html`<${Countdown} />`}>
    <form aria-label="Quote" onSubmit=${submit} autocomplete="off">
      <${Fields} />
      <${Price} />
      <${ExecuteRow} />
    </form>
    <div class="after" tabindex="0" role="group" aria-label="Outcome"><${Result} /></div>
    <${Waterfall} side=${shownSide()} symbol=${desk.symbol.value} asset=${desk.assets.value.quote} />
    <${Route} />
  <//>`;
}

function Fields() {
  const { side, quantity, total } = desk.order.value;
  const { base, quote } = desk.assets.value;
  const amount = (name, other) => (event) => desk.change({ [name]: event.currentTarget.value.trim(), [other]: "" });
  const field = (name, label, value, unit, onInput) =>
    html`<label class="field">
      <span>${label}</span>
      <span class="entry">
        <input
          id=${`ticket-${name}`}
          name=${name}
          inputmode="decimal"
          autocomplete="off"
          spellcheck=${false}
          placeholder="0.0"
          value=${value}
          onInput=${onInput}
          aria-label=${label}
          aria-invalid=${faulty(name) ? "true" : null}
        />
        <i aria-hidden="true">${unit}</i>
      </span>
    </label>`;
  return html`<div class="fields">
    <${Choice}
      name="side"
      legend="Side"
      value=${side}
      options=${[
        ["buy", "Buy"],
        ["sell", "Sell"],
      ]}
      onChoose=${(chosen) => desk.change({ side: chosen })}
    />
    ${field("quantity", "Quantity", quantity, base, amount("quantity", "total"))}
    <span class="or" aria-hidden="true">or</span>
    ${field("total", "Total", total, quote, amount("total", "quantity"))}
  </div>`;
}

const faulty = (name) =>
  desk.quoteProblem.value?.errors?.some(({ pointer, parameter }) => pointer === `/${name}` || parameter === name);

function Price() {
  const side = shownSide();
  const { base, quote } = desk.assets.value;
  const { side: direction, quantity, total } = desk.order.value;
  const buys = direction === "buy";
  const asked = quantity || total;
  const fact = (label, value) => html`<div><dt>${label}</dt><dd>${value}</dd></div>`;
  const single = side?.best_single_venue;
  return html`<div class="price">
    <p class=${`headline ${desk.expired.value ? "expired" : ""}`}>
      <span class="label">${buys ? "You pay" : "You receive"}</span>
      <output data-testid="total" class="big">
        ${side ? html`<${Amount} value=${side.total} unit=${quote} />` : html`<span class="none">${asked ? "no price" : "–"}</span>`}
      </output>
    </p>
    <dl class="facts">
      ${fact(`For`, html`<${Amount} value=${side?.quantity} unit=${base} faintAfter=${8} />`)}
      ${fact("All in", html`<${Amount} value=${side?.all_in_price} />`)}
      ${fact("Average", html`<${Amount} value=${side?.average_price} />`)}
      ${fact("From mid", html`<${Amount} value=${side?.slippage_bps.from_mid} plus unit="bps" />`)}
      ${fact(
        html`Best alone${single && html` <span class="who">${single.venue}</span>`}`,
        html`<${Amount} value=${single?.all_in_price} />`,
      )}
      ${fact("Saved by routing", html`<${Amount} value=${side?.saving_bps} plus unit="bps" />`)}
    </dl>
    <${Warnings} side=${side} />
  </div>`;
}

function Warnings({ side }) {
  const { quantity, total } = desk.order.value;
  const { base, quote } = desk.assets.value;
  if (!side) {
    const hint = quantity || total ? "" : "Enter a quantity or a total: the price follows the market.";
    return html`<p class="warnings">${hint}</p>`;
  }
  const said = desk.quote.value.data.warnings.map(({ code }) => warningWords(code));
  if (side.shortfall !== "0") said.push(`${side.shortfall} ${quantity ? base : quote} of it cannot be had`);
  return html`<p class="warnings">${said.map((one) => html`<span class="warning">${one}</span>`)}</p>`;
}

/** How long the quote is good for. */
function Countdown() {
  const root = useRef(null);
  useEffect(() => {
    const tick = () => {
      if (!root.current) return;
      const quote = desk.quote.peek();
      const remaining = quote ? Math.max(0, desk.remainingMs(quote)) : 0;
      const text = !quote ? "no quote" : remaining ? `good for ${(remaining / 1_000).toFixed(1)} s` : "expired";
      const [label, bar] = root.current.children;
      if (label.textContent !== text) label.textContent = text;
      bar.style.transform = `scaleX(${quote ? Math.min(1, remaining / quote.data.expires_in_ms) : 0})`;
      desk.expired.value = quote !== null && !remaining;
      root.current.dataset.state = !quote ? "none" : remaining ? "open" : "expired";
    };
    const timer = setInterval(tick, 100);
    tick();
    return () => clearInterval(timer);
  }, []);
  return html`<p class="countdown" role="timer" aria-live="off" data-testid="countdown" ref=${root}><span></span><i aria-hidden="true"></i></p>`;
}

function ExecuteRow() {
  const { side, tolerance } = desk.order.value;
  const { base } = desk.assets.value;
  const sending = desk.outcome.value?.state === "sending";
  const ready = desk.executable();
  const why = desk.may("execute")
    ? "Ctrl+Enter; a mock execution, on record"
    : "This key may not execute: it lacks the scope “execute”.";
  return html`<div class="act">
    <label class="field tolerance" title="How much worse than quoted is still accepted">
      <span>Tolerance</span>
      <span class="entry">
        <input
          name="tolerance"
          inputmode="decimal"
          value=${tolerance}
          aria-label="Tolerance in basis points"
          onInput=${(event) => desk.change({ tolerance: event.currentTarget.value.trim() })}
        />
        <i aria-hidden="true">bps</i>
      </span>
    </label>
    <button type="button" class=${`execute ${side}`} disabled=${!ready} onClick=${desk.executeShown} aria-describedby="execute-note">
      ${sending ? "Executing …" : "Execute"}
      <span class="what" aria-hidden="true">${!sending && `${side} ${desk.quote.value?.data.requested.quantity ?? shownSide()?.quantity ?? ""} ${base}`}</span>
    </button>
    <p class="note" id="execute-note">${why}</p>
  </div>`;
}

function Result() {
  const outcome = desk.outcome.value;
  if (outcome) return html`<${Outcome} outcome=${outcome} />`;
  const problem = desk.quoteProblem.value;
  if (problem) return html`<${Refusal} problem=${problem} what="No quote" />`;
  return html`<p class="empty">What becomes of your order is shown here.</p>`;
}

/** Every venue of the symbol: what it would fill, or why it is left out. */
function Route() {
  const quote = desk.quote.value?.data;
  const side = shownSide();
  const names = desk.instrument.value?.venues.map(({ venue }) => venue) ?? [];
  const legs = new Map(side?.legs.map((leg) => [leg.venue, leg]));
  const sources = new Map(quote?.sources.map((source) => [source.venue, source]));
  const rows = [...new Set([...names, ...sources.keys()])];
  return html`<table class="route" aria-label="Route">
    <${Heads} words=${["Venue"]} numbers=${["Quantity", "Average", "Fee", "Levels"]} />
    <tbody>
      ${rows.map((name) => html`<${RouteRow} key=${name} name=${name} leg=${legs.get(name)} source=${sources.get(name)} />`)}
    </tbody>
  </table>`;
}

function RouteRow({ name, leg, source }) {
  const venue = html`<th scope="row">
    <${Venue} name=${name} colour=${colourOf(name)} />${leg && html`<span class="via"> ${leg.fee_bps} bps</span>`}
  </th>`;
  if (leg) {
    return html`<tr data-venue=${name}>
      ${venue}
      <td class="number"><${Amount} value=${leg.quantity} faintAfter=${8} /></td>
      <td class="number" title=${leg.conversion ? `through ${leg.conversion.symbol} at ${leg.conversion.rate}` : null}>
        <${Amount} value=${leg.average_price} />${leg.conversion && html`<abbr> ⇄</abbr>`}
      </td>
      <td class="number fee"><${Amount} value=${leg.fee} /></td>
      <td class="number levels">${leg.levels}</td>
    </tr>`;
  }
  const why = !source ? "" : source.used ? "not needed" : `left out: ${reasonWords(source.reason ?? source.state)}`;
  return html`<tr data-venue=${name} class=${source && !source.used ? "out" : "idle"}>
    ${venue}
    <td colspan="4">${why}</td>
  </tr>`;
}
