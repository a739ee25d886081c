// Asking Python: one request under way, each operation sent until it is answered.

import { announce, root } from "./dom.js";
import { host } from "./host.js";
import { gather, join, showAll, slow, tell } from "./hub.js";
import { serverBack } from "./line.js";
import { Mask } from "./masks.js";
import { busy, complain } from "./messages.js";
import { volumesSentence } from "./said.js";
import { boxesHere, here, lesionHere, modelsInSight, state, titleOf } from "./state.js";

/** What brings a scan, and so may be asked while none is there. */
export const OPENS = new Set(["open", "sample", "reopen", "archive", "study_open"]);
const PATIENCE_MS = { edit: 15000, work: 120000 };
const LOOK_MS = 250; // a slice that a person stays on for so long is looked at
const ATTEMPTS = 3; // an answer may be lost on the way: asking again does nothing twice

/** What is asked, and how far it is answered. */
export const queue = {
  /** @type {any[]} the operations that are not answered yet, each with its number, from the oldest */
  ops: [],
  /** the number of the latest answer */
  lastReply: 0,
};
let lastOp = 0;
let underWay = 0; // the number of the last operation that was sent; 0 while none is under way
let totalled = 0; // the number of the answer that the totals are of
let attempts = 0;
/** @type {any} */
let patience = 0;
/** @type {any} */
let lookTimer = 0;

/** Whether an operation of these kinds is not answered yet. */
export const isAsked = (...kinds) => queue.ops.some((op) => kinds.includes(op.op));

/** Ask for an operation: {op: what, ...}. */
export function ask(op) {
  const { ops } = queue;
  if (state.lost && !OPENS.has(op.op)) return; // boxes are kept here meanwhile
  if (op.op === "fetched" && isAsked(...OPENS)) return; // it would be said of the scan that comes
  op = { case: state.scan?.token ?? null, ...op, id: ++lastOp };
  tell("asked", op);
  const before = ops.at(-1);
  const redone =
    op.op === "boxes" && before?.op === "boxes" && before.id > underWay &&
    before.slice === op.slice && before.lesion === op.lesion && before.boxes.length === op.boxes.length;
  if (redone) ops.pop(); // the same boxes, adjusted again before anybody looked
  ops.push(op);
  root.dataset.pending = String(ops.length);
  send();
  tell("showState");
}

function send() {
  if (underWay || !queue.ops.length) return;
  underWay = queue.ops.at(-1).id;
  attempts = 0;
  deliver();
}

/** Whether what is asked may take long: it stands in a queue, and tells of its progress. */
export const isLong = () => isAsked(...slow);
const eventNow = () => (isLong() ? "work" : "edit");

function deliver() {
  bePatient();
  say({ busy: false });
  host.trigger(eventNow());
}

function bePatient() {
  clearTimeout(patience);
  patience = setTimeout(noAnswer, PATIENCE_MS[eventNow()]);
}

async function noAnswer() {
  // Where the server was away the request goes out by itself, now that it is back.
  if ((await serverBack()) || !underWay) return;
  if (++attempts < ATTEMPTS) deliver();
  else giveUp();
}

function giveUp() {
  underWay = 0;
  busy(null);
  complain("The server does not answer. What is shown stays until the page is reloaded; check the connection.", send, "Try again");
}

/** Put into the component's value what Python is to read at the next event. */
export function say(extra) {
  // Everything that is unanswered goes along, so that no later message can overtake an earlier one.
  const ops = queue.ops.map((op) => ({ ...op }));
  host.props.value = { case: state.scan?.token ?? null, slice: state.k, ops, at: Date.now(), ...gather("context"), ...extra };
}

/** Tell Python which slice is looked at, so that it may embed it; `isBusy`: a box is being drawn there. */
export function look(isBusy) {
  if (!state.scan) return;
  clearTimeout(lookTimer);
  lookTimer = setTimeout(() => {
    say({ busy: isBusy });
    host.trigger("look");
  }, isBusy ? 0 : LOOK_MS);
}

/** The server has nothing of this page any more. */
export function forgetAsked() {
  queue.ops.length = underWay = queue.lastReply = totalled = 0;
  clearTimeout(patience);
  root.dataset.pending = "0";
}

function onReply() {
  if (!host.props.reply?.n || host.props.reply.n === queue.lastReply) return; // Gradio may hand out the same one twice
  // What was done and answered before is told "again": that answer may have been lost on the way.
  const reply = { ...host.props.reply, ...(queue.ops.length ? host.props.reply.again : null) };
  queue.lastReply = reply.n;
  if (reply.done === null) {
    attempts = 0;
    bePatient(); // it is at work, but may stop on the way
    busy(reply.progress);
    return;
  }
  const { ops } = queue;
  while (ops.length && ops[0].id <= reply.done) ops.shift();
  if (reply.done >= underWay) {
    underWay = 0;
    clearTimeout(patience);
  }
  if (reply.gone) {
    tell("gone", "The server no longer has this scan");
    return;
  }
  take(reply);
  // A box was answered by the left pane's method alone; the others' masks are asked for at once.
  for (const slice of reply.later ?? []) ask({ op: "complete", slice });
  root.dataset.pending = String(ops.length);
  root.dataset.done = reply.done;
  send();
}

function take(reply) {
  if (reply.scan) tell("leave", reply);
  else busy(null);
  if (reply.models && (reply.scan || !isAsked("models"))) state.models = reply.models;
  if (reply.totals || !reply.error) { // what is refused while the server is at work tells nothing else
    takeTotals(reply);
    state.history = { undo: reply.undo, redo: reply.redo };
  }
  if (reply.edge !== undefined && !isAsked("edge")) state.edge = reply.edge;
  state.trouble = reply.trouble || {};
  if (reply.method) state.method = reply.method;
  if (reply.choices) takeChoices(reply.choices);
  if (!reply.scan) keepSlices(reply.slices);
  if (!reply.scan && reply.lesion) state.lesion = reply.lesion;
  tell("take", reply);
  if (reply.cancelled && !reply.error) announce("Cancelled: nothing was changed.");
  if (reply.error) complain(reply.error.text, reply.error.fix && (() => ask(reply.error.fix.op)), reply.error.fix?.label);
  if (reply.said?.length) complain(reply.said.join(" "), null, "", "note");
  showAll();
}

/** Take the totals and the lesions of an answer, unless those of a later one are here. */
export function takeTotals(reply) {
  if (reply.n >= totalled) {
    totalled = reply.n;
    state.totals = reply.totals || {};
    state.runs = reply.runs || {};
    state.lesions = reply.lesions || [];
    if (!lesionHere()) state.lesion = state.lesions[0]?.id ?? 1;
  }
  if (reply.roles) {
    state.role = reply.role;
    state.roles = reply.roles;
  }
}

export function takeChoices(choices) {
  state.choices = choices;
  tell("choices");
}

/** Take what is marked on some slices, as Python sends it: by slice. */
export function keepSlices(found = {}) {
  for (const [key, marks] of Object.entries(found)) keepSlice(Number(key), marks);
}

function keepSlice(slice, marks) {
  if (marks.n < state.slices.get(slice)?.n) return; // answers may overtake each other
  const boxes = { ...marks.boxes };
  for (const op of queue.ops) {
    // Boxes that Python has yet to answer are the ones to show.
    if (op.op === "boxes" && op.slice === slice) boxes[op.lesion] = state.slices.get(slice)?.boxes[op.lesion] ?? [];
  }
  const masks = {};
  for (const [model, byLesion] of Object.entries(marks.masks)) {
    masks[model] = {};
    for (const [id, runs] of Object.entries(byLesion)) masks[model][id] = new Mask(runs, state.scan.shape);
  }
  state.slices.set(slice, { ...marks, boxes, masks });
  if (slice === state.k && state.selected >= boxesHere().length) state.selected = -1;
}

/** Say the volumes of the slice on screen. */
export function announceVolumes() {
  const { k, totals } = state;
  const rows = modelsInSight().map((model) => ({ title: titleOf(model), here_ml: here().ml[model], total_ml: totals[model] }));
  announce(volumesSentence(k, rows));
}

join({
  slow: [...OPENS],
  actions: {
    cancel: () => {
      const asked = queue.ops.filter(({ id }) => id <= underWay);
      say({ cancel: true, ops: asked.map(({ op, id }) => ({ op, id })) });
      host.trigger("look");
    },
  },
  start: () => host.watch("reply", onReply),
  queued: () => { if (underWay) bePatient(); }, // others are served: it is not lost
  away: () => clearTimeout(patience),
  back: ({ another, wasAway }) => { if (!another && wasAway && underWay) bePatient(); },
  broken: () => { if (underWay && eventNow() === "work") deliver(); }, // the stream would have brought the answer
});
