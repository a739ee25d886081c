// Measurement of the left pane's method: numbers, plots, and how sure they are.

import { passing } from "../../viewer/aside.js";
import { enable, expand, one } from "../../viewer/dom.js";
import { resize } from "../../viewer/draw.js";
import { showAll } from "../../viewer/hub.js";
import { isAsked, queue } from "../../viewer/server.js";
import { marked, roughSlices, state } from "../../viewer/state.js";
import { moved } from "./abc.js";
import { areMoving, drawLines, grabLine, lineCursor, showLines } from "./lines.js";
import { measuring } from "./measuring.js";
import { listenToPlots, markSlice, showPlots } from "./plots.js";
import { forgetSurface, listenToSurface, showSurface, surface, surfaceWanted, takeSurface, toggleSurface } from "./surface.js";
import { showBoxes, showHeadline, showNumbers } from "./table.js";

const IN_SIGHT = 0.8; // a panel that opens below so much of the window is brought into sight
let toBeSeen = false; // whether the panel was opened and has no numbers yet: without them the page may be too short to show it
let measureAsked = false; // whether the request in passing that is under way asks for measures

function measureWanted() {
  return Boolean(
    measuring.open && state.scan && marked().length > 0 && !roughSlices().length &&
    (measuring.at !== queue.lastReply || measuring.range !== null || surfaceWanted()),
  );
}

function request() {
  measureAsked = measureWanted();
  const { growthMap: map } = state, viewed = surface.map === map ? surface.n : null;
  return { measure: measureAsked ? { have: measuring.record?.n ?? null, view: surface.open, viewed, map } : null };
}

function answered() {
  // Whatever came: it is of what there was when it was asked. A later operation asks anew.
  if (measureAsked) measuring.at = passing.after;
  measureAsked = false;
}

function take({ measures: found }) {
  if (!found) return;
  if (found.record !== undefined) {
    measuring.record = found.record;
    if (!areMoving() && !isAsked("abc2")) moved.clear();
  }
  if (found.why !== undefined || found.record) measuring.why = found.why ?? "";
  if (found.range !== undefined) measuring.range = found.range;
  if (found.view) takeSurface(found.view);
}

function forget() {
  Object.assign(measuring, { record: null, why: "", range: null, at: -1 });
  moved.clear();
  forgetSurface();
}

function show() {
  if (measuring.token !== state.scan.token) {
    forget();
    measuring.token = state.scan.token;
  }
  one(".ich-measure").hidden = !measuring.open;
  enable("measure", !state.lost);
  expand("measure", measuring.open);
  if (!measuring.open) return;
  if (!marked().length) measuring.record = null;
  const { record, why, range } = measuring;
  const fresh = measuring.at === queue.lastReply;
  const region = one(".ich-measure");
  region.dataset.stale = Boolean(record) && !fresh && !why;
  region.dataset.ready = Boolean(record) && fresh && range === null && !roughSlices().length;
  one(".ich-measure-body").hidden = !record;
  one(".ich-measure-state").textContent = measureState();
  showSurface();
  if (!record) {
    one(".ich-abc").replaceChildren();
    return;
  }
  showHeadline(record);
  showNumbers(record);
  showBoxes();
  showPlots();
  showLines();
  if (toBeSeen) requestAnimationFrame(bringIntoSight);
  toBeSeen = false;
}

function measureState() {
  if (!marked().length) return "Draw a box: what it holds is measured, for the method of the left pane.";
  if (measuring.why) return measuring.why;
  return measuring.record ? "" : roughSlices().length ? "Refining first…" : "Measuring…";
}

function toggle() {
  if (!state.scan) return;
  measuring.open = !measuring.open;
  showAll();
  resize();
  toBeSeen = measuring.open;
  if (measuring.open) bringIntoSight();
}

function bringIntoSight() {
  const region = one(".ich-measure");
  if (region.getBoundingClientRect().top > IN_SIGHT * window.innerHeight) region.scrollIntoView();
}

/** @type {import("../../viewer/hub.js").Part} */
export const panel = {
  actions: { measure: toggle, surface: toggleSurface },
  keys: { d: toggle },
  start() {
    listenToPlots();
    listenToSurface();
  },
  wants: measureWanted,
  request,
  answered,
  take,
  takeAside: take,
  grab: grabLine,
  cursor: lineCursor,
  draw: drawLines,
  slice: markSlice,
  show,
};
