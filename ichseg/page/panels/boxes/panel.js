// Boxes: drawn and changed by pointer and keys, deleted, undone, and followed through the scan.

import { rest } from "../../viewer/aside.js";
import { announce, announceAlso, button, enable, focusViewer, one } from "../../viewer/dom.js";
import { draw } from "../../viewer/draw.js";
import { boxBetween, handleAt, reshape } from "../../viewer/geometry.js";
import { showAll, tell } from "../../viewer/hub.js";
import { ARROWS, FAST_PX } from "../../viewer/keys.js";
import { followNext } from "../../viewer/navigate.js";
import { stopsSentence } from "../../viewer/said.js";
import { ask, look, queue } from "../../viewer/server.js";
import { boxesHere, here, isMarked, lesionHere, marked, state, view } from "../../viewer/state.js";
import { drawBoxes } from "./paint.js";

const REACH_PX = { touch: 20, mouse: 7 };
const CURSORS = {
  "-1,-1": "nwse-resize", "1,1": "nwse-resize", "-1,1": "nesw-resize", "1,-1": "nesw-resize", "0,0": "move",
  "-1,0": "ew-resize", "1,0": "ew-resize", "0,-1": "ns-resize", "0,1": "ns-resize",
};

// Changing them

function setBoxes(boxes) {
  const { k, lesion, slices } = state;
  const marks = here();
  const kept = { ...marks.boxes, [lesion]: boxes };
  if (boxes.length) slices.set(k, { ...marks, boxes: kept });
  else {
    // What they gave goes at once; Python says the rest.
    delete kept[lesion];
    /** @type {import("../../viewer/state.js").Slice["masks"]} */
    const masks = {};
    for (const [model, byLesion] of Object.entries(marks.masks)) masks[model] = { ...byLesion, [lesion]: undefined };
    slices.set(k, { ...marks, boxes: kept, masks, origin: { ...marks.origin, [lesion]: undefined } });
  }
  ask({ op: "boxes", slice: k, lesion, boxes, first: true });
  showAll();
}

function commitDraft() {
  const { box, index } = state.draft;
  state.draft = null;
  const boxes = boxesHere().slice();
  if (index < 0) boxes.push(box);
  else boxes[index] = box;
  state.selected = index < 0 ? boxes.length - 1 : index;
  setBoxes(boxes);
}

function cancelDraft() {
  if (!state.draft) return false;
  state.draft = null;
  tell("showState");
  draw();
  rest();
  return true;
}

function deleteSelected() {
  const { selected } = state;
  if (selected < 0) return;
  state.selected = -1;
  state.draft = null;
  setBoxes(boxesHere().filter((_, index) => index !== selected));
}

const noneLocked = () => !state.lesions.some(({ locked }) => locked);

function clearSlice() {
  if (!isMarked(here())) return;
  state.selected = -1;
  if (noneLocked()) state.slices.delete(state.k);
  ask({ op: "clear_slice", slice: state.k });
  showAll();
}

function clearAll() {
  state.selected = -1;
  if (noneLocked()) {
    state.slices = new Map();
    state.totals = {};
  }
  ask({ op: "clear" });
  showAll();
}

const timeTravel = (op) => () => {
  if (!queue.ops.length && !state.history[op]) return;
  state.selected = -1;
  followNext();
  ask({ op });
};

function propagate() {
  if (!button("propagate").disabled) ask({ op: "propagate", lesion: state.lesion });
}

// By pointer

function grab(point, pane, event) {
  const handle = event.shiftKey ? null : handleAt(boxesHere()[state.selected], point, REACH_PX[event.pointerType] ?? REACH_PX.mouse);
  look(true); // the slice is embedded while the person draws
  return handle ? adjustGesture(point, handle) : newGesture(point);
}

function newGesture(from) {
  return {
    kind: "new",
    move(point) {
      const box = boxBetween(from, point, state.scan.shape);
      state.draft = box && { box, index: -1 };
    },
    end() {
      if (state.draft) commitDraft();
      else pick(from);
    },
  };
}

function adjustGesture(from, handle) {
  const index = state.selected, before = boxesHere()[index];
  return {
    kind: "adjust",
    move(point) {
      state.draft = { box: reshape(before, handle, point.x - from.x, point.y - from.y, state.scan.shape), index };
    },
    end() {
      if (state.draft && String(state.draft.box) !== String(before)) commitDraft();
      else cancelDraft();
    },
  };
}

function pick({ x, y }) {
  // A click takes up the box under it, the smallest where several are.
  const area = ([x0, y0, x1, y1]) => (x1 - x0) * (y1 - y0);
  const hit = state.lesions
    .flatMap(({ id }) => (here().boxes[id] ?? []).map((box, index) => ({ box, index, id })))
    .filter(({ box: [x0, y0, x1, y1] }) => x >= x0 && x < x1 && y >= y0 && y < y1)
    .sort((a, b) => area(a.box) - area(b.box));
  if (hit.length) state.lesion = hit[0].id;
  state.selected = hit.length ? hit[0].index : -1;
  state.draft = null;
  showAll();
}

function cursor(point, _, event) {
  const handle = event.shiftKey ? null : handleAt(boxesHere()[state.selected], point, REACH_PX.mouse);
  return handle && CURSORS[handle.join()];
}

// By keys

function placeByKeys() {
  const [, rows, columns] = state.scan.shape;
  const x = Math.round(view.x * columns), y = Math.round(view.y * rows);
  const rx = Math.round(columns / 10 / view.zoom), ry = Math.round(rows / 10 / view.zoom);
  state.draft = { box: [x - rx, y - ry, x + rx, y + ry], index: -1, keys: true };
  afterKeys();
}

function takeUpNext() {
  const boxes = boxesHere();
  if (!boxes.length) return;
  state.selected = (state.selected + 1) % boxes.length;
  state.draft = { box: boxes[state.selected], index: state.selected, keys: true };
  afterKeys();
  showTools();
}

function afterKeys() {
  focusViewer(); // the arrows are the box's from now on
  look(true);
  tell("showState");
  draw();
  const [x0, y0, x1, y1] = state.draft.box;
  announce("Box from " + x0 + ", " + y0 + " to " + x1 + ", " + y1 + ". Enter sets it, Escape cancels.");
}

function key(event) {
  // While a box is placed by keys the arrows are the box's.
  const { draft } = state;
  if (!draft?.keys) return false;
  const arrow = ARROWS[event.key];
  if (arrow) {
    const step = event.repeat ? FAST_PX : 1;
    const handle = event.shiftKey ? arrow.map((value) => (value ? 1 : 0)) : [0, 0];
    draft.box = reshape(draft.box, handle, arrow[0] * step, arrow[1] * step, state.scan.shape);
    afterKeys();
    return true;
  }
  if (event.key !== "Enter") return false;
  commitDraft();
  return true;
}

function stepBack() {
  if (cancelDraft()) return true;
  state.selected = -1;
  showTools();
  draw();
  return true;
}

// What is shown

function showTools() {
  const { history, selected, slices, lesion, lost } = state;
  enable("undo", history.undo);
  enable("redo", history.redo);
  enable("delete", selected >= 0);
  enable("clear_slice", isMarked(here()));
  enable("clear", marked().length > 0);
  enable("propagate", !lost && [...slices.values()].some(({ boxes }) => boxes[lesion]?.length) && !lesionHere()?.locked);
}

function showStops() {
  const line = one(".ich-stops");
  const text = stopsSentence(lesionHere(), state.lesions.length > 1);
  line.hidden = !text;
  if (line.textContent === text) return;
  line.textContent = text;
  if (text) announceAlso(text);
}

/** @type {import("../../viewer/hub.js").Part} */
export const panel = {
  actions: { undo: timeTravel("undo"), redo: timeTravel("redo"), delete: deleteSelected, clear_slice: clearSlice, clear: clearAll, propagate },
  keys: { Delete: deleteSelected, Backspace: deleteSelected, b: placeByKeys, n: takeUpNext, w: propagate },
  slow: ["propagate"],
  key,
  stepBack,
  hint: () => (state.draft?.keys ? "Arrows move, Shift+arrows resize, Enter sets, Esc cancels" : null),
  grab,
  cursor,
  abandon: cancelDraft,
  draw: drawBoxes,
  slice: showTools,
  show() { showTools(); showStops(); },
};
