// Where blood is likely: a tint of the strip, and the same in words; asked for in passing while slices are embedded.

import { ink, one } from "../../viewer/dom.js";
import { rest } from "../../viewer/aside.js";
import { state } from "../../viewer/state.js";
import { likelyText } from "./proposals.js";

const AGAIN_MS = 1500;
const MOST_OPACITY = 0.45, LEAST_SHARE = 0.08;

const likely = {
  /** @type {Record<string, number>} by slice: 0 to 1 */
  slices: {},
  due: true,
  /** @type {any} */
  timer: 0,
};

/** Another scan is on screen. */
export function forgetLikely() {
  clearTimeout(likely.timer);
  Object.assign(likely, { slices: {}, due: true });
}

export const likelyWanted = () => Boolean(state.scan && likely.due);

/** Take what Python says; ask again in a while where more is to come. */
export function takeLikely({ here, slices, more }) {
  likely.slices = here ? slices : {};
  likely.due = false;
  clearTimeout(likely.timer);
  if (here && more) likely.timer = setTimeout(lookAgain, AGAIN_MS);
}

/** Ask once more at the next rest, as after all slices were looked at. */
export function lookAgain() {
  likely.due = true;
  rest();
}

export function showLikely() {
  const looked = Object.keys(likely.slices).length;
  one(".ich-likely").textContent = looked ? likelyText(likely.slices, state.scan.shape[0]) : "";
}

/** @param {CanvasRenderingContext2D} context */
export function tintStrip(context, xOf, step, height) {
  context.fillStyle = ink("--ich-likely");
  for (const [k, share] of Object.entries(likely.slices)) {
    if (share < LEAST_SHARE) continue;
    context.globalAlpha = MOST_OPACITY * share;
    context.fillRect(xOf(Number(k)) - step / 2, 0, step, height);
  }
  context.globalAlpha = 1;
}
