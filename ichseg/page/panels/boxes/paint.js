// Boxes on a pane: those of the lesion in hand, and thinner ones of the others.

import { boxesHere, here, state } from "../../viewer/state.js";

/** @param {CanvasRenderingContext2D} context */
export function drawBoxes(context, _, place) {
  const { lesions, lesion, draft, selected } = state;
  context.lineWidth = 1;
  for (const { id, colour, visible } of lesions) {
    if (id === lesion || !visible) continue;
    context.strokeStyle = colour;
    for (const box of here().boxes[id] ?? []) context.strokeRect(...onScreen(box, place));
  }
  const boxes = boxesHere().slice();
  const current = draft ? (draft.index < 0 ? boxes.length : draft.index) : selected;
  if (draft) boxes[current] = draft.box;
  boxes.forEach((box, index) => drawBox(context, onScreen(box, place), index === current));
}

/** @returns {[number, number, number, number]} left, top, width and height in CSS pixels */
function onScreen([x0, y0, x1, y1], { sx, sy, left, top }) {
  return [left + x0 * sx, top + y0 * sy, (x1 - x0) * sx, (y1 - y0) * sy];
}

function drawBox(context, [x, y, width, height], on) {
  context.setLineDash(state.draft?.keys && on ? [5, 4] : []);
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
}
