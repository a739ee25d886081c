// Strokes on the left pane: what is being drawn, what Python has yet to answer, and the tip itself.

import { queue } from "../../viewer/server.js";
import { state } from "../../viewer/state.js";
import { correcting, hasTip } from "./tool.js";

const LEAST_TIP_PX = 1.5;

/** @param {CanvasRenderingContext2D} context */
export function drawStrokes(context, index, place) {
  if (index > 0) return;
  const mm = place.sx / state.scan.spacing[2]; // screen pixels; a slice is shown with the same scale across and down
  const waiting = queue.ops.filter((op) => op.op === "correct" && op.slice === state.k && (op.tool === "brush" || op.tool === "erase"));
  const now = state.gesture?.kind === "stroke" && hasTip() ? [{ ...state.gesture, radius_mm: correcting.radius }] : [];
  for (const stroke of [...waiting, ...now]) drawStroke(context, stroke, mm, place);
  drawTip(context, mm, place);
}

function drawStroke(context, { tool, points, radius_mm }, mm, { sx, sy, left, top }) {
  context.strokeStyle = context.fillStyle = tool === "brush" ? "rgba(255, 255, 255, 0.4)" : "rgba(0, 0, 0, 0.5)";
  context.lineWidth = 2 * radius_mm * mm;
  context.lineCap = context.lineJoin = "round";
  context.beginPath();
  points.forEach(([x, y], at) => context[at ? "lineTo" : "moveTo"](left + x * sx, top + y * sy));
  if (points.length === 1) context.lineTo(left + points[0][0] * sx + 0.01, top + points[0][1] * sy);
  context.stroke();
}

function drawTip(context, mm, { sx, sy, left, top }) {
  const { tip, radius } = correcting;
  const at = tip ?? (hasTip() && state.pointer?.pane === state.own ? state.pointer : null);
  if (!at) return;
  context.lineWidth = 1.2;
  context.setLineDash(tip ? [4, 3] : []);
  context.strokeStyle = "#ffffff";
  context.beginPath();
  context.arc(left + at.x * sx, top + at.y * sy, Math.max(LEAST_TIP_PX, radius * mm), 0, 7);
  context.stroke();
  context.setLineDash([]);
}
