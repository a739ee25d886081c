// What the page says to people: the strip above the viewer, and what is under way.

import { button, one, root } from "./dom.js";
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

/** @type {{ text: string, part?: number | null, cancel?: boolean } | null} */
let underWay = null;
let place = ""; // in the server's queue

/** Say what is under way: {text, part: 0 to 1, cancel: whether it can be}; null where nothing is. */
export function busy(progress) {
  underWay = progress;
  if (!progress) place = "";
  showBusy();
}

/** Say the place in the queue in the place of what is under way; an empty text: it is under way. */
export function standInLine(text) {
  place = text;
  showBusy();
}

export const isBusy = () => !one(".ich-busy").hidden;

function showBusy() {
  const progress = place ? { text: place, cancel: underWay?.cancel } : underWay;
  const overlay = one(".ich-busy");
  overlay.hidden = !progress;
  root.dataset.busy = String(Boolean(progress));
  button("cancel").hidden = !progress?.cancel;
  if (!progress) return;
  const bar = one("progress", overlay);
  one("p", overlay).textContent = progress.text;
  if (progress.part === null || progress.part === undefined) bar.removeAttribute("value");
  else bar.value = progress.part;
}

export const cancellable = () => isBusy() && !button("cancel").hidden;

join({
  actions: { dismiss: hush },
  start() {
    one(".ich-fix").addEventListener("click", () => { hush(); repair?.(); });
  },
});
