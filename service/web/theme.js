/**
 * Light or dark: as the machine has it, or as the person chose here.
 */

import { signal } from "@preact/signals";

import { Kept } from "./kept.js";

const kept = new Kept(() => localStorage, "iob.theme");
const dark = matchMedia("(prefers-color-scheme: dark)");

/** "light" or "dark", as it is shown. */
export const theme = signal("light");

function apply() {
  const chosen = kept.get();
  const shown = chosen ?? (dark.matches ? "dark" : "light");
  document.documentElement.dataset.theme = shown; // Before anybody looks at colours.
  theme.value = shown;
}

/** Change to the other one; the machine's own is followed again once it is chosen. */
export function toggle() {
  const other = theme.value === "dark" ? "light" : "dark";
  kept.set((other === "dark") === dark.matches ? null : other);
  apply();
}

dark.addEventListener("change", apply);
apply();
