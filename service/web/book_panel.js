/**
 * The order book and the depth chart: both draw the same message, outside of the virtual DOM.
 */

import { effect } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";

import * as desk from "./desk.js";
import { DepthChart } from "./depth.js";
import { Ladder } from "./ladder.js";
import { theme } from "./theme.js";
import { reasonWords, sentence } from "./words.js";
import { Choice, html, Panel } from "./ui.js";

/** The merged ladder. */
export function BookPanel() {
  const root = useRef(null);
  useEffect(() => {
    const ladder = new Ladder(root.current);
    let shown = "";
    return effect(() => {
      const data = desk.book.value;
      const now = `${desk.symbol.value} ${desk.view.value}`;
      if (now !== shown) ladder.clear();
      shown = now;
      if (data && data.view === desk.view.value) ladder.show(data);
    });
  }, []);
  return html`<${Panel} name="book" title="Order book" aside=${html`<${Controls} />`}>
    <div role="table" aria-label="Order book" data-testid="ladder" class="ladder">
      <${Head} />
      <div role="none" class="sides" ref=${root}></div>
    </div>
    <${NoPrice} />
  <//>`;
}

function Controls() {
  const chooseDepth = (event) => desk.look(desk.view.value, Number(event.currentTarget.value));
  return html`<div class="controls">
    <${Choice}
      name="view"
      legend="Prices"
      value=${desk.view.value}
      options=${[
        ["net", "Net"],
        ["gross", "Gross"],
      ]}
      onChoose=${(view) => desk.look(view, desk.depth.value)}
    />
    <label class="levels"
      ><span>Levels</span>
      <select value=${desk.depth.value} onChange=${chooseDepth}>
        ${desk.DEPTHS.map((depth) => html`<option value=${depth}>${depth}</option>`)}
      </select>
    </label>
  </div>`;
}

function Head() {
  const net = desk.view.value === "net";
  return html`<div role="rowgroup" class="head">
    <div role="row" class="level">
      <span role="columnheader" class="venue">Venue</span>
      <span role="columnheader" class="price" title=${net ? "with the venue's taker fee" : "as the venue shows it"}
        >${net ? "Net price" : "Price"}</span
      >
      <span role="columnheader" class="other">${net ? "Price" : "Net price"}</span>
      <span role="columnheader" class="quantity">Quantity</span>
      <span role="columnheader" class="sum" title="of all levels up to here">Sum</span>
      <span role="columnheader" class="gone" title="by mock fills; by open firm quotes">
        <span class="taken">Taken</span><span class="held">Held</span>
      </span>
    </div>
  </div>`;
}

/** Why there is no book, venue by venue; or that it has not come yet. */
function NoPrice() {
  const problem = desk.bookProblem.value;
  if (problem) {
    return html`<div class="over" role="status" data-testid="no-price">
      <h3>No price</h3>
      <p>${sentence(problem.detail)}</p>
      <${Sources} sources=${problem.sources ?? []} />
    </div>`;
  }
  return desk.book.value ? null : html`<div class="over waiting"><p>Waiting for the first book …</p></div>`;
}

/** Every venue with the reason why it does not count. */
export function Sources({ sources }) {
  return html`<ul class="reasons">
    ${sources
      .filter(({ used }) => !used)
      .map(({ venue, state, reason }) => html`<li><b>${venue}</b> ${state}${reason && `: ${reasonWords(reason)}`}</li>`)}
  </ul>`;
}

/** The depth chart, in the same prices as the ladder. */
export function DepthPanel() {
  const root = useRef(null);
  useEffect(() => {
    const chart = new DepthChart(root.current);
    const stop = [
      effect(() => chart.show(desk.book.value)),
      effect(() => {
        theme.value;
        chart.build();
      }),
    ];
    return () => [...stop, () => chart.close()].forEach((one) => one());
  }, []);
  return html`<${Panel} name="depth" title="Depth" aside=${html`<${DepthNote} />`}>
    <figure aria-label="Depth" class="chart" ref=${root}></figure>
  <//>`;
}

function DepthNote() {
  const { base, quote } = desk.assets.value;
  const kind = desk.view.value === "net" ? "net of fees" : "gross";
  return html`<p class="note">${base} up to each price in ${quote}, ${kind}; best ${desk.depth.value} levels a side</p>`;
}
