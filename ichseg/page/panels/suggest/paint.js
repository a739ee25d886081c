// The boxes of open proposals on a pane: dashed, those of the one in view brighter. Panes are dark in both schemes.

import { state } from "../../viewer/state.js";
import { suggesting } from "./proposals.js";

/** @param {CanvasRenderingContext2D} context */
export function drawProposals(context, place, isOpen) {
  const { list, at, draft, open } = suggesting;
  if (!open || !list) return;
  list.forEach((proposal, index) => {
    if (!isOpen(proposal)) return;
    (proposal.slices.get(state.k) ?? []).forEach((box, number) => {
      const adjusted = index === at && draft?.index === number ? draft.box : box;
      drawBox(context, adjusted, place, index === at);
    });
  });
}

function drawBox(context, [x0, y0, x1, y1], { sx, sy, left, top }, current) {
  /** @type {[number, number, number, number]} */
  const frame = [left + x0 * sx, top + y0 * sy, (x1 - x0) * sx, (y1 - y0) * sy];
  context.setLineDash([]);
  context.lineWidth = 3;
  context.strokeStyle = "rgba(0, 0, 0, 0.45)";
  context.strokeRect(...frame);
  context.setLineDash([6, 4]);
  context.lineWidth = current ? 2 : 1;
  context.strokeStyle = current ? "#ffd6de" : "#e5788c";
  context.strokeRect(...frame);
  context.setLineDash([]);
}
