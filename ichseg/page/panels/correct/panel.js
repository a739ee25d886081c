// Corrections by hand of the left pane's mask, and the edge at half height.

import { all, announce, enable, expand, focusViewer, one, onFiles, panes, press, root } from "../../viewer/dom.js";
import { draw, resize } from "../../viewer/draw.js";
import { clamp } from "../../viewer/geometry.js";
import { showAll, tell } from "../../viewer/hub.js";
import { ARROWS, FAST_PX } from "../../viewer/keys.js";
import { ask } from "../../viewer/server.js";
import { here, lesionHere, marked, state, view } from "../../viewer/state.js";
import { upload } from "../../viewer/upload.js";
import { drawStrokes } from "./paint.js";
import { correcting, hasTip } from "./tool.js";

const RADIUS_STEP_MM = 0.5, LEAST_RADIUS_MM = 0.5, MOST_RADIUS_MM = 12;
const LEAST_STROKE_PX = 0.5; // between two points of a stroke

/** @returns {[number, number]} */
const rounded = ({ x, y }) => [Number(x.toFixed(2)), Number(y.toFixed(2))];

function correct(tool, extra = {}) {
  const { limited, low, high, radius } = correcting;
  ask({ op: "correct", tool, slice: state.k, lesion: state.lesion, radius_mm: radius, hu_range: limited ? [low, high] : null, ...extra });
  draw();
}

// By pointer

function grab(point, pane) {
  if (state.tool === "box") return null;
  if (pane !== panes[state.own]) return { kind: "none", end() {} }; // the other panes show what their methods said
  const slice = state.k, points = [rounded(point)];
  return {
    kind: "stroke",
    tool: state.tool,
    points,
    move(next) {
      const [x, y] = points.at(-1);
      if (hasTip() && Math.hypot(next.x - x, next.y - y) >= LEAST_STROKE_PX) points.push(rounded(next));
    },
    end() {
      if (slice === state.k) correct(this.tool, { points });
    },
  };
}

function cursor(_, index) {
  if (state.tool === "box") return null;
  if (index !== state.own) return "not-allowed";
  return state.tool === "component" ? "pointer" : "crosshair";
}

// By keys

function placeTip() {
  const [, rows, columns] = state.scan.shape;
  const { pointer } = state;
  correcting.tip ??= pointer?.pane === state.own ? { x: pointer.x, y: pointer.y } : { x: view.x * columns, y: view.y * rows };
  afterTip();
}

function putTipAway() {
  if (!correcting.tip) return false;
  correcting.tip = null;
  tell("showState");
  draw();
  return true;
}

function afterTip() {
  focusViewer(); // the arrows are the tip's from now on
  tell("showState");
  draw();
  announce("Tip at " + Math.floor(correcting.tip.x) + ", " + Math.floor(correcting.tip.y) + ". Enter marks, Escape ends.");
}

function key(event, pressed) {
  const { tool } = state, { tip } = correcting;
  if (pressed === "b" && tool !== "box") {
    placeTip();
    return true;
  }
  if (!tip) return false;
  const arrow = ARROWS[event.key];
  if (arrow) {
    const [, rows, columns] = state.scan.shape;
    const step = event.shiftKey || event.repeat ? FAST_PX : 1;
    correcting.tip = { x: clamp(tip.x + arrow[0] * step, 0, columns), y: clamp(tip.y + arrow[1] * step, 0, rows) };
    afterTip();
    return true;
  }
  if (event.key !== "Enter") return false;
  correct(tool, { points: [rounded(tip)] });
  return true;
}

function stepBack() {
  if (putTipAway()) return true;
  if (state.tool === "box") return false;
  setTool("box");
  return true;
}

// The bar

function setRadius(mm) {
  correcting.radius = clamp(mm, LEAST_RADIUS_MM, MOST_RADIUS_MM);
  show();
  draw();
}

function setTool(tool) {
  state.tool = tool;
  tell("abandon");
  putTipAway();
  if (tool !== "box") state.selected = -1;
  showAll();
}

function toggle() {
  if (!state.scan) return;
  correcting.open = !correcting.open;
  setTool("box");
  resize();
}

function toggleEdge() {
  state.edge = !state.edge;
  ask({ op: "edge", on: state.edge });
  showAll();
}

function show() {
  const { open, radius, limited } = correcting, { tool } = state;
  enable("correct", !state.lost);
  enable("edge", !state.lost);
  press("edge", state.edge);
  one("#ich-correct").hidden = !open;
  expand("correct", open);
  root.dataset.tool = tool;
  if (!open) return;
  for (const choice of all("[data-tool]")) choice.setAttribute("aria-pressed", String(choice.dataset.tool === tool));
  one(".ich-radius").value = radius;
  one(".ich-radius-mm").textContent = radius.toFixed(1) + " mm";
  one(".ich-limit").checked = limited;
  for (const name of ["low", "high"]) {
    const field = one(".ich-hu-" + name);
    field.value = correcting[name];
    field.disabled = !limited;
  }
  showWholeMask();
}

function showWholeMask() {
  const { k, scan, models, lesion, slices } = state;
  const writable = !lesionHere()?.locked;
  const mask = writable && here().masks[models[0]]?.[lesion];
  enable("fill_holes", mask);
  enable("smooth", mask);
  enable("copy_down", mask && k > 0);
  enable("copy_up", mask && k < scan.shape[0] - 1);
  enable("between", writable && marked().filter((slice) => slices.get(slice).origin[lesion] === "edited").length > 1);
}

/** @type {import("../../viewer/hub.js").Part} */
export const panel = {
  actions: {
    correct: toggle,
    edge: toggleEdge,
    fill_holes: () => correct("fill"),
    smooth: () => correct("smooth"),
    copy_down: () => correct("copy", { onto: state.k - 1 }),
    copy_up: () => correct("copy", { onto: state.k + 1 }),
    between: () => correct("between"),
    load: () => one(".ich-mask-file").click(),
  },
  keys: {
    e: toggle,
    "[": () => setRadius(correcting.radius - RADIUS_STEP_MM),
    "]": () => setRadius(correcting.radius + RADIUS_STEP_MM),
  },
  slow: ["load"],
  start() {
    for (const choice of all("[data-tool]")) choice.addEventListener("click", () => setTool(choice.dataset.tool));
    one(".ich-radius").addEventListener("input", (event) => setRadius(Number(event.target.value)));
    one(".ich-limit").addEventListener("change", (event) => { correcting.limited = event.target.checked; show(); });
    for (const name of ["low", "high"]) {
      one(".ich-hu-" + name).addEventListener("change", (event) => { correcting[name] = Number(event.target.value); show(); });
    }
    onFiles(".ich-mask-file", (files) => upload(files, { op: "load" }, "Reading what was saved"));
  },
  key,
  stepBack,
  hint: () => (correcting.tip ? "Arrows move, Enter marks, Esc ends" : null),
  grab,
  cursor,
  draw: drawStrokes,
  show,
  slice: show,
};
