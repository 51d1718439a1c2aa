/**
 * The page: the key form, and behind it the desk.
 */

import { render } from "preact";
import { useEffect, useRef } from "preact/hooks";

import * as desk from "./desk.js";
import { give } from "./palette.js";
import { BookPanel, DepthPanel } from "./book_panel.js";
import { AccountPanel, ExecutionsPanel } from "./records.js";
import { Shortcuts, listen, showShortcuts } from "./shortcuts.js";
import { theme, toggle } from "./theme.js";
import { TicketPanel } from "./ticket.js";
import { VenuesPanel } from "./venues_panel.js";
import { ageWords, sentence } from "./words.js";
import { html } from "./ui.js";

function App() {
  return desk.key.value && desk.symbols.value.length ? html`<${Desk} />` : html`<${KeyForm} />`;
}

/** Where the key is typed in: once, for this tab. */
function KeyForm() {
  const typed = useRef(null);
  const opening = desk.key.value !== "";
  const reason = desk.turnedAway.value;
  useEffect(() => {
    if (!opening) typed.current.focus();
  }, [opening]);
  const submit = (event) => {
    event.preventDefault();
    const text = typed.current.value.trim();
    if (text) desk.open(text);
  };
  return html`<main class="door">
    <form onSubmit=${submit} aria-label="Key">
      <h1>Internal order book</h1>
      <p>Live books of many venues, one price for your quantity, and its mock execution.</p>
      <label class="field">
        <span>API key</span>
        <span class="entry"><input ref=${typed} type="password" name="key" autocomplete="off" spellcheck=${false} disabled=${opening} placeholder="iob_…" /></span>
      </label>
      <button type="submit" disabled=${opening}>Open</button>
      ${opening && html`<p class="note" role="status"><${Connection} /></p>`}
      ${opening && html`<button type="button" class="quiet" onClick=${desk.forget}>Forget key</button>`}
      ${reason && html`<p class="outcome refused" role="alert" data-testid="key-refused">${keyRefusal(reason)}</p>`}
      <p class="note">The key stays in this tab until it is closed. <code>make demo</code> prints one.</p>
    </form>
  </main>`;
}

const keyRefusal = (reason) =>
  reason.includes("no longer in force")
    ? "This key is no longer in force: it was revoked, or it has expired."
    : `The service does not take this key. ${sentence(reason)}`;

function Desk() {
  const { state } = desk.connection.value;
  give(desk.symbols.value.flatMap((one) => one.venues.map(({ venue }) => venue)));
  useEffect(listen, []);
  return html`<div class=${`page ${state === "live" ? "" : "stale"}`}>
    <a class="skip" href="#ticket-quantity" onClick=${toTicket}>To the ticket</a>
    <${Top} />
    <${Banner} />
    <main class="desk">
      <${BookPanel} />
      <${TicketPanel} />
      <${DepthPanel} />
      <${VenuesPanel} />
      <${AccountPanel} />
      <${ExecutionsPanel} />
    </main>
    <${StaleBar} />
    <${Shortcuts} />
  </div>`;
}

function toTicket(event) {
  event.preventDefault();
  document.getElementById("ticket-quantity")?.focus();
}

function Top() {
  return html`<header class="top">
    <h1>Internal order book</h1>
    <label class="symbol"
      ><span class="unseen">Symbol</span>
      <select aria-label="Symbol" value=${desk.symbol.value} onChange=${(event) => desk.choose(event.currentTarget.value)}>
        ${desk.symbols.value.map(({ symbol }) => html`<option value=${symbol}>${symbol}</option>`)}
      </select>
    </label>
    <${Connection} />
    <span class="space"></span>
    <span class="who" title=${`scopes: ${desk.session.value?.scopes.join(", ")}`}>${desk.session.value?.account}</span>
    <button type="button" class="quiet" onClick=${toggle} aria-label=${`Theme: ${theme.value}`} title="Light or dark">
      ◐
    </button>
    <button type="button" class="quiet" onClick=${showShortcuts} aria-label="Shortcuts" title="Shortcuts">?</button>
    <button type="button" class="quiet" onClick=${desk.forget}>Forget key</button>
  </header>`;
}

/** Whether what is shown is live, and if not, how old it is. */
function Connection() {
  const { state, detail } = desk.connection.value;
  return html`<span class=${`connection ${state}`} data-testid="connection" data-state=${state}>
    <i class="dot" aria-hidden="true"></i>
    <span>${state}${detail && `, ${detail}`}</span>
    <${Age} />
  </span>`;
}

const BANNERS = {
  simulated: ["SIMULATED PRICES", "the venues are played by a simulator; executions are mock"],
  replay: ["REPLAYED PRICES", "a recording is being played; executions are mock"],
  live: ["Live prices", "executions are mock, and on record"],
};

/** What kind of prices these are. */
function Banner() {
  const kind = desk.marketData.value;
  const [title, rest] = BANNERS[kind] ?? ["Prices", "what kind they are is not known yet"];
  return html`<section aria-label="Market data" class=${`banner ${kind || "unknown"}`}>
    <p data-testid="market-data" data-kind=${kind}><strong>${title}</strong> <span>${rest}</span></p>
  </section>`;
}

/** That what is shown is old, wherever one has scrolled to. */
function StaleBar() {
  const { state, detail } = desk.connection.value;
  if (state === "live") return null;
  return html`<section aria-label="Connection" class="lost">
    <p role="alert" data-testid="stale"><strong>STALE</strong> what you see is old: ${detail || state}</p>
    <${Age} />
  </section>`;
}

/** How long ago the latest message came, once it is not live. */
function Age() {
  const root = useRef(null);
  const { state } = desk.connection.value;
  useEffect(() => {
    const tick = () => {
      if (!root.current) return;
      const heardAt = desk.heardAt();
      const text = state === "stale" && heardAt !== null ? `${ageWords(performance.now() - heardAt)} old` : "";
      if (root.current.textContent !== text) root.current.textContent = text;
    };
    tick();
    const timer = setInterval(tick, 200);
    return () => clearInterval(timer);
  }, [state]);
  return html`<span ref=${root} class="age"></span>`;
}

const root = document.getElementById("app");
root.replaceChildren();
render(html`<${App} />`, root);
desk.start();
