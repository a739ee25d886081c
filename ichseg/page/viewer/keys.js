// The keyboard.

import { rest } from "./aside.js";
import { one, root, viewerHasFocus } from "./dom.js";
import { actions, find, join, keys } from "./hub.js";
import { cancellable } from "./messages.js";
import { state } from "./state.js";

/** @type {Record<string, [number, number]>} */
export const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
/** A step of a key that is held down, or pressed with Shift. */
export const FAST_PX = 5;
const WRITING = "select, textarea, input:not([type=range], [type=radio], [type=checkbox])";
/** What the browser scrolls, presses or chooses by: such a key is the page's only while the viewer has the focus. */
const BROWSERS = new Set([...Object.keys(ARROWS), "PageDown", "PageUp", "Home", "End", " ", "Enter"]);

function stepBack() {
  // One thing at a time, beginning with what is under way.
  if (cancellable()) actions.cancel();
  else find("stepBack");
  state.gesture = null;
  rest();
}

function onKey(event) {
  const { target } = event;
  if (one("dialog[open]")) return;
  if (target.matches?.(WRITING) || target.isContentEditable) return;
  const control = event.ctrlKey || event.metaKey;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (key === "?") return done(event, actions.help);
  if (!state.scan || event.altKey) return;
  if (control && key === "z") return done(event, event.shiftKey ? actions.redo : actions.undo);
  if (control && key === "y") return done(event, actions.redo);
  if (control) return;
  if (BROWSERS.has(key) && !viewerHasFocus()) return;
  if (find("key", event, key)) event.preventDefault();
  else if (keys[key]) done(event, keys[key]);
}

/** Do what a key is for, and nothing else. */
export function done(event, action) {
  event.preventDefault();
  action();
}

function leaveFocus(event) {
  // A button that is pressed by pointer leaves the focus with the viewer: its keys go on.
  if (viewerHasFocus() && event.target.closest("button")) event.preventDefault();
}

join({
  keys: { Escape: stepBack },
  start() {
    document.addEventListener("keydown", onKey);
    root.addEventListener("mousedown", leaveFocus);
  },
});
