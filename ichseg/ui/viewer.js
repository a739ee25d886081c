// The viewer. Gradio runs this once as a function body, with `element`, `trigger`, `props` and `watch`.
// The scan is fetched once and windowed here; Python is asked only for masks, files and numbers.
"use strict";

const one = (selector, within = element) => within.querySelector(selector);
const all = (selector, within = element) => [...within.querySelectorAll(selector)];
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

const root = one(".ich");
const slider = one(".ich-slider");
const strip = one(".ich-strip");
const live = one(".ich-hidden");
const panes = all(".ich-pane").map((node) => ({
  node,
  canvas: one(".ich-stage canvas", node),
  chooser: one("select", node),
  sliceMl: one(".ich-slice-ml", node),
  totalMl: one(".ich-total-ml", node),
  corner: Object.fromEntries(all(".ich-corner", node).map((span) => [span.dataset.corner, span])),
}));
const ink = (name) => getComputedStyle(root).getPropertyValue(name).trim();
const colours = [ink("--ich-model"), ink("--ich-baseline")];

// ---- State ---------------------------------------------------------------------------------------

let scan = null; // {token, hu: Int16Array, shape: [z, y, x], spacing: [z, y, x], name}
let k = 0; // the slice on screen, from 0
let models = []; // the two methods, left and right
let slices = new Map(); // k -> {boxes: [[x0, y0, x1, y1]], masks: {model: Mask}, ml: {model: mL}}
let totals = {};
let history = { undo: false, redo: false };
let trouble = {}; // model -> what went wrong with it
const shown = { width: 80, level: 40, masks: true, fill: false, opacity: 0.35 };
const view = { zoom: 1, x: 0.5, y: 0.5 }; // the centre of the view in fractions of the slice
let selected = -1; // a box of this slice
let draft = null; // a box being made or changed: {box, index (-1 for a new one), keys}
let pointer = null; // where the mouse is, in pixels of the slice

const here = () => slices.get(k) || { boxes: [], masks: {}, ml: {} };
const marked = () => [...slices.keys()].filter((slice) => slices.get(slice).boxes.length);

// ---- Asking Python: one request under way, each operation until it is answered ----------------------

const SLOW = new Set(["open", "sample", "reopen", "models", "export"]);
const PATIENCE_MS = { edit: 15000, work: 120000 };
const ATTEMPTS = 3; // an answer may be lost on the way: asking again does nothing twice
const ops = [];
let lastOp = 0;
let underWay = 0; // the number of the last operation that was sent
let lastReply = 0;
let patience = 0;
let attempts = 0;

function ask(op) {
  const before = ops.at(-1);
  const redone =
    op.op === "boxes" && before?.op === "boxes" && before.id > underWay &&
    before.slice === op.slice && before.boxes.length === op.boxes.length;
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

function deliver() {
  const event = ops.some((op) => SLOW.has(op.op)) ? "work" : "edit";
  clearTimeout(patience);
  patience = setTimeout(() => (++attempts < ATTEMPTS ? deliver() : giveUp()), PATIENCE_MS[event]);
  say({ busy: false });
  trigger(event);
}

function say(extra) {
  // Everything that is unanswered goes along, so that no later message can overtake an earlier one.
  props.value = { case: scan?.token ?? null, slice: k, ops: ops.map((op) => ({ ...op })), at: Date.now(), ...extra };
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
  take(reply);
  root.dataset.pending = ops.length;
  root.dataset.done = reply.done;
  send();
});

function take(reply) {
  if (reply.scan) fetchScan(reply.scan, reply);
  else busy(null);
  if (reply.models && (reply.scan || !ops.some((op) => op.op === "models"))) models = reply.models;
  totals = reply.totals || {};
  history = { undo: reply.undo, redo: reply.redo };
  trouble = reply.trouble || {};
  if (!reply.scan) for (const [key, state] of Object.entries(reply.slices || {})) takeSlice(Number(key), state);
  if (reply.error) complain(reply.error, reply.error.fix && (() => ask(reply.error.fix.op)), reply.error.fix?.label);
  if (reply.download) save(reply.download);
  showAll();
}

function takeSlice(slice, state) {
  const waiting = ops.some((op) => op.op === "boxes" && op.slice === slice);
  const boxes = waiting ? slices.get(slice)?.boxes ?? [] : state.boxes;
  const masks = {};
  for (const [model, runs] of Object.entries(state.masks)) masks[model] = new Mask(runs, scan.shape);
  slices.set(slice, { boxes, masks, ml: state.ml });
  if (slice === k && selected >= boxes.length) selected = -1;
  if (jump && slice !== k) goTo(slice);
  jump = false;
  if (slice === k) announceVolumes();
}
let jump = false; // go to the slice that the next undo or redo changes

function serverPath(path) {
  const config = window.gradio_config || {};
  const base = (config.root || document.baseURI).replace(/[/]$/, "");
  return base + (config.api_prefix || "/gradio_api") + path;
}

// ---- The scan ------------------------------------------------------------------------------------

async function fetchScan(description, reply) {
  busy({ text: "Loading the scan", part: 0 });
  try {
    const voxels = await fetchVoxels(serverPath("/file=" + description.voxels), description.shape);
    adopt(description, voxels, reply);
  } catch (error) {
    complain(
      { text: "The scan could not be fetched from the server; check the connection and try again." },
      () => fetchScan(description, reply), "Try again",
    );
  }
  busy(null);
}

async function fetchVoxels(url, [depth, rows, columns]) {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(answer.statusText);
  const size = Number(answer.headers.get("content-length")) || 0;
  let got = 0;
  const counted = new TransformStream({
    transform(chunk, controller) {
      got += chunk.length;
      if (size) busy({ text: "Loading the scan", part: got / size });
      controller.enqueue(chunk);
    },
  });
  const plain = answer.body.pipeThrough(counted).pipeThrough(new DecompressionStream("gzip"));
  const hu = new Int16Array(await new Response(plain).arrayBuffer());
  if (hu.length !== depth * rows * columns) throw new Error("truncated");
  for (let row = 0; row < hu.length; row += columns) {
    for (let i = row + 1; i < row + columns; i++) hu[i] += hu[i - 1]; // rows come as differences
  }
  return hu;
}

function adopt(description, hu, reply) {
  scan = { ...description, token: reply.case, hu };
  slices = new Map();
  totals = {};
  models = reply.models;
  k = Math.floor(scan.shape[0] / 2);
  selected = -1;
  draft = null;
  Object.assign(view, { zoom: 1, x: 0.5, y: 0.5 });
  base.width = scan.shape[2];
  base.height = scan.shape[1];
  painted = "";
  slider.max = scan.shape[0];
  root.dataset.state = "ready";
  root.dataset.case = scan.token;
  hush();
  describe();
  resize();
  showAll();
  ask({ op: "fetched" });
  live.textContent = "Scan loaded: " + scan.name + ", " + scan.shape[0] + " slices.";
  panes[0].canvas.focus({ preventScroll: true });
}

function describe() {
  const [depth, rows, columns] = scan.shape;
  const [dz, dy, dx] = scan.spacing.map((mm) => String(Number(mm.toFixed(2))));
  one(".ich-scan").textContent = scan.name;
  one(".ich-grid").textContent = columns + " × " + rows + " × " + depth + ", " + dx + " × " + dy + " × " + dz + " mm";
  const sentence = (note) => note[0].toUpperCase() + note.slice(1).replace(/[.]?$/, ".");
  one(".ich-notes").textContent = scan.notes.map(sentence).join(" ");
  one("[data-save=mask]").title = scan.even
    ? "The left pane's mask as NIfTI on the scan's own grid"
    : "The left pane's mask as a zip of PNG slices: NIfTI cannot hold uneven slices";
  const chooser = one(".ich-series");
  chooser.hidden = !scan.series.length;
  const list = one("select", chooser);
  list.replaceChildren(new Option(scan.name, ""));
  for (const other of scan.series) {
    const option = new Option(other.label + ", " + other.slices + " slices", other.key);
    option.disabled = Boolean(other.refusal);
    option.title = other.refusal;
    list.add(option);
  }
}

// ---- Masks ---------------------------------------------------------------------------------------

class Mask {
  // `runs` are the flat indices, row by row, at which the mask turns on and off.
  constructor(runs, [, rows, columns]) {
    this.pixels = new Uint8Array(rows * columns);
    for (let i = 0; i < runs.length; i += 2) this.pixels.fill(1, runs[i], runs[i + 1]);
    this.path = outlineOf(this.pixels, rows, columns);
  }
}

function outlineOf(pixels, rows, columns) {
  // The closed loops along pixel edges, with the mask on the right of each directed edge.
  const next = new Map(); // start corner -> end corners
  const width = columns + 1;
  const edge = (from, to) => (next.has(from) ? next.get(from).push(to) : next.set(from, [to]));
  for (let y = 0, i = 0; y < rows; y++) {
    for (let x = 0; x < columns; x++, i++) {
      if (!pixels[i]) continue;
      const corner = y * width + x;
      if (y === 0 || !pixels[i - columns]) edge(corner, corner + 1);
      if (x === columns - 1 || !pixels[i + 1]) edge(corner + 1, corner + 1 + width);
      if (y === rows - 1 || !pixels[i + columns]) edge(corner + 1 + width, corner + width);
      if (x === 0 || !pixels[i - 1]) edge(corner + width, corner);
    }
  }
  const path = new Path2D();
  while (next.size) {
    const start = next.keys().next().value;
    let at = start;
    path.moveTo(at % width, Math.floor(at / width));
    do {
      const ends = next.get(at);
      const to = ends.pop();
      if (!ends.length) next.delete(at);
      path.lineTo(to % width, Math.floor(to / width));
      at = to;
    } while (at !== start);
    path.closePath();
  }
  return path;
}

// ---- Drawing -------------------------------------------------------------------------------------

const base = document.createElement("canvas"); // the slice at one canvas pixel a voxel
const table = new Uint32Array(65536); // HU + 32768 -> grey, opaque
let painted = ""; // what `base` holds
let tabled = "";
let frame = 0;

function draw() {
  if (!frame) frame = requestAnimationFrame(() => { frame = 0; drawNow(); });
}

function drawNow() {
  if (!scan) return;
  paintBase();
  panes.forEach(drawPane);
}

function paintBase() {
  const want = [scan.token, k, shown.width, shown.level].join();
  if (want === painted) return;
  const window = shown.width + "," + shown.level;
  if (window !== tabled) {
    const low = shown.level - shown.width / 2;
    for (let i = 0; i < 65536; i++) {
      const grey = clamp(Math.round(((i - 32768 - low) / shown.width) * 255), 0, 255);
      table[i] = 0xff000000 | (grey << 16) | (grey << 8) | grey;
    }
    tabled = window;
  }
  const [, rows, columns] = scan.shape;
  const image = new ImageData(columns, rows);
  const out = new Uint32Array(image.data.buffer);
  const offset = k * rows * columns;
  for (let i = 0; i < out.length; i++) out[i] = table[scan.hu[offset + i] + 32768];
  base.getContext("2d").putImageData(image, 0, 0);
  painted = want;
}

function placement(canvas) {
  // Slice pixel (x, y) lies at (left + x * sx, top + y * sy) in CSS pixels of the canvas.
  const [, rows, columns] = scan.shape;
  const [, dy, dx] = scan.spacing;
  const width = canvas.clientWidth, height = canvas.clientHeight;
  const scale = Math.min(width / (columns * dx), height / (rows * dy)) * view.zoom;
  const sx = scale * dx, sy = scale * dy;
  return { sx, sy, left: width / 2 - view.x * columns * sx, top: height / 2 - view.y * rows * sy };
}

function drawPane(pane, number) {
  const { canvas } = pane;
  const ratio = window.devicePixelRatio || 1;
  const context = canvas.getContext("2d");
  const { sx, sy, left, top } = placement(canvas);
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(base, left, top, base.width * sx, base.height * sy);
  const mask = shown.masks && here().masks[models[number]];
  if (mask) {
    const path = new Path2D();
    path.addPath(mask.path, new DOMMatrix([sx, 0, 0, sy, left, top]));
    context.fillStyle = context.strokeStyle = colours[number];
    context.lineJoin = "round";
    if (shown.fill) {
      context.globalAlpha = shown.opacity;
      context.fill(path, "evenodd");
      context.globalAlpha = 1;
    }
    context.lineWidth = 1.5;
    context.stroke(path);
  }
  drawBoxes(context, { sx, sy, left, top });
  if (pointer && pointer.pane !== number && !draft) drawCross(context, { sx, sy, left, top });
}

function drawBoxes(context, { sx, sy, left, top }) {
  const boxes = here().boxes.slice();
  if (draft) boxes[draft.index < 0 ? boxes.length : draft.index] = draft.box;
  const current = draft ? (draft.index < 0 ? boxes.length - 1 : draft.index) : selected;
  boxes.forEach(([x0, y0, x1, y1], index) => {
    const x = left + x0 * sx, y = top + y0 * sy, width = (x1 - x0) * sx, height = (y1 - y0) * sy;
    const on = index === current;
    context.setLineDash(draft?.keys && on ? [5, 4] : []);
    context.lineWidth = 3;
    context.strokeStyle = "rgba(0, 0, 0, 0.45)";
    context.strokeRect(x, y, width, height);
    context.lineWidth = on ? 1.5 : 1;
    context.strokeStyle = on ? "#ffffff" : "rgba(255, 255, 255, 0.7)";
    context.strokeRect(x, y, width, height);
    context.setLineDash([]);
    if (!on) return;
    context.fillStyle = "#ffffff";
    const grip = Math.min(width, height) < 24 ? 4 : 6;
    for (const [cx, cy] of [[x, y], [x + width, y], [x, y + height], [x + width, y + height]]) {
      context.fillRect(cx - grip / 2, cy - grip / 2, grip, grip);
    }
  });
}

function drawCross(context, { sx, sy, left, top }) {
  const x = left + pointer.x * sx, y = top + pointer.y * sy;
  context.strokeStyle = "rgba(255, 255, 255, 0.55)";
  context.lineWidth = 1;
  context.beginPath();
  for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
    context.moveTo(x + 4 * dx, y + 4 * dy);
    context.lineTo(x + 11 * dx, y + 11 * dy);
  }
  context.stroke();
}

function resize() {
  const ratio = window.devicePixelRatio || 1;
  for (const canvas of [...panes.map((pane) => pane.canvas), strip]) {
    canvas.width = Math.round(canvas.clientWidth * ratio);
    canvas.height = Math.round(canvas.clientHeight * ratio);
  }
  drawNow();
  drawStrip();
}
new ResizeObserver(resize).observe(root);

const THUMB_PX = 16; // the slider's thumb, as the style sheet has it: its centre runs THUMB_PX short of the ends

function drawStrip() {
  if (!scan) return;
  const ratio = window.devicePixelRatio || 1;
  const context = strip.getContext("2d");
  const width = strip.clientWidth, height = strip.clientHeight;
  const step = (width - THUMB_PX) / Math.max(1, scan.shape[0] - 1);
  const bar = clamp(step / 2 - 1, 1, 6);
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  context.fillStyle = ink("--ich-tick");
  for (let slice = 0; slice < scan.shape[0]; slice++) {
    context.fillRect(THUMB_PX / 2 + slice * step - 0.5, height - 3, 1, 3);
  }
  const most = Math.max(0.001, ...marked().flatMap((slice) => Object.values(slices.get(slice).ml)));
  for (const slice of marked()) {
    const middle = THUMB_PX / 2 + slice * step;
    models.forEach((model, number) => {
      const part = (slices.get(slice).ml[model] ?? 0) / most;
      const tall = part ? Math.max(2, part * (height - 1)) : 1;
      context.fillStyle = ink(number ? "--ich-baseline-ink" : "--ich-model-ink");
      context.fillRect(middle + (number ? 0.5 : -bar - 0.5), height - tall, bar, tall);
    });
  }
}

strip.addEventListener("pointerdown", (event) => {
  const step = (strip.clientWidth - THUMB_PX) / Math.max(1, scan.shape[0] - 1);
  goTo(Math.round((event.offsetX - THUMB_PX / 2) / step));
});

// ---- What stands beside the picture -----------------------------------------------------------------

const number = (ml) => (Number.isFinite(ml) ? ml.toFixed(ml < 10 ? 2 : 1) : "–");

function showAll() {
  if (scan) {
    showSlice();
    showTools();
    drawStrip();
  }
  showState();
  draw();
}

function showSlice() {
  const depth = scan.shape[0];
  slider.value = k + 1;
  slider.setAttribute("aria-valuetext", "slice " + (k + 1) + " of " + depth);
  root.dataset.slice = k;
  one(".ich-count").textContent = k + 1 + " / " + depth;
  const boxes = here().boxes.length;
  panes.forEach((pane, index) => {
    pane.sliceMl.textContent = number(here().ml[models[index]]);
    pane.totalMl.textContent = marked().length ? number(totals[models[index]]) : "–";
    pane.chooser.value = models[index];
    pane.corner.slice.textContent = k + 1 + " / " + depth;
    pane.corner.window.textContent = "W " + shown.width + "  L " + shown.level;
    pane.canvas.setAttribute(
      "aria-label",
      "Slice " + (k + 1) + " of " + depth + ", " + boxes + (boxes === 1 ? " box" : " boxes") +
        ". Arrow keys change the slice, B places a box, question mark for help.",
    );
  });
}

function showTools() {
  const set = (name, enabled) => { one("[data-do=" + name + "]").disabled = !enabled; };
  set("undo", history.undo);
  set("redo", history.redo);
  set("delete", selected >= 0);
  set("clear_slice", here().boxes.length > 0);
  set("clear", marked().length > 0);
  for (const button of all("[data-save]")) button.disabled = button.dataset.save !== "picture" && !marked().length;
  const press = (name, on) => one("[data-do=" + name + "]").setAttribute("aria-pressed", String(on));
  press("mask", shown.masks);
  press("fill", shown.fill);
  press("outline", !shown.fill);
  one(".ich-opacity").hidden = !shown.fill;
  one(".ich-width").value = shown.width;
  one(".ich-level").value = shown.level;
  for (const button of all(".ich-presets button")) {
    const { width, level } = button.dataset;
    button.setAttribute("aria-pressed", String(Number(width) === shown.width && Number(level) === shown.level));
  }
  one(".ich-zoom").textContent = Math.round(view.zoom * 100) + "%";
}

let slowTimer = 0;
function showState() {
  // A pane says what it is doing only when that takes longer than a glance.
  const waiting = ops.some((op) => op.op === "boxes" && op.slice === k);
  panes.forEach((pane, index) => {
    const wrong = trouble[models[index]];
    pane.node.dataset.waiting = waiting;
    pane.corner.state.textContent = wrong || (draft?.keys ? "Arrows move, Shift+arrows resize, Enter sets, Esc cancels" : "");
    pane.corner.state.dataset.wrong = Boolean(wrong);
  });
  clearTimeout(slowTimer);
  if (waiting) {
    slowTimer = setTimeout(() => {
      for (const pane of panes) pane.corner.state.textContent ||= "Segmenting…";
    }, 400);
  }
}

function showHU() {
  const [, rows, columns] = scan.shape;
  panes.forEach((pane, index) => {
    const inside = pointer && pointer.pane === index && pointer.x >= 0 && pointer.y >= 0 && pointer.x < columns && pointer.y < rows;
    const x = Math.floor(pointer?.x), y = Math.floor(pointer?.y);
    pane.corner.hu.textContent = inside ? scan.hu[(k * rows + y) * columns + x] + " HU  (" + x + ", " + y + ")" : "";
  });
}

function announceVolumes() {
  live.textContent =
    "Slice " + (k + 1) + ": " +
    panes.map((pane, index) => titleOf(models[index]) + " " + number(here().ml[models[index]]) + " mL here, " + number(totals[models[index]]) + " in total").join("; ") + ".";
}

const titleOf = (name) => props.choices.find((choice) => choice.name === name)?.title ?? name;

function busy(progress) {
  const overlay = one(".ich-busy");
  overlay.hidden = !progress;
  if (!progress) return;
  const bar = one("progress", overlay);
  one("p", overlay).textContent = progress.text;
  if (progress.part === null || progress.part === undefined) bar.removeAttribute("value");
  else bar.value = progress.part;
}

let repair = null;
function complain(error, cure, label) {
  const alert = one(".ich-alert");
  one("p", alert).textContent = error.text;
  repair = cure || null;
  const button = one(".ich-fix");
  button.hidden = !cure;
  button.textContent = label || "";
  alert.hidden = false;
}

function hush() {
  one(".ich-alert").hidden = true;
}

// ---- Editing -------------------------------------------------------------------------------------

function goTo(slice) {
  if (!scan) return;
  const target = clamp(slice, 0, scan.shape[0] - 1);
  if (target === k) return;
  cancelDraft();
  k = target;
  selected = -1;
  showSlice();
  showTools();
  showState();
  if (pointer) showHU();
  draw();
  look(false);
}

function setBoxes(boxes) {
  const state = here();
  slices.set(k, { ...state, boxes, ...(boxes.length ? {} : { masks: {}, ml: {} }) });
  ask({ op: "boxes", slice: k, boxes });
  showAll();
}

function commitDraft() {
  const { box, index } = draft;
  draft = null;
  const boxes = here().boxes.slice();
  if (index < 0) boxes.push(box);
  else boxes[index] = box;
  selected = index < 0 ? boxes.length - 1 : index;
  setBoxes(boxes);
}

function cancelDraft() {
  if (!draft) return false;
  draft = null;
  showState();
  draw();
  return true;
}

function deleteSelected() {
  if (selected < 0) return;
  const boxes = here().boxes.filter((_, index) => index !== selected);
  selected = -1;
  draft = null;
  setBoxes(boxes);
}

function clearSlice() {
  if (!here().boxes.length) return;
  selected = -1;
  slices.delete(k);
  ask({ op: "clear_slice", slice: k });
  showAll();
}

function clearAll() {
  selected = -1;
  slices = new Map();
  totals = {};
  ask({ op: "clear" });
  showAll();
}

function timeTravel(op) {
  if (!ops.length && !history[op]) return;
  selected = -1;
  jump = true;
  ask({ op });
}

function setWindow(width, level) {
  shown.width = clamp(Math.round(width), 1, 4000);
  shown.level = clamp(Math.round(level), -1000, 3000);
  showSlice();
  showTools();
  draw();
}

function zoomTo(zoom, at) {
  // Keep the slice's point `at` (in fractions) where it is on screen.
  const target = clamp(zoom, 1, 12);
  const { x, y } = at ?? view;
  const part = view.zoom / target;
  view.zoom = target;
  moveView(x + (view.x - x) * part, y + (view.y - y) * part);
}

function moveView(x, y) {
  const margin = 0.5 / view.zoom;
  view.x = view.zoom === 1 ? 0.5 : clamp(x, Math.min(margin, 0.5), Math.max(1 - margin, 0.5));
  view.y = view.zoom === 1 ? 0.5 : clamp(y, Math.min(margin, 0.5), Math.max(1 - margin, 0.5));
  showTools();
  draw();
}

// ---- The pointer ---------------------------------------------------------------------------------

const touches = new Map();
let gesture = null; // {kind, ...} from pointerdown to pointerup
let spaceDown = false;

function at(event, canvas) {
  const { sx, sy, left, top } = placement(canvas);
  const frame = canvas.getBoundingClientRect();
  return { x: (event.clientX - frame.left - left) / sx, y: (event.clientY - frame.top - top) / sy, sx, sy };
}

function handleAt({ x, y, sx, sy }, reach) {
  // Which part of the selected box lies under the pointer: [hx, hy] in -1, 0, 1; [0, 0] is its inside.
  const box = here().boxes[selected];
  if (!box) return null;
  const [x0, y0, x1, y1] = box;
  const rx = reach / sx, ry = reach / sy;
  if (x < x0 - rx || x > x1 + rx || y < y0 - ry || y > y1 + ry) return null;
  const side = (value, low, high, r) => {
    const near = Math.min(r, (high - low) / 3 + r / 3);
    return Math.abs(value - low) <= near ? -1 : Math.abs(value - high) <= near ? 1 : 0;
  };
  return [side(x, x0, x1, rx), side(y, y0, y1, ry)];
}

const CURSORS = { "-1,-1": "nwse-resize", "1,1": "nwse-resize", "-1,1": "nesw-resize", "1,-1": "nesw-resize", "0,0": "move", "-1,0": "ew-resize", "1,0": "ew-resize", "0,-1": "ns-resize", "0,1": "ns-resize" };

function boxBetween(a, b) {
  // The whole pixels between two points, on the slice; null where the drag was no more than a click.
  const [, rows, columns] = scan.shape;
  const x0 = clamp(Math.round(Math.min(a.x, b.x)), 0, columns), x1 = clamp(Math.round(Math.max(a.x, b.x)), 0, columns);
  const y0 = clamp(Math.round(Math.min(a.y, b.y)), 0, rows), y1 = clamp(Math.round(Math.max(a.y, b.y)), 0, rows);
  return x1 - x0 < 2 || y1 - y0 < 2 ? null : [x0, y0, x1, y1];
}

function reshape([x0, y0, x1, y1], [hx, hy], dx, dy) {
  const [, rows, columns] = scan.shape;
  if (!hx && !hy) {
    const mx = clamp(Math.round(dx), -x0, columns - x1), my = clamp(Math.round(dy), -y0, rows - y1);
    return [x0 + mx, y0 + my, x1 + mx, y1 + my];
  }
  const move = (low, high, h, d, size) => {
    if (h < 0) low = clamp(Math.round(low + d), 0, size);
    if (h > 0) high = clamp(Math.round(high + d), 0, size);
    if (low > high) [low, high] = [high, low]; // dragged past the other side
    if (high - low < 2) h < 0 ? (low = Math.max(0, high - 2)) : (high = Math.min(size, low + 2));
    return [low, high];
  };
  const [left, right] = move(x0, x1, hx, dx, columns);
  const [top, bottom] = move(y0, y1, hy, dy, rows);
  return [left, top, right, bottom];
}

function startGesture(event, pane) {
  const point = at(event, pane.canvas);
  const start = { clientX: event.clientX, clientY: event.clientY };
  if (event.button === 2) return { kind: "window", ...start, width: shown.width, level: shown.level };
  if (event.button === 1 || spaceDown) return { kind: "pan", ...start, x: view.x, y: view.y };
  const handle = event.shiftKey ? null : handleAt(point, event.pointerType === "touch" ? 20 : 7);
  look(true); // the slice is embedded while the person draws
  if (handle) return { kind: "adjust", handle, point, index: selected, box: here().boxes[selected] };
  return { kind: "new", point };
}

function onPointerDown(event, pane) {
  if (!scan) return;
  event.preventDefault();
  pane.canvas.focus({ preventScroll: true });
  pane.canvas.setPointerCapture(event.pointerId);
  cancelDraft();
  if (event.pointerType === "touch") {
    touches.set(event.pointerId, event);
    if (touches.size === 2) {
      gesture = pinch();
      return;
    }
  }
  gesture = startGesture(event, pane);
}

function onPointerMove(event, pane, index) {
  if (!scan) return;
  const point = at(event, pane.canvas);
  if (event.pointerType !== "touch") {
    pointer = { ...point, pane: index };
    showHU();
  }
  if (touches.has(event.pointerId)) touches.set(event.pointerId, event);
  if (gesture) continueGesture(event, pane, point);
  else {
    const handle = event.shiftKey ? null : handleAt(point, 7);
    pane.canvas.style.cursor = spaceDown ? "grab" : handle ? CURSORS[handle.join()] : "crosshair";
  }
  draw();
}

function continueGesture(event, pane, point) {
  const dx = event.clientX - gesture.clientX, dy = event.clientY - gesture.clientY;
  if (gesture.kind === "new") {
    const box = boxBetween(gesture.point, point);
    draft = box && { box, index: -1 };
  } else if (gesture.kind === "adjust") {
    draft = { box: reshape(gesture.box, gesture.handle, point.x - gesture.point.x, point.y - gesture.point.y), index: gesture.index };
  } else if (gesture.kind === "window") {
    const speed = Math.max(0.2, gesture.width / 400);
    setWindow(gesture.width + dx * speed, gesture.level - dy * speed);
  } else if (gesture.kind === "pan") {
    const { sx, sy } = placement(pane.canvas);
    moveView(gesture.x - dx / (sx * scan.shape[2]), gesture.y - dy / (sy * scan.shape[1]));
  } else if (gesture.kind === "pinch" && touches.size === 2) {
    const now = pinch();
    zoomTo((gesture.zoom * now.spread) / gesture.spread);
    const { sx, sy } = placement(pane.canvas);
    moveView(gesture.x - (now.cx - gesture.cx) / (sx * scan.shape[2]), gesture.y - (now.cy - gesture.cy) / (sy * scan.shape[1]));
  }
}

function pinch() {
  const [a, b] = [...touches.values()];
  return {
    kind: "pinch", spread: Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY),
    cx: (a.clientX + b.clientX) / 2, cy: (a.clientY + b.clientY) / 2, zoom: view.zoom, x: view.x, y: view.y,
  };
}

function onPointerUp(event, pane) {
  touches.delete(event.pointerId);
  const done = gesture;
  gesture = null;
  if (!done || !scan) return;
  if (draft && String(draft.box) !== String(done.box)) commitDraft();
  else if (done.kind === "new") pick(done.point);
  else cancelDraft();
}

function pick({ x, y }) {
  // A click takes up the box under it, the smallest where several are.
  const area = ([x0, y0, x1, y1]) => (x1 - x0) * (y1 - y0);
  const hit = here().boxes
    .map((box, index) => ({ box, index }))
    .filter(({ box: [x0, y0, x1, y1] }) => x >= x0 && x < x1 && y >= y0 && y < y1)
    .sort((a, b) => area(a.box) - area(b.box));
  selected = hit.length ? hit[0].index : -1;
  draft = null;
  showTools();
  draw();
}

let wheelSum = 0;
function onWheel(event, pane) {
  if (!scan) return;
  event.preventDefault();
  const delta = event.deltaMode === 1 ? event.deltaY * 40 : event.deltaY;
  if (event.ctrlKey || event.metaKey) {
    const { x, y } = at(event, pane.canvas);
    zoomTo(view.zoom * Math.exp(-clamp(delta, -100, 100) / 400), { x: x / scan.shape[2], y: y / scan.shape[1] });
    return;
  }
  // A notch of a wheel is one slice; a trackpad's small steps add up to one.
  wheelSum = Math.abs(delta) >= 60 ? Math.sign(delta) * 40 : wheelSum + delta;
  if (Math.abs(wheelSum) >= 40) {
    goTo(k + Math.sign(wheelSum));
    wheelSum = 0;
  }
}

panes.forEach((pane, index) => {
  const { canvas } = pane;
  canvas.addEventListener("pointerdown", (event) => onPointerDown(event, pane));
  canvas.addEventListener("pointermove", (event) => onPointerMove(event, pane, index));
  canvas.addEventListener("pointerup", (event) => onPointerUp(event, pane));
  canvas.addEventListener("pointercancel", () => { touches.clear(); gesture = null; cancelDraft(); });
  canvas.addEventListener("pointerleave", () => { pointer = null; if (scan) showHU(); draw(); });
  canvas.addEventListener("wheel", (event) => onWheel(event, pane), { passive: false });
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
});

// ---- The keyboard --------------------------------------------------------------------------------

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const FAST_PX = 5; // a step of a key that is held down

function placeByKeys() {
  const [, rows, columns] = scan.shape;
  const x = Math.round(view.x * columns), y = Math.round(view.y * rows);
  const rx = Math.round(columns / 10 / view.zoom), ry = Math.round(rows / 10 / view.zoom);
  draft = { box: [x - rx, y - ry, x + rx, y + ry].map(Math.round), index: -1, keys: true };
  afterKeys();
}

function takeUpNext() {
  if (!here().boxes.length) return;
  selected = (selected + 1) % here().boxes.length;
  draft = { box: here().boxes[selected], index: selected, keys: true };
  afterKeys();
  showTools();
}

function afterKeys() {
  look(true);
  showState();
  draw();
  const [x0, y0, x1, y1] = draft.box;
  live.textContent = "Box from " + x0 + ", " + y0 + " to " + x1 + ", " + y1 + ". Enter sets it, Escape cancels.";
}

function boxKey(event) {
  // While a box is placed by keys the arrows are the box's.
  const arrow = ARROWS[event.key];
  if (arrow) {
    const step = event.repeat ? FAST_PX : 1;
    const grip = event.shiftKey ? arrow.map((value) => (value ? 1 : 0)) : [0, 0];
    draft.box = reshape(draft.box, grip, arrow[0] * step, arrow[1] * step);
    afterKeys();
  } else if (event.key === "Enter") commitDraft();
  else return false;
  return true;
}

const KEYS = {
  ArrowDown: () => goTo(k + 1),
  ArrowRight: () => goTo(k + 1),
  ArrowUp: () => goTo(k - 1),
  ArrowLeft: () => goTo(k - 1),
  PageDown: () => goTo(k + 5),
  PageUp: () => goTo(k - 5),
  Home: () => goTo(0),
  End: () => goTo(scan.shape[0] - 1),
  Delete: deleteSelected,
  Backspace: deleteSelected,
  Escape: () => { if (!cancelDraft()) { selected = -1; showTools(); draw(); } gesture = null; },
  b: placeByKeys,
  n: takeUpNext,
  m: () => DO.mask(),
  f: () => (shown.fill ? DO.outline() : DO.fill()),
  "+": () => DO.zoom_in(),
  "=": () => DO.zoom_in(),
  "-": () => DO.zoom_out(),
  0: () => DO.zoom_fit(),
};

function onKey(event) {
  const target = event.target;
  if (one("dialog[open]")) return;
  if (target.matches?.("select, textarea, input:not([type=range])") || (target.isContentEditable)) return;
  const control = event.ctrlKey || event.metaKey;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (key === "?") return done(event, DO.help);
  if (!scan || event.altKey) return;
  if (control && key === "z") return done(event, () => timeTravel(event.shiftKey ? "redo" : "undo"));
  if (control && key === "y") return done(event, () => timeTravel("redo"));
  if (control) return;
  if (key === " " && target.tagName !== "BUTTON") return done(event, () => { spaceDown = true; });
  if (target.matches?.(".ich-opacity") && (ARROWS[key] || key === "Home" || key === "End")) return;
  if (draft?.keys && boxKey(event)) return event.preventDefault();
  const preset = all(".ich-presets button")[Number(key) - 1];
  if (preset) return done(event, () => preset.click());
  if (KEYS[key]) done(event, KEYS[key]);
}

function done(event, action) {
  event.preventDefault();
  action();
}

document.addEventListener("keydown", onKey);
document.addEventListener("keyup", (event) => { if (event.key === " ") spaceDown = false; });

// ---- Buttons, choosers, files ----------------------------------------------------------------------

const DO = {
  sample: () => replaceScan(() => { busy({ text: "Opening the sample" }); ask({ op: "sample" }); }),
  open: () => one(".ich-file").click(),
  help: () => one(".ich-help").showModal(),
  dismiss: hush,
  previous: () => goTo(k - 1),
  next: () => goTo(k + 1),
  undo: () => timeTravel("undo"),
  redo: () => timeTravel("redo"),
  delete: deleteSelected,
  clear_slice: clearSlice,
  clear: clearAll,
  mask: () => { shown.masks = !shown.masks; showAll(); },
  fill: () => { shown.fill = true; shown.masks = true; showAll(); },
  outline: () => { shown.fill = false; shown.masks = true; showAll(); },
  zoom_in: () => zoomTo(view.zoom * 1.25),
  zoom_out: () => zoomTo(view.zoom / 1.25),
  zoom_fit: () => zoomTo(1),
};

element.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.dataset.do) DO[button.dataset.do]();
  if (button?.dataset.save) download(button.dataset.save);
});
one(".ich-fix").addEventListener("click", () => { hush(); repair?.(); });

slider.addEventListener("input", () => goTo(Number(slider.value) - 1));
one(".ich-opacity").addEventListener("input", (event) => { shown.opacity = event.target.value / 100; draw(); });
for (const name of ["width", "level"]) {
  one(".ich-" + name).addEventListener("change", () => setWindow(Number(one(".ich-width").value) || 80, Number(one(".ich-level").value)));
}
for (const [index, preset] of props.presets.entries()) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = preset.name[0].toUpperCase() + preset.name.slice(1);
  button.title = "Width " + preset.width + ", level " + preset.level + " (" + (index + 1) + ")";
  Object.assign(button.dataset, { width: preset.width, level: preset.level });
  button.addEventListener("click", () => setWindow(preset.width, preset.level));
  one(".ich-presets").append(button);
}
panes.forEach((pane, index) => {
  for (const choice of props.choices) {
    const option = new Option(choice.title, choice.name);
    option.disabled = Boolean(choice.missing);
    option.title = choice.missing || choice.summary;
    pane.chooser.add(option);
  }
  pane.chooser.addEventListener("change", () => {
    models = models.slice();
    models[index] = pane.chooser.value;
    ask({ op: "models", models, slice: k });
    showAll();
  });
});
one(".ich-series select").addEventListener("change", (event) => {
  const series = event.target.value;
  event.target.value = "";
  replaceScan(() => ask({ op: "reopen", series }));
});

function download(kind) {
  ask({ op: "export", kind, model: models[0], slice: k, width: shown.width, level: shown.level, opacity: shown.fill ? shown.opacity : 0 });
}

function save({ path, name }) {
  const link = document.createElement("a");
  link.href = serverPath("/file=" + path);
  link.download = name;
  link.click();
}

function replaceScan(action) {
  // What is marked would be lost with the scan: ask first.
  if (!marked().length) return action();
  const dialog = one(".ich-ask");
  const count = marked().length;
  one("p", dialog).textContent = "The boxes on " + count + (count === 1 ? " slice" : " slices") + " of this scan go when another is opened. Download first what you want to keep.";
  dialog.onclose = () => { if (dialog.returnValue === "yes") action(); };
  dialog.returnValue = "";
  dialog.showModal();
}

one(".ich-file").addEventListener("change", (event) => {
  const files = [...event.target.files];
  event.target.value = "";
  if (files.length) replaceScan(() => upload(files));
});

function upload(files) {
  // Gradio's own upload route. A name of its own for each file keeps two people's equal files apart.
  const form = new FormData();
  for (const file of files) form.append("files", file, crypto.randomUUID() + "-" + file.name);
  const request = new XMLHttpRequest();
  request.open("POST", serverPath("/upload"));
  request.upload.onprogress = (event) => busy({ text: "Uploading", part: event.loaded / event.total });
  request.onload = () => {
    if (request.status === 200) {
      busy({ text: "Reading the scan" });
      const paths = JSON.parse(request.responseText);
      ask({ op: "open", files: paths.map((path, index) => ({ path, name: files[index].name })) });
      return;
    }
    const tooLarge = request.status === 413;
    fail(tooLarge ? files[0].name + ": an upload is at most 512 MB a file, but this is larger; give one series, or compress it." : "The upload was refused (" + request.status + "); try again.");
  };
  request.onerror = () => fail("The upload was cut off; check the connection and try again.");
  const fail = (text) => { busy(null); complain({ text }); };
  hush();
  busy({ text: "Uploading", part: 0 });
  request.send(form);
}

async function filesOf(transfer) {
  // A dropped folder is walked; readEntries gives at most 100 at a time.
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files];
  const found = [];
  const walk = async (entry) => {
    if (entry.isFile) found.push(await new Promise((resolve, reject) => entry.file(resolve, reject)));
    else {
      const reader = entry.createReader();
      for (;;) {
        const part = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
        if (!part.length) break;
        for (const inner of part) await walk(inner);
      }
    }
  };
  for (const entry of entries) await walk(entry);
  return found;
}

let dragDepth = 0;
const dragging = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
document.addEventListener("dragenter", (event) => { if (dragging(event)) { dragDepth++; root.dataset.dropping = "true"; } });
document.addEventListener("dragleave", () => { if (--dragDepth <= 0) { dragDepth = 0; delete root.dataset.dropping; } });
document.addEventListener("dragover", (event) => { if (dragging(event)) event.preventDefault(); });
document.addEventListener("drop", async (event) => {
  if (!dragging(event)) return;
  event.preventDefault();
  dragDepth = 0;
  delete root.dataset.dropping;
  const files = await filesOf(event.dataTransfer);
  if (files.length) replaceScan(() => upload(files));
});

window.addEventListener("beforeunload", (event) => { if (marked().length) event.preventDefault(); });
root.dataset.pending = 0;
root.dataset.live = "true";
