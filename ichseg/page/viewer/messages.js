// What the page says to people: the strip above the viewer, and what is under way.

import { button, one } from "./dom.js";
import { join } from "./hub.js";

/** @type {(() => void) | null} */
let repair = null;

/** Say what went wrong, with a button that mends it where there is a `cure`. */
export function complain(text, cure = null, label = "", kind = "wrong") {
  const alert = one(".ich-alert");
  alert.dataset.kind = kind;
  one("p", alert).textContent = text;
  repair = cure;
  const fix = one(".ich-fix");
  fix.hidden = !cure;
  fix.textContent = label;
  alert.hidden = false;
}

export function hush() {
  one(".ich-alert").hidden = true;
}

/** Say what is under way: {text, part: 0 to 1, cancel: whether it can be}; null where nothing is. */
export function busy(progress) {
  const overlay = one(".ich-busy");
  overlay.hidden = !progress;
  button("cancel").hidden = !progress?.cancel;
  if (!progress) return;
  const bar = one("progress", overlay);
  one("p", overlay).textContent = progress.text;
  if (progress.part === null || progress.part === undefined) bar.removeAttribute("value");
  else bar.value = progress.part;
}

export const cancellable = () => !one(".ich-busy").hidden && !button("cancel").hidden;

join({
  actions: { dismiss: hush },
  start() {
    one(".ich-fix").addEventListener("click", () => { hush(); repair?.(); });
  },
});
