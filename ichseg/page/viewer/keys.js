// The keyboard.

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
  if (!boxesHere().length) return;
  selected = (selected + 1) % boxesHere().length;
  draft = { box: boxesHere()[selected], index: selected, keys: true };
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

function stepBack() {
  // One thing at a time: what is under way, the tip, the tool, the box in the making, the selection.
  if (cancellable()) DO.cancel();
  else if (putTipAway()) return;
  else if (correcting.tool !== "box") setTool("box");
  else if (!cancelDraft()) {
    selected = -1;
    showTools();
    draw();
  }
  gesture = null;
  rest();
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
  Escape: stepBack,
  b: () => (correcting.tool === "box" ? placeByKeys() : placeTip()),
  n: takeUpNext,
  m: () => DO.mask(),
  c: () => DO.compare(),
  w: () => DO.propagate(),
  g: () => DO.followup(),
  x: () => DO.other_scan(),
  l: () => DO.lesions(),
  e: () => DO.correct(),
  "[": () => setRadius(correcting.radius - RADIUS_STEP_MM),
  "]": () => setRadius(correcting.radius + RADIUS_STEP_MM),
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
  if (target.matches?.(".ich-opacity, .ich-radius") && (ARROWS[key] || key === "Home" || key === "End")) return;
  if ((draft?.keys && boxKey(event)) || (tip && tipKey(event))) return event.preventDefault();
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
