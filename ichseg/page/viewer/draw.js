// Drawing: the slice, masks, and what panels lay over them.

import { one, panes, root } from "./dom.js";
import { clamp, placement } from "./geometry.js";
import { find, join, tell } from "./hub.js";
import { here, shown, state, view } from "./state.js";

const base = document.createElement("canvas"); // the slice at one canvas pixel a voxel
const table = new Uint32Array(65536); // HU + 32768 -> grey, opaque
let painted = ""; // what `base` holds
let tabled = "";
let frame = 0;

/** Draw at the next frame. */
export function draw() {
  if (!frame) frame = requestAnimationFrame(() => { frame = 0; drawNow(); });
}

function drawNow() {
  if (!state.scan) return;
  paintBase();
  panes.forEach(drawPane);
}

function paintBase() {
  const { scan, k } = state;
  const want = [scan.token, k, shown.width, shown.level].join();
  if (want === painted) return;
  fillTable();
  const [, rows, columns] = scan.shape;
  if (base.width !== columns || base.height !== rows) Object.assign(base, { width: columns, height: rows });
  const image = new ImageData(columns, rows);
  const out = new Uint32Array(image.data.buffer);
  const offset = k * rows * columns;
  for (let i = 0; i < out.length; i++) out[i] = table[scan.hu[offset + i] + 32768];
  base.getContext("2d").putImageData(image, 0, 0);
  painted = want;
}

/** The grey of each HU + 32768 in the window, opaque. */
export function greys() {
  fillTable();
  return table;
}

function fillTable() {
  const window = shown.width + "," + shown.level;
  if (window === tabled) return;
  const low = shown.level - shown.width / 2;
  for (let i = 0; i < 65536; i++) {
    const grey = clamp(Math.round(((i - 32768 - low) / shown.width) * 255), 0, 255);
    table[i] = 0xff000000 | (grey << 16) | (grey << 8) | grey;
  }
  tabled = window;
}

/** Where the slice lies on a pane's canvas. */
export const placeOn = (canvas) => placement(state.scan, view, canvas.clientWidth, canvas.clientHeight);

function drawPane({ canvas }, index) {
  const ratio = window.devicePixelRatio || 1;
  const context = canvas.getContext("2d");
  const place = placeOn(canvas);
  const { sx, sy, left, top } = place;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, canvas.width, canvas.height);
  if (find("drawWhole", context, index, canvas)) {
    drawPointer(context, index, place);
    return;
  }
  context.imageSmoothingQuality = "high";
  context.drawImage(base, left, top, base.width * sx, base.height * sy);
  const transform = new DOMMatrix([sx, 0, 0, sy, left, top]);
  if (shown.masks) {
    if (!find("drawInstead", context, index, transform)) drawMasks(context, index, transform);
    tell("drawUnder", context, index, transform);
  }
  tell("draw", context, index, place);
  drawPointer(context, index, place);
}

function drawPointer(context, index, place) {
  if (state.pointer && state.pointer.pane !== index && !state.draft) drawCross(context, state.pointer, place);
}

/** Draw the masks of a pane's method. An outline has its lesion's colour, as in the list; the pane's head says whose it is. */
export function drawMasks(context, index, transform) {
  const { lesions, models } = state;
  for (const { id, colour, visible } of lesions) {
    const mask = here().masks[models[index]]?.[id];
    if (!mask || !visible) continue;
    const path = new Path2D();
    path.addPath(mask.path, transform);
    context.fillStyle = context.strokeStyle = colour;
    context.lineJoin = "round";
    if (shown.fill) {
      context.globalAlpha = shown.opacity;
      context.fill(path, "evenodd");
      context.globalAlpha = 1;
    }
    context.lineWidth = 1.5;
    context.stroke(path);
  }
}

function drawCross(context, pointer, { sx, sy, left, top }) {
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

/** Give a canvas as many pixels as the screen has under it. */
export function fitCanvas(canvas) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(canvas.clientWidth * ratio);
  canvas.height = Math.round(canvas.clientHeight * ratio);
}

/** Fit the pictures to the page. */
export function resize() {
  for (const { canvas } of panes) fitCanvas(canvas);
  drawNow();
  tell("resized");
}

join({
  start() {
    const sized = new ResizeObserver(resize);
    sized.observe(root);
    sized.observe(one(".ich-panes"));
  },
  shown: draw,
});
