// The comparison: any two methods or all, where they agree, their scores, and a reference mask.

import { announce, button, enable, expand, one, onFiles, press } from "../../viewer/dom.js";
import { resize } from "../../viewer/draw.js";
import { showAll } from "../../viewer/hub.js";
import { Mask } from "../../viewer/masks.js";
import { setModels, showSingle } from "../../viewer/panes.js";
import { ask } from "../../viewer/server.js";
import { marked, shown, state } from "../../viewer/state.js";
import { upload } from "../../viewer/upload.js";
import { drawAgreement, drawReference, showLegend } from "./agreement.js";
import { againstReference, comparing } from "./comparing.js";
import { showAbsent, showScores } from "./scores.js";

function scoreKey() {
  // What the scores depend on: methods, marked slices, the slice on screen, the reference mask.
  const { k, models, slices } = state;
  return JSON.stringify([k, models, marked().map((slice) => [slice, slices.get(slice).boxes, slices.get(slice).ml]), Boolean(comparing.reference)]);
}

const scoresWanted = () => Boolean(comparing.open && state.scan && comparing.scored !== scoreKey());

function show() {
  const { open, agreement, reference } = comparing;
  one(".ich-compare").hidden = !open;
  enable("compare", !state.lost);
  expand("compare", open);
  if (!open) return;
  press("show_masks", !agreement);
  press("show_agreement", agreement);
  press("show_two", state.models.length === 2 && !shown.single);
  press("show_every", state.models.length > 2 && !shown.single);
  press("reference_outline", comparing.outline);
  const against = one(".ich-against");
  against.closest("label").hidden = !agreement;
  against.options[1].disabled = !reference;
  against.value = againstReference() ? "reference" : "first";
  button("reference_sample").hidden = Boolean(reference) || !state.scan.sample;
  button("reference_open").hidden = Boolean(reference);
  for (const name of ["reference_outline", "reference_remove"]) button(name).hidden = !reference;
  showLegend();
  showScores(comparing.scored !== scoreKey());
  showAbsent();
}

function takeReference(found) {
  const masks = found && new Map();
  for (const [key, runs] of Object.entries(found?.slices ?? {})) masks.set(Number(key), new Mask(runs, state.scan.shape));
  comparing.reference = masks;
  if (!masks) comparing.against = "first";
  announce(masks ? "Reference mask loaded, with blood on " + masks.size + " slices." : "Reference mask removed.");
}

function toggle() {
  if (!state.scan) return;
  comparing.open = !comparing.open;
  comparing.askMethods = comparing.open && state.choices.some((choice) => choice.missing);
  showAll();
  resize();
}

function set(how) {
  Object.assign(comparing, how);
  showAll();
}

function showMethods(names) {
  if (shown.single) showSingle(false);
  if (names.length > 1 && String(names) !== String(state.models)) setModels(names);
}

function showEvery() {
  const here = state.choices.filter((choice) => !choice.missing).map((choice) => choice.name);
  showMethods([...new Set([...state.models, ...here])]);
}

/** @type {import("../../viewer/hub.js").Part} */
export const panel = {
  actions: {
    compare: toggle,
    show_masks: () => set({ agreement: false }),
    show_agreement: () => set({ agreement: true }),
    show_two: () => showMethods(state.models.slice(0, 2)),
    show_every: showEvery,
    reference_open: () => one(".ich-reference-file").click(),
    reference_sample: () => ask({ op: "reference", sample: true }),
    reference_remove: () => ask({ op: "reference", remove: true }),
    reference_outline: () => set({ outline: !comparing.outline }),
  },
  keys: { c: toggle },
  slow: ["reference", "fetch"],
  start() {
    one(".ich-against").addEventListener("change", (event) => set({ against: event.target.value }));
    onFiles(".ich-reference-file", (files) => upload(files, { op: "reference" }, "Reading the reference mask"));
  },
  opened(reply) {
    Object.assign(comparing, { reference: null, scores: null, scored: "", against: "first" });
    if (reply.reference !== undefined) takeReference(reply.reference);
  },
  take(reply) {
    if (reply.reference !== undefined && !reply.scan) takeReference(reply.reference);
  },
  choices() { comparing.askMethods = false; },
  wants: () => scoresWanted() || comparing.askMethods,
  request: () => ({ compare: scoresWanted(), methods: comparing.askMethods }),
  takeAside({ scores }, now) {
    if (scores && scores.slice === state.k && now) Object.assign(comparing, { scores, scored: scoreKey() });
  },
  drawInstead: drawAgreement,
  drawUnder: drawReference,
  show,
  slice: show,
};
