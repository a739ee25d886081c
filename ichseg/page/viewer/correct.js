// Corrections by hand of the left pane's mask, and the whole hematoma from a box.

const correcting = { open: false, tool: "box", radius: 2, limited: false, low: 45, high: 90 };
const RADIUS_STEP_MM = 0.5, LEAST_RADIUS_MM = 0.5, MOST_RADIUS_MM = 12;
let tip = null; // a brush that is moved by keys: {x, y} in pixels of the slice

const hasTip = () => correcting.tool === "brush" || correcting.tool === "erase";
const rounded = ({ x, y }) => [Number(x.toFixed(2)), Number(y.toFixed(2))];

function correctingCursor(index) {
  if (correcting.tool === "box") return null;
  if (index > 0) return "not-allowed"; // the other panes show what their methods said
  return correcting.tool === "piece" ? "pointer" : "crosshair";
}

function startStroke(point, pane) {
  return pane === panes[0] ? { kind: "stroke", tool: correcting.tool, slice: k, points: [rounded(point)] } : null;
}

function extendStroke(point) {
  if (!hasTip()) return;
  const [x, y] = gesture.points.at(-1);
  if (Math.hypot(point.x - x, point.y - y) >= 0.5) gesture.points.push(rounded(point));
}

function endStroke({ tool, slice, points }) {
  if (slice === k) correct(tool, { points });
}

function correct(tool, extra = {}) {
  const hu = correcting.limited ? [correcting.low, correcting.high] : null;
  ask({ op: "correct", tool, slice: k, lesion, radius_mm: correcting.radius, hu_range: hu, ...extra });
  draw();
}

function drawStrokes(context, { sx, sy, left, top }) {
  // What is being drawn, what Python has yet to answer, and the tip itself.
  const waiting = ops.filter((op) => op.op === "correct" && op.slice === k && (op.tool === "brush" || op.tool === "erase"));
  const now = gesture?.kind === "stroke" && hasTip() ? [{ ...gesture, radius_mm: correcting.radius }] : [];
  const mm = sx / scan.spacing[2]; // screen pixels; a slice is shown with the same scale across and down
  for (const { tool, points, radius_mm } of [...waiting, ...now]) {
    context.strokeStyle = context.fillStyle = tool === "brush" ? "rgba(255, 255, 255, 0.4)" : "rgba(0, 0, 0, 0.5)";
    context.lineWidth = 2 * radius_mm * mm;
    context.lineCap = context.lineJoin = "round";
    context.beginPath();
    points.forEach(([x, y], index) => context[index ? "lineTo" : "moveTo"](left + x * sx, top + y * sy));
    if (points.length === 1) context.lineTo(left + points[0][0] * sx + 0.01, top + points[0][1] * sy);
    context.stroke();
  }
  const at = tip ?? (hasTip() && pointer?.pane === 0 ? pointer : null);
  if (!at) return;
  context.lineWidth = 1.2;
  context.setLineDash(tip ? [4, 3] : []);
  context.strokeStyle = "#ffffff";
  context.beginPath();
  context.arc(left + at.x * sx, top + at.y * sy, Math.max(1.5, correcting.radius * mm), 0, 7);
  context.stroke();
  context.setLineDash([]);
}

function placeTip() {
  const [, rows, columns] = scan.shape;
  tip ??= pointer?.pane === 0 ? { x: pointer.x, y: pointer.y } : { x: view.x * columns, y: view.y * rows };
  afterTip();
}

function putTipAway() {
  if (!tip) return false;
  tip = null;
  showState();
  draw();
  return true;
}

function afterTip() {
  showState();
  draw();
  live.textContent = "Tip at " + Math.floor(tip.x) + ", " + Math.floor(tip.y) + ". Enter marks, Escape ends.";
}

function tipKey(event) {
  const arrow = ARROWS[event.key];
  if (arrow) {
    const step = event.shiftKey || event.repeat ? FAST_PX : 1;
    tip = { x: clamp(tip.x + arrow[0] * step, 0, scan.shape[2]), y: clamp(tip.y + arrow[1] * step, 0, scan.shape[1]) };
    afterTip();
  } else if (event.key === "Enter") correct(correcting.tool, { points: [rounded(tip)] });
  else return false;
  return true;
}

function setRadius(mm) {
  correcting.radius = clamp(mm, LEAST_RADIUS_MM, MOST_RADIUS_MM);
  showCorrect();
  draw();
}

function setTool(tool) {
  correcting.tool = tool;
  cancelDraft();
  putTipAway();
  if (tool !== "box") selected = -1;
  showTools();
  showCorrect();
  draw();
}

function showCorrect() {
  one("#ich-correct").hidden = !correcting.open;
  one("[data-do=correct]").setAttribute("aria-expanded", String(correcting.open));
  root.dataset.tool = correcting.tool;
  if (!correcting.open) return;
  for (const button of all("[data-tool]")) button.setAttribute("aria-pressed", String(button.dataset.tool === correcting.tool));
  one(".ich-radius").value = correcting.radius;
  one(".ich-radius-mm").textContent = correcting.radius.toFixed(1) + " mm";
  one(".ich-limit").checked = correcting.limited;
  for (const name of ["low", "high"]) {
    const field = one(".ich-hu-" + name);
    field.value = correcting[name];
    field.disabled = !correcting.limited;
  }
  const mask = here().masks[models[0]]?.[lesion];
  const writable = !lesionHere()?.locked;
  for (const name of ["fill_holes", "smooth", "copy_down", "copy_up"]) one("[data-do=" + name + "]").disabled = !mask || !writable;
  one("[data-do=copy_down]").disabled ||= k === 0;
  one("[data-do=copy_up]").disabled ||= k === scan.shape[0] - 1;
  const edited = marked().filter((slice) => slices.get(slice).origin[lesion] === "edited");
  one("[data-do=between]").disabled = !writable || edited.length < 2;
}

Object.assign(DO, {
  propagate: () => { if (!one("[data-do=propagate]").disabled) ask({ op: "propagate", lesion }); },
  cancel: () => { say({ cancel: true }); trigger("look"); },
  correct: () => {
    if (!scan) return;
    correcting.open = !correcting.open;
    setTool("box");
    resize();
  },
  fill_holes: () => correct("fill"),
  smooth: () => correct("smooth"),
  copy_down: () => correct("copy", { onto: k - 1 }),
  copy_up: () => correct("copy", { onto: k + 1 }),
  between: () => correct("between"),
  load: () => one(".ich-mask-file").click(),
});

for (const button of all("[data-tool]")) button.addEventListener("click", () => setTool(button.dataset.tool));
one(".ich-radius").addEventListener("input", (event) => setRadius(Number(event.target.value)));
one(".ich-limit").addEventListener("change", (event) => { correcting.limited = event.target.checked; showCorrect(); });
for (const name of ["low", "high"]) {
  one(".ich-hu-" + name).addEventListener("change", (event) => { correcting[name] = Number(event.target.value); showCorrect(); });
}
one(".ich-mask-file").addEventListener("change", (event) => {
  const files = [...event.target.files];
  event.target.value = "";
  if (files.length) upload(files, "load");
});
