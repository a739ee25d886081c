// What Python does in passing, after 350 ms without input: it refines boxes' masks, and computes what panels want. No
// operation waits for it.

import { root } from "./dom.js";
import { host } from "./host.js";
import { gather, join, showAll, tell, find } from "./hub.js";
import { announceVolumes, keepSlices, queue, say, takeChoices, takeTotals } from "./server.js";
import { here, roughSlices, state } from "./state.js";

const REST_MS = 350;
const PATIENCE_MS = 120000;
/** What was asked in passing. */
export const passing = {
  /** @type {number | null} the slice whose masks are being refined; null while nothing is asked */
  slice: null,
  /** the last answer to an operation when it was asked */
  after: 0,
};
/** @type {any} */
let resting = 0;
/** @type {any} */
let forgetting = 0;
let lastBetter = 0;

/** A quiet moment from now on, unless something happens before. */
export function rest() {
  const rough = state.lost ? [] : roughSlices();
  root.dataset.rough = String(rough.length);
  clearTimeout(resting);
  if (state.lost) return;
  if ((rough.length || find("wants")) && passing.slice === null) resting = setTimeout(askInPassing, REST_MS);
}

function askInPassing() {
  if (queue.ops.length || state.gesture || state.draft) return; // each ends with a rest
  const { k } = state;
  passing.slice = roughSlices().sort((a, b) => Math.abs(a - k) - Math.abs(b - k))[0] ?? k;
  passing.after = queue.lastReply;
  clearTimeout(forgetting);
  forgetting = setTimeout(() => { passing.slice = null; rest(); }, PATIENCE_MS);
  say({ aside: { slice: passing.slice, at: k, ...gather("request") } });
  host.trigger("aside");
}

/** The server has nothing of this page any more. */
export function forgetPassing() {
  lastBetter = 0;
  passing.slice = null;
  clearTimeout(forgetting);
  clearTimeout(resting);
  root.dataset.rough = "0";
}

function onBetter() {
  const reply = host.props.better;
  if (!reply?.n || reply.n === lastBetter) return;
  lastBetter = reply.n;
  clearTimeout(forgetting);
  passing.slice = null;
  if (reply.gone) {
    tell("gone", "The server no longer has this scan");
    return;
  }
  tell("answered");
  if (reply.choices) takeChoices(reply.choices);
  // While an operation is unanswered its answer is the one to believe.
  if (state.scan && reply.case === state.scan.token && !queue.ops.length) {
    const before = JSON.stringify(here().ml);
    takeTotals(reply);
    Object.assign(state.trouble, reply.trouble);
    keepSlices(reply.slices);
    tell("takeAside", reply, queue.lastReply === passing.after);
    if (JSON.stringify(here().ml) !== before) announceVolumes();
  }
  showAll();
}

join({
  start: () => host.watch("better", onBetter),
  shown: rest,
});
