// The brush and what it may mark. The tool in hand is the page's (state.tool), since a plain drag is the boxes' else.

import { state } from "../../viewer/state.js";

export const correcting = {
  open: false,
  /** of brush and eraser, mm */
  radius: 2,
  /** whether only voxels of `low` to `high` HU are marked */
  limited: false,
  low: 45,
  high: 90,
  /** @type {{ x: number, y: number } | null} a brush that is moved by keys, in pixels of the slice */
  tip: null,
};

export const hasTip = () => state.tool === "brush" || state.tool === "erase";
