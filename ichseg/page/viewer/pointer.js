// The pointer on a pane: window, pan and zoom by mouse, pen and fingers. What a plain drag does is a panel's.

import { rest } from "./aside.js";
import { panes } from "./dom.js";
import { draw, placeOn } from "./draw.js";
import { clamp } from "./geometry.js";
import { find, join, tell } from "./hub.js";
import { goTo, moveView, setWindow, zoomTo } from "./navigate.js";
import { shown, state, view } from "./state.js";

const NOTCH_PX = 60, SLICE_PX = 40; // of a wheel: at least so much is a notch; so much of a trackpad's is a slice
/** @type {Map<number, PointerEvent>} */
const touches = new Map();
let spaceDown = false;
let wheelSum = 0;

/** Where an event is, in pixels of the slice, with the screen pixels that one of them has. */
export function at(event, canvas) {
  const { sx, sy, left, top } = placeOn(canvas);
  const frame = canvas.getBoundingClientRect();
  return { x: (event.clientX - frame.left - left) / sx, y: (event.clientY - frame.top - top) / sy, sx, sy };
}

function windowGesture(from) {
  const { width, level } = shown;
  const speed = Math.max(0.2, width / 400);
  return {
    kind: "window",
    move: (_, event) => setWindow(width + (event.clientX - from.clientX) * speed, level - (event.clientY - from.clientY) * speed),
  };
}

function panGesture(from, { canvas }) {
  const { x, y } = view;
  return {
    kind: "pan",
    move(_, event) {
      const { sx, sy } = placeOn(canvas);
      const [, rows, columns] = state.scan.shape;
      moveView(x - (event.clientX - from.clientX) / (sx * columns), y - (event.clientY - from.clientY) / (sy * rows));
    },
  };
}

function pinchGesture({ canvas }) {
  const fingers = () => {
    const [a, b] = [...touches.values()];
    return {
      spread: Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY),
      x: (a.clientX + b.clientX) / 2, y: (a.clientY + b.clientY) / 2,
    };
  };
  const from = fingers();
  const { zoom, x, y } = view;
  return {
    kind: "pinch",
    move() {
      if (touches.size !== 2) return;
      const now = fingers();
      zoomTo((zoom * now.spread) / from.spread);
      const { sx, sy } = placeOn(canvas);
      const [, rows, columns] = state.scan.shape;
      moveView(x - (now.x - from.x) / (sx * columns), y - (now.y - from.y) / (sy * rows));
    },
  };
}

function startGesture(event, pane) {
  if (event.button === 2) return windowGesture(event);
  if (event.button === 1 || spaceDown) return panGesture(event, pane);
  return find("grab", at(event, pane.canvas), pane, event);
}

function onDown(event, pane) {
  if (!state.scan) return;
  event.preventDefault();
  pane.canvas.focus({ preventScroll: true });
  pane.canvas.setPointerCapture(event.pointerId);
  tell("abandon");
  if (event.pointerType === "touch") touches.set(event.pointerId, event);
  state.gesture?.cancel?.();
  state.gesture = touches.size === 2 ? pinchGesture(pane) : startGesture(event, pane);
}

function onMove(event, pane, index) {
  if (!state.scan) return;
  const point = at(event, pane.canvas);
  if (event.pointerType !== "touch") {
    state.pointer = { x: point.x, y: point.y, pane: index };
    showHU();
  }
  if (touches.has(event.pointerId)) touches.set(event.pointerId, event);
  if (state.gesture) state.gesture.move?.(point, event);
  else pane.canvas.style.cursor = spaceDown ? "grab" : find("cursor", point, index, event) ?? "crosshair";
  draw();
}

function onUp(event) {
  touches.delete(event.pointerId);
  const done = state.gesture;
  state.gesture = null;
  if (!done || !state.scan) return;
  if (done.end) done.end();
  else tell("abandon");
  rest();
}

function onCancel() {
  touches.clear();
  state.gesture?.cancel?.();
  state.gesture = null;
  tell("abandon");
  rest();
}

function onLeave() {
  state.pointer = null;
  if (state.scan) showHU();
  draw();
}

function onWheel(event, pane) {
  if (!state.scan) return;
  event.preventDefault();
  const delta = event.deltaMode === 1 ? event.deltaY * 40 : event.deltaY;
  if (event.ctrlKey || event.metaKey) {
    const { x, y } = at(event, pane.canvas);
    zoomTo(view.zoom * Math.exp(-clamp(delta, -100, 100) / 400), { x: x / state.scan.shape[2], y: y / state.scan.shape[1] });
    return;
  }
  // A notch of a wheel is one slice; a trackpad's small steps add up to one.
  wheelSum = Math.abs(delta) >= NOTCH_PX ? Math.sign(delta) * SLICE_PX : wheelSum + delta;
  if (Math.abs(wheelSum) >= SLICE_PX) {
    const by = Math.sign(wheelSum);
    if (!find("scroll", panes.indexOf(pane), by)) goTo(state.k + by);
    wheelSum = 0;
  }
}

/** Say the HU under the pointer, in its pane. */
function showHU() {
  const { scan, k, pointer } = state;
  const [, rows, columns] = scan.shape;
  panes.forEach((pane, index) => {
    const x = Math.floor(pointer?.x), y = Math.floor(pointer?.y);
    const inside = pointer?.pane === index && x >= 0 && y >= 0 && x < columns && y < rows;
    const other = inside && find("valueAt", index, x, y);
    pane.corner.hu.textContent = other || (inside ? scan.hu[(k * rows + y) * columns + x] + " HU  (" + x + ", " + y + ")" : "");
  });
}

/** Have a pane follow the pointer. */
export function listen(pane, index) {
  const { canvas } = pane;
  canvas.addEventListener("pointerdown", (event) => onDown(event, pane));
  canvas.addEventListener("pointermove", (event) => onMove(event, pane, index));
  canvas.addEventListener("pointerup", onUp);
  canvas.addEventListener("pointercancel", onCancel);
  canvas.addEventListener("pointerleave", onLeave);
  canvas.addEventListener("wheel", (event) => onWheel(event, pane), { passive: false });
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
}

join({
  start: () => document.addEventListener("keyup", (event) => { if (event.key === " ") spaceDown = false; }),
  key(_, key) {
    if (key !== " ") return false;
    spaceDown = true;
    return true;
  },
  slice() { if (state.pointer) showHU(); },
});
