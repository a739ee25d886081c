// Going about in the scan: slices, window, zoom.

import { all, announce, one, root } from "./dom.js";
import { draw } from "./draw.js";
import { centred, clamp, zoomed } from "./geometry.js";
import { host } from "./host.js";
import { join, tell } from "./hub.js";
import { rest } from "./aside.js";
import { announceVolumes, look } from "./server.js";
import { capital, sliceName } from "./numbers.js";
import { sliceSentence } from "./said.js";
import { here, isMarked, shown, state, view } from "./state.js";

let jumps = false; // whether to go to a slice that the next answer changes

/** Bring slice k, from 0, on screen; the end of the scan where there is none. */
export function goTo(k) {
  if (!state.scan) return;
  const target = clamp(k, 0, state.scan.shape[0] - 1);
  if (target === state.k) return;
  tell("abandon");
  state.k = target;
  state.selected = -1;
  tell("slice");
  tell("showState");
  draw();
  announceSlice();
  look(false);
  rest();
}

function announceSlice() {
  const { k, scan, models } = state;
  announce(sliceSentence(k, scan.shape[0], isMarked(here()) ? here().ml[models[0]] : null));
}

/** Go where the next answer changes something: undone is what may lie on another slice. */
export function followNext() {
  jumps = true;
}

/** Set the window's width and level in HU. */
export function setWindow(width, level) {
  shown.width = clamp(Math.round(width), 1, 4000);
  shown.level = clamp(Math.round(level), -1000, 3000);
  afterView();
}

/** Zoom with the slice's point `at` (in fractions; else the middle of the view) where it is on screen. */
export function zoomTo(zoom, at = undefined) {
  Object.assign(view, zoomed(view, zoom, at));
  afterView();
}

/** Have the slice's point (x, y), in fractions, in the middle. */
export function moveView(x, y) {
  Object.assign(view, centred(view, x, y));
  afterView();
}

function afterView() {
  tell("windowed");
  draw();
}

function showSlice() {
  const { k, scan } = state;
  const depth = scan.shape[0];
  const slider = one(".ich-slider");
  slider.max = depth;
  slider.value = k + 1;
  slider.setAttribute("aria-valuetext", "slice " + (k + 1) + " of " + depth);
  root.dataset.slice = String(k);
  one(".ich-count").textContent = k + 1 + " / " + depth;
  one(".ich-count").title = sliceName(k);
}

function showWindow() {
  one(".ich-width").value = shown.width;
  one(".ich-level").value = shown.level;
  for (const preset of all(".ich-presets button")) {
    const { width, level } = preset.dataset;
    preset.setAttribute("aria-pressed", String(Number(width) === shown.width && Number(level) === shown.level));
  }
  one(".ich-zoom").textContent = Math.round(view.zoom * 100) + "%";
}

function makePresets() {
  for (const [index, { name, width, level }] of host.props.presets.entries()) {
    const preset = document.createElement("button");
    preset.type = "button";
    preset.textContent = capital(name);
    preset.title = "Width " + width + ", level " + level + " (" + (index + 1) + ")";
    Object.assign(preset.dataset, { width, level });
    preset.addEventListener("click", () => setWindow(width, level));
    one(".ich-presets").append(preset);
  }
}

function take(reply) {
  if (reply.scan) return;
  const changed = Object.keys(reply.slices || {}).map(Number);
  if (reply.show !== undefined) goTo(reply.show);
  else if (jumps && changed.length && !changed.includes(state.k)) goTo(changed[0]);
  jumps = false;
  if (changed.length && !reply.later) announceVolumes();
}

const step = (by) => () => goTo(state.k + by);
const zoomBy = (factor) => () => zoomTo(view.zoom * factor);
const fit = () => zoomTo(1);

join({
  actions: { previous: step(-1), next: step(1), zoom_in: zoomBy(1.25), zoom_out: zoomBy(1 / 1.25), zoom_fit: fit },
  keys: {
    ArrowDown: step(1), ArrowRight: step(1), ArrowUp: step(-1), ArrowLeft: step(-1), PageDown: step(5), PageUp: step(-5),
    Home: () => goTo(0), End: () => goTo(state.scan.shape[0] - 1),
    "+": zoomBy(1.25), "=": zoomBy(1.25), "-": zoomBy(1 / 1.25), 0: fit,
  },
  start() {
    makePresets();
    one(".ich-slider").addEventListener("input", (event) => goTo(Number(event.target.value) - 1));
    for (const name of ["width", "level"]) {
      one(".ich-" + name).addEventListener("change", () => setWindow(Number(one(".ich-width").value) || 80, Number(one(".ich-level").value)));
    }
  },
  key(event, key) {
    const preset = all(".ich-presets button")[Number(key) - 1];
    preset?.click();
    return Boolean(preset);
  },
  show() { showSlice(); showWindow(); },
  slice: showSlice,
  windowed: showWindow,
  take,
});
