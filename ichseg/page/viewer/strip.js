// The strip below the slider: millilitres by slice of the first two methods, and where a lesion was followed to.

import { ink, inkOf, one } from "./dom.js";
import { fitCanvas } from "./draw.js";
import { clamp } from "./geometry.js";
import { join, tell } from "./hub.js";
import { goTo } from "./navigate.js";
import { colourOf, lesionHere, marked, modelsInSight, state } from "./state.js";

const THUMB_PX = 16; // the slider's thumb, as the style sheet has it: its centre runs THUMB_PX short of the ends

const stepOf = (width) => (width - THUMB_PX) / Math.max(1, state.scan.shape[0] - 1);

function drawStrip() {
  if (!state.scan) return;
  const strip = one(".ich-strip");
  const ratio = window.devicePixelRatio || 1;
  const context = strip.getContext("2d");
  const width = strip.clientWidth, height = strip.clientHeight;
  const step = stepOf(width);
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  tell("drawStrip", context, (slice) => THUMB_PX / 2 + slice * step, step, height);
  context.fillStyle = ink("--ich-tick");
  for (let slice = 0; slice < state.scan.shape[0]; slice++) {
    context.fillRect(THUMB_PX / 2 + slice * step - 0.5, height - 3, 1, 3);
  }
  drawBars(context, step, height);
  context.fillStyle = ink("--ich-strong");
  for (const { slice, direction } of lesionHere()?.stops ?? []) {
    context.fillRect(THUMB_PX / 2 + (slice + direction / 2) * step - 0.75, 0, 1.5, height);
  }
}

function drawBars(context, step, height) {
  const { slices } = state;
  const bar = clamp(step / 2 - 1, 1, 6);
  const most = Math.max(0.001, ...marked().flatMap((slice) => Object.values(slices.get(slice).ml)));
  for (const slice of marked()) {
    const { ml, origin } = slices.get(slice);
    const middle = THUMB_PX / 2 + slice * step;
    // What was only followed there is paler than what a person marked or corrected.
    context.globalAlpha = Object.values(origin).every((from) => !from || from === "propagated") ? 0.5 : 1;
    modelsInSight().slice(0, 2).forEach((model, index) => {
      const part = (ml[model] ?? 0) / most;
      const tall = part ? Math.max(2, part * (height - 1)) : 1;
      context.fillStyle = inkOf(colourOf(model));
      context.fillRect(middle + (index ? 0.5 : -bar - 0.5), height - tall, bar, tall);
    });
  }
  context.globalAlpha = 1;
}

join({
  start() {
    const strip = one(".ich-strip");
    strip.addEventListener("pointerdown", (event) => {
      if (state.scan) goTo(Math.round((event.offsetX - THUMB_PX / 2) / stepOf(strip.clientWidth)));
    });
  },
  show: drawStrip,
  resized() { fitCanvas(one(".ich-strip")); drawStrip(); },
});
