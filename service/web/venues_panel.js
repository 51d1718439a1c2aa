/**
 * The venues' lamps: state by shape, colour and word, the age of the book, and why one does not count.
 */

import * as desk from "./desk.js";
import { colourOf } from "./palette.js";
import { ageWords, reasonWords } from "./words.js";
import { html, Panel, Venue } from "./ui.js";

const WITHOUT_SCROLLING = 7;
const SHAPES = { live: "●", warming: "◔", stale: "▲", suspect: "◆", down: "■", off: "○" };
const TRANSPORTS = { poll: "polled", stream: "streamed", replay: "replayed" };

/** All venues of the settings. */
export function VenuesPanel() {
  const all = desk.venues.value.length ? desk.venues.value : expected();
  const counted = all.filter((venue) => standing(venue).state === "live").length;
  const aside = html`<p class="note">${desk.venues.value.length ? `${counted} of ${all.length} live for ${desk.symbol.value}` : "waiting for word of them …"}</p>`;
  return html`<${Panel} name="venues" title="Venues" aside=${aside}>
    <ul aria-label="Venues" class="lamps" tabindex=${all.length > WITHOUT_SCROLLING ? 0 : null}>
      ${all.map((venue) => html`<${Lamp} key=${venue.venue} venue=${venue} />`)}
    </ul>
  <//>`;
}

/** The venues that symbols name, before the first word of how they are. */
function expected() {
  const names = new Set(desk.symbols.value.flatMap((one) => one.venues.map(({ venue }) => venue)));
  return [...names].map((venue) => ({ venue, enabled: true, state: "unknown", reason: null, transport: "", symbols: [] }));
}

/** How a venue stands with the symbol that is looked at, or on the whole where it does not trade it. */
function standing(venue) {
  if (!venue.enabled) return { state: "off", reason: null, age_ms: null };
  const own = desk.instrument.value?.venues.find((one) => one.venue === venue.venue)?.symbol;
  return venue.symbols.find((one) => one.symbol === own) ?? { state: venue.state, reason: venue.reason, age_ms: null };
}

function Lamp({ venue }) {
  const { state, reason, age_ms } = standing(venue);
  const why = state === "off" ? "switched off" : reason ?? (venue.transport === "poll" ? venue.reason : null);
  const ages = age_ms === null || age_ms === undefined ? "–" : ageWords(age_ms);
  return html`<li data-venue=${venue.venue} data-state=${state} class=${`lamp ${state}`}>
    <span class="shape" aria-hidden="true">${SHAPES[state] ?? "○"}</span>
    <${Venue} name=${venue.venue} colour=${colourOf(venue.venue)} />
    <span class="state">${state}</span>
    <span class="age" title="age of its book"><span class="unseen">book's age </span>${ages}</span>
    <span class="transport">${state === "off" ? "" : TRANSPORTS[venue.transport] ?? venue.transport}</span>
    <span class="why">${why && (state === "off" ? why : reasonWords(why))}</span>
  </li>`;
}
