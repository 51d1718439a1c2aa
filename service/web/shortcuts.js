/**
 * The keyboard: one letter each, wherever nothing is being typed.
 */

import { useEffect, useRef } from "preact/hooks";
import { signal } from "@preact/signals";

import * as desk from "./desk.js";
import { html } from "./ui.js";

const shown = signal(false);
/** Open the list of shortcuts. */
export const showShortcuts = () => (shown.value = true);

const focus = (id) => {
  const field = document.getElementById(id);
  field?.focus();
  field?.select();
};

const KEYS = [
  ["b", "buy", () => desk.change({ side: "buy" })],
  ["s", "sell", () => desk.change({ side: "sell" })],
  ["/", "to the quantity", () => focus("ticket-quantity")],
  ["t", "to the total", () => focus("ticket-total")],
  ["n", "net prices", () => desk.look("net", desk.depth.value)],
  ["g", "gross prices", () => desk.look("gross", desk.depth.value)],
  ["?", "this list", showShortcuts],
];

const typing = (target) =>
  (target.tagName === "INPUT" && target.type !== "radio") || target.tagName === "SELECT" || target.tagName === "TEXTAREA";

function press(event) {
  if (event.key === "Enter" && event.repeat) {
    event.preventDefault(); // A key that is held down is one order, on a button as well.
    return;
  }
  if (document.querySelector("dialog[open]")) return; // What lies under it cannot be seen.
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    desk.executeShown();
    return;
  }
  if (event.key === "Enter" && typing(event.target) && event.target.closest(".ticket form")) desk.followQuote();
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape" && typing(event.target)) event.target.blur();
  if (typing(event.target)) return;
  const found = KEYS.find(([key]) => key === event.key);
  if (!found) return;
  event.preventDefault();
  found[2]();
}

/** Listen while the desk is open. */
export function listen() {
  window.addEventListener("keydown", press);
  return () => window.removeEventListener("keydown", press);
}

/** The list itself. */
export function Shortcuts() {
  const dialog = useRef(null);
  const open = shown.value;
  useEffect(() => {
    if (open && !dialog.current.open) dialog.current.showModal();
    if (!open && dialog.current.open) dialog.current.close();
  }, [open]);
  const rows = [...KEYS.map(([key, words]) => [key, words]), ["Enter", "quote what is typed"], ["Ctrl+Enter", "execute the quote that is shown"], ["Esc", "leave a field, close a list"]];
  return html`<dialog ref=${dialog} class="shortcuts" aria-labelledby="shortcuts-title" onClose=${() => (shown.value = false)}>
    <div class="inner">
      <header>
        <h2 id="shortcuts-title">Shortcuts</h2>
        <button type="button" onClick=${() => (shown.value = false)}>Close</button>
      </header>
      <dl>
        ${rows.map(([key, words]) => html`<div><dt><kbd>${key}</kbd></dt><dd>${words}</dd></div>`)}
      </dl>
    </div>
  </dialog>`;
}
