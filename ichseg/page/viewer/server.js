// Asking Python: one request under way, each operation sent until it is answered.

const SLOW = new Set(["open", "sample", "reopen", "models", "export", "truth", "fetch", "propagate", "load", "switch"]);
const OPENS = new Set(["open", "sample", "reopen"]);
const PATIENCE_MS = { edit: 15000, work: 120000 };
const ATTEMPTS = 3; // an answer may be lost on the way: asking again does nothing twice
const ops = [];
let lastOp = 0;
let underWay = 0; // the number of the last operation that was sent
let lastReply = 0;
let patience = 0;
let attempts = 0;

function ask(op) {
  if (lost && !OPENS.has(op.op)) return; // boxes are kept here meanwhile
  if (OPENS.has(op.op)) noteOpening(op);
  const before = ops.at(-1);
  const redone =
    op.op === "boxes" && before?.op === "boxes" && before.id > underWay &&
    before.slice === op.slice && before.lesion === op.lesion && before.boxes.length === op.boxes.length;
  if (redone) ops.pop(); // the same boxes, adjusted again before anybody looked
  ops.push({ ...op, id: ++lastOp });
  root.dataset.pending = ops.length;
  send();
  showState();
}

function send() {
  if (underWay || !ops.length) return;
  underWay = ops.at(-1).id;
  attempts = 0;
  deliver();
}

const eventNow = () => (ops.some((op) => SLOW.has(op.op)) ? "work" : "edit");

function deliver() {
  bePatient();
  say({ busy: false });
  trigger(eventNow());
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

function askAgain() {
  // The stream that would have brought the answer broke.
  if (underWay && eventNow() === "work") deliver();
}

function say(extra) {
  // Everything that is unanswered goes along, so that no later message can overtake an earlier one.
  const followup = comparingScans.open; // whether the growth is wanted with the answer
  props.value = { case: scan?.token ?? null, slice: k, ops: ops.map((op) => ({ ...op })), at: Date.now(), followup, ...extra };
}

function giveUp() {
  underWay = 0;
  busy(null);
  complain({ text: "The server does not answer. What is shown stays until the page is reloaded; check the connection." }, send, "Try again");
}

let lookTimer = 0;
function look(isBusy) {
  if (!scan) return;
  clearTimeout(lookTimer);
  lookTimer = setTimeout(() => {
    say({ busy: isBusy });
    trigger("look");
  }, isBusy ? 0 : 250);
}

watch("reply", () => {
  const reply = props.reply;
  if (!reply?.n || reply.n === lastReply) return; // Gradio may hand out the same one twice
  lastReply = reply.n;
  if (reply.done === null) {
    clearTimeout(patience); // it is at work
    busy(reply.progress);
    return;
  }
  while (ops.length && ops[0].id <= reply.done) ops.shift();
  if (reply.done >= underWay) {
    underWay = 0;
    clearTimeout(patience);
  }
  if (reply.gone) return loseScan("The server no longer has this scan");
  take(reply);
  // A box was answered by the left pane's method alone; the others' masks are asked for at once.
  for (const slice of reply.later ?? []) ask({ op: "complete", slice });
  root.dataset.pending = ops.length;
  root.dataset.done = reply.done;
  send();
});

function take(reply) {
  if (reply.scan) fetchScan(reply.scan, reply);
  else busy(null);
  if (reply.models && (reply.scan || !ops.some((op) => op.op === "models"))) models = reply.models;
  takeTotals(reply);
  takeRoles(reply);
  takeGrowth(reply.growth);
  history = { undo: reply.undo, redo: reply.redo };
  if (reply.edge !== undefined && !ops.some((op) => op.op === "edge")) edge = reply.edge;
  trouble = reply.trouble || {};
  if (reply.method) method = reply.method;
  if (reply.choices) takeChoices(reply.choices);
  if (reply.truth !== undefined && !reply.scan) takeTruth(reply.truth);
  if (!reply.scan) takeSlices(reply);
  takeMeasures(reply.measures);
  if (reply.error) complain(reply.error, reply.error.fix && (() => ask(reply.error.fix.op)), reply.error.fix?.label);
  if (reply.error?.choose) offerSeries(reply.error.choose);
  if (reply.said?.length) complain({ text: reply.said.join(" ") }, null, "", "note");
  if (reply.download) save(reply.download);
  havePutBack(reply);
  showAll();
}

let totalled = 0; // the number of the reply that the totals are of
function takeTotals(reply) {
  if (reply.n < totalled) return;
  totalled = reply.n;
  totals = reply.totals || {};
  runs = reply.runs || {};
  lesions = reply.lesions || [];
  if (!lesionHere()) lesion = lesions[0]?.id ?? 1;
}

function keepSlice(slice, state) {
  if (state.n < slices.get(slice)?.n) return; // answers may overtake each other
  const boxes = { ...state.boxes };
  for (const op of ops) {
    // Boxes that Python has yet to answer are the ones to show.
    if (op.op === "boxes" && op.slice === slice) boxes[op.lesion] = slices.get(slice)?.boxes[op.lesion] ?? [];
  }
  const masks = {};
  for (const [model, byLesion] of Object.entries(state.masks)) {
    masks[model] = {};
    for (const [id, runs] of Object.entries(byLesion)) masks[model][id] = new Mask(runs, scan.shape);
  }
  slices.set(slice, { ...state, boxes, masks });
  if (slice === k && selected >= boxesHere().length) selected = -1;
}

function takeSlices(reply) {
  const changed = Object.keys(reply.slices || {}).map(Number);
  for (const slice of changed) keepSlice(slice, reply.slices[slice]);
  if (reply.lesion) lesion = reply.lesion;
  if (reply.show !== undefined) goTo(reply.show);
  else if (jump && changed.length && !changed.includes(k)) goTo(changed[0]);
  jump = false;
  if (changed.includes(k) && !reply.later) announceVolumes();
}
let jump = false; // go to a slice that the next undo or redo changes
