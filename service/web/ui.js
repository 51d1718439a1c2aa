/**
 * The small things that every panel is made of.
 */

import { h } from "preact";
import htm from "htm";

export const html = htm.bind(h);

/**
 * An amount, exactly as it came: thousands stand apart and far decimals are faint, by style alone.
 * @param {{value: string|null, plus?: boolean, unit?: string, faintAfter?: number}} props
 */
export function Amount({ value, plus = false, unit = "", faintAfter = 2 }) {
  if (value === null || value === undefined) return html`<span class="amount none">–</span>`;
  const [, sign, whole, part] = /^(-?)(\d+)(?:\.(\d+))?$/.exec(value) ?? [null, "", value, undefined];
  const shown = plus && !sign && !/^0+$/.test(whole + (part ?? "")) ? "+" : sign && "−";
  const groups = whole.length > 4 ? whole.replace(/\B(?=(\d{3})+$)/g, ",").split(",") : [whole];
  const near = part?.slice(0, faintAfter);
  const far = part?.slice(faintAfter);
  return html`<span class="amount" data-value=${value}
    >${shown}${groups.map((group) => html`<span class="thousand">${group}</span>`)}${part && `.${near}`}${far &&
    html`<span class="far">${far}</span>`}${unit && html`<span class="unit"> ${unit}</span>`}</span
  >`;
}

/** A venue's name behind its colour. */
export const Venue = ({ name, colour }) => html`<span class=${`name ${colour}`}><i class="swatch" aria-hidden="true"></i>${name}</span>`;

/**
 * A choice of few, as buttons that are radios.
 * @param {{name: string, legend: string, value: string, options: [string, string][], onChoose: (value: string) => void}} props
 */
export function Choice({ name, legend, value, options, onChoose, hideLegend = true }) {
  return html`<fieldset class=${`choice ${name}`}>
    <legend class=${hideLegend ? "unseen" : ""}>${legend}</legend>
    ${options.map(
      ([one, label]) => html`<label class=${one}>
        <input type="radio" name=${name} value=${one} checked=${one === value} onChange=${() => onChoose(one)} />
        <span>${label}</span>
      </label>`,
    )}
  </fieldset>`;
}

/**
 * The names of a table's columns: those of words, and those of numbers, which stand at the right.
 * @param {{words: string[], numbers: string[]}} props
 */
export const Heads = ({ words, numbers }) => html`<thead>
  <tr>
    ${words.map((name) => html`<th scope="col">${name}</th>`)}
    ${numbers.map((name) => html`<th scope="col" class=${`number ${name.toLowerCase()}`}>${name}</th>`)}
  </tr>
</thead>`;

/** A part of the desk, with its heading and whatever stands beside it. */
export function Panel({ name, title, aside, children }) {
  return html`<section class=${`panel ${name}`} aria-labelledby=${`${name}-title`}>
    <header><h2 id=${`${name}-title`}>${title}</h2>${aside}</header>
    <div class="body">${children}</div>
  </section>`;
}
