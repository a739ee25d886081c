// ABC/2 on its slice: A and B as lines with ends to move, by pointer and by keys; C with its slices.

import { all, announce, make, one, panes } from "../../viewer/dom.js";
import { draw } from "../../viewer/draw.js";
import { clamp } from "../../viewer/geometry.js";
import { ARROWS, FAST_PX } from "../../viewer/keys.js";
import { goTo } from "../../viewer/navigate.js";
import { mm, number } from "../../viewer/numbers.js";
import { ask } from "../../viewer/server.js";
import { shown, state } from "../../viewer/state.js";
import { abcOf, endsOf, lesionOf, lineMm, measuredLesions, moved, ownLines, tellLines } from "./abc.js";
import { measuring } from "./measuring.js";
import { showNumbers } from "./table.js";

const LINES_WAIT_MS = 300; // keys come in rows: Python is told when they end
const GRIP_PX = 5, REACH_PX = { touch: 20, mouse: GRIP_PX + 4 };
const LEAST_MM = 1; // the ends of a line do not meet
/** @type {{ lesion: number, name: string, end: number } | null} the end that is being moved or has the keys */
let grip = null;
/** @type {any} */
let waiting = 0;

/** Whether a line is being moved. */
export const areMoving = () => Boolean(waiting) || state.gesture?.kind === "line";

function moveEnd({ lesion, name, end }, x, y) {
  const ends = endsOf(abcOf(lesionOf(lesion))[name]);
  const [, rows, columns] = state.scan.shape;
  ends[2 * end] = clamp(x, 0, columns);
  ends[2 * end + 1] = clamp(y, 0, rows);
  if (lineMm(ends) < LEAST_MM) return;
  ownLines(lesion)[name] = ends;
  showLineNumbers();
  draw();
}

function tell(id) {
  clearTimeout(waiting);
  waiting = 0;
  tellLines(id);
}

// On the pane

/** @param {CanvasRenderingContext2D} context */
export function drawLines(context, pane, place) {
  if (pane !== state.own || !shown.masks) return;
  for (const lesion of measuredLesions()) {
    const abc = abcOf(lesion);
    if (abc.a.slice_index !== state.k) continue;
    const settling = moved.get(lesion.id);
    for (const name of ["a", "b"]) {
      // B is found anew for a new A: until it is, it is dashed.
      drawLine(context, lesion, name, abc[name], place, name === "b" && settling?.a && !settling.b);
    }
  }
}

function drawLine(context, lesion, name, line, { sx, sy, left, top }, dashed) {
  const [x0, y0, x1, y1] = endsOf(line);
  /** @type {[[number, number], [number, number]]} */
  const ends = [[left + x0 * sx, top + y0 * sy], [left + x1 * sx, top + y1 * sy]];
  context.save();
  context.lineCap = "round";
  if (dashed) context.setLineDash([4, 5]);
  for (const [width, colour] of [[3.5, "rgba(0, 0, 0, 0.55)"], [1.5, "#ffffff"]]) {
    context.lineWidth = width;
    context.strokeStyle = colour;
    context.beginPath();
    context.moveTo(...ends[0]);
    context.lineTo(...ends[1]);
    context.stroke();
  }
  context.restore();
  ends.forEach(([x, y], end) => {
    const on = grip && grip.lesion === lesion.id && grip.name === name && grip.end === end;
    context.beginPath();
    context.arc(x, y, on ? GRIP_PX + 2 : GRIP_PX, 0, 7);
    context.fillStyle = on ? "#ffffff" : "rgba(0, 0, 0, 0.6)";
    context.fill();
    context.lineWidth = 1.5;
    context.strokeStyle = "#ffffff";
    context.stroke();
  });
  labelLine(context, ends, name.toUpperCase() + " " + line.length_mm.toFixed(1) + " mm");
}

function labelLine(context, [[x0, y0], [x1, y1]], text) {
  // Beyond the end that is farther to the right, where the blood is not.
  const [x, y, dx, dy] = x1 >= x0 ? [x1, y1, x1 - x0, y1 - y0] : [x0, y0, x0 - x1, y0 - y1];
  const length = Math.hypot(dx, dy) || 1;
  context.font = "12px system-ui, sans-serif";
  context.textAlign = dx / length > 0.4 ? "left" : "center";
  context.textBaseline = "middle";
  context.lineWidth = 3;
  context.strokeStyle = "rgba(0, 0, 0, 0.75)";
  const at = [x + (dx / length) * 12, y + (dy / length) * 16];
  context.strokeText(text, ...at);
  context.fillStyle = "#ffffff";
  context.fillText(text, ...at);
}

function gripAt({ x, y, sx, sy }, reach) {
  let nearest = null;
  const free = shown.masks && state.tool === "box"; // a brush goes over the lines
  for (const lesion of free ? measuredLesions() : []) {
    const abc = abcOf(lesion);
    if (abc.a.slice_index !== state.k) continue;
    for (const name of ["a", "b"]) {
      const ends = endsOf(abc[name]);
      for (const end of [0, 1]) {
        const far = Math.hypot((ends[2 * end] - x) * sx, (ends[2 * end + 1] - y) * sy);
        if (far <= reach && far < (nearest?.far ?? Infinity)) nearest = { far, lesion: lesion.id, name, end };
      }
    }
  }
  return nearest && { lesion: nearest.lesion, name: nearest.name, end: nearest.end };
}

/** The gesture that moves the end under the pointer; null where there is none. */
export function grabLine(point, pane, event) {
  if (pane !== panes[state.own]) return null;
  const found = gripAt(point, REACH_PX[event.pointerType] ?? REACH_PX.mouse);
  if (!found) return null;
  grip = found;
  const end = () => {
    grip = null;
    tell(found.lesion);
  };
  return { kind: "line", move: ({ x, y }) => moveEnd(found, x, y), end, cancel: end };
}

export const lineCursor = (point, index) => (index === state.own && gripAt(point, REACH_PX.mouse) ? "grab" : null);

// In the panel

export function showLines() {
  const lesions = measuredLesions();
  const list = one(".ich-abc");
  const known = all(".ich-abc-lesion", list).map((item) => item.dataset.lesion).join();
  if (known !== lesions.map((lesion) => lesion.id).join()) list.replaceChildren(...lesions.map(makeLines));
  showLineNumbers();
}

function makeLines({ id }) {
  const item = make("div", "", { className: "ich-abc-lesion" });
  item.dataset.lesion = id;
  const sum = make("p", "", { className: "ich-abc-sum" });
  const tools = make("div", "", { className: "ich-row ich-abc-tools" });
  const go = make("button", "", { type: "button", className: "ich-abc-go" });
  go.addEventListener("click", () => {
    goTo(lesionOf(id).abc2.a.slice_index);
    panes[state.own].node.scrollIntoView({ block: "nearest" });
  });
  const ends = make("span", "", { className: "ich-segments" });
  ends.setAttribute("role", "group");
  ends.setAttribute("aria-label", "Ends to move by keys");
  for (const name of ["a", "b"]) for (const end of [0, 1]) ends.append(makeEnd(id, name, end));
  const reset = make("button", "Reset", { type: "button", className: "ich-abc-reset", title: "Find A, B and C again" });
  reset.addEventListener("click", () => { moved.delete(id); ask({ op: "abc2", lesion: id, a: null, b: null, c: null }); });
  tools.append(go, ends, makeC(id), reset);
  item.append(sum, tools, make("p", "", { className: "ich-abc-slices" }));
  return item;
}

function makeC(id) {
  const label = make("label", "C ", { className: "ich-number" });
  const c = make("input", "", { type: "number", min: 0.1, step: 0.5 });
  c.setAttribute("aria-label", "C, mm");
  c.addEventListener("change", () => {
    ownLines(id).c = Number(c.value) > 0 ? Number(c.value) : null;
    showLineNumbers();
    tell(id);
  });
  label.append(c, " mm");
  return label;
}

function makeEnd(id, name, end) {
  const letter = name.toUpperCase();
  const button = make("button", letter + (end ? "₂" : "₁"), { type: "button", title: "End of " + letter + ": arrow keys move it, with Shift farther" });
  Object.assign(button.dataset, { name, end });
  button.addEventListener("focus", () => { grip = { lesion: id, name, end }; goTo(lesionOf(id)?.abc2.a.slice_index ?? state.k); draw(); });
  button.addEventListener("blur", () => { if (state.gesture?.kind !== "line") grip = null; draw(); });
  button.addEventListener("keydown", (event) => moveByKey(event, { lesion: id, name, end }));
  return button;
}

function moveByKey(event, which) {
  const arrow = ARROWS[event.key];
  if (!arrow) return;
  event.preventDefault();
  event.stopPropagation(); // the arrows are the end's, not the slices'
  const { lesion, name, end } = which;
  const by = event.shiftKey ? FAST_PX : 1;
  const ends = endsOf(abcOf(lesionOf(lesion))[name]);
  moveEnd(which, ends[2 * end] + by * arrow[0], ends[2 * end + 1] + by * arrow[1]);
  const abc = abcOf(lesionOf(lesion));
  announce(name.toUpperCase() + " " + mm(abc[name].length_mm) + " mm, ABC/2 " + number(abc.volume_ml) + " mL.");
  clearTimeout(waiting);
  waiting = setTimeout(() => tell(lesion), LINES_WAIT_MS);
}

function showLineNumbers() {
  const { record } = measuring;
  for (const item of all(".ich-abc-lesion")) {
    const lesion = lesionOf(Number(item.dataset.lesion));
    if (lesion) showAbc(item, lesion.name, abcOf(lesion), record.lesions.length > 1);
  }
  if (record) showNumbers(record);
}

function showAbc(item, name, abc, several) {
  const hand = abc.edited.length ? " (" + abc.edited.join(", ").toUpperCase() + " set by hand)" : "";
  one(".ich-abc-sum", item).textContent =
    (several ? name + ": " : "") + "ABC/2 " + number(abc.volume_ml) + " mL = A " + mm(abc.a.length_mm) + " × B " + mm(abc.b.length_mm) + " × C " + mm(abc.c_mm) + " mm / 2" + hand;
  one(".ich-abc-go", item).textContent = "Slice " + (abc.a.slice_index + 1);
  one(".ich-abc-go", item).title = "Show A and B on their slice, the one with the largest area";
  const c = one("input", item);
  if (document.activeElement !== c) c.value = abc.c_mm.toFixed(1);
  one(".ich-abc-reset", item).disabled = !abc.edited.length;
  one(".ich-abc-slices", item).textContent = "C is each slice's own height times its weight. " + weightsOf(abc);
  for (const button of all(".ich-segments button", item)) {
    const ends = endsOf(abc[button.dataset.name]).map((value) => value.toFixed(1));
    const end = Number(button.dataset.end);
    button.setAttribute("aria-label", button.dataset.name.toUpperCase() + ", " + (end ? "second" : "first") + " end, at " + ends[2 * end] + ", " + ends[2 * end + 1] + "; arrow keys move it");
  }
}

function weightsOf({ slices }) {
  const by = (weight) => slices.filter((slice) => slice.weight === weight).map((slice) => slice.slice_index + 1);
  /** @type {[number, string][]} */
  const weights = [[1, "In full (over 75 % of the largest area)"], [0.5, "half (25 to 75 %)"], [0, "not (below)"]];
  return weights
    .filter(([weight]) => by(weight).length)
    .map(([weight, words]) => words + ": " + by(weight).join(", "))
    .join("; ") + ".";
}
