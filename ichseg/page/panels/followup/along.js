// One scan along the slices of another: by where both lie, and the motion between them. Pure functions of numbers.

/**
 * @typedef {object} Grid where a scan's voxels are, as Python tells it (page/linking.py); mm are RAS+
 * @property {number[][]} origins of each slice's voxel 0, 0
 * @property {number[]} positions of the slices along `normal`, rising
 * @property {number[]} normal
 * @property {number[]} down the step to the next row
 * @property {number[]} right the step to the next column
 * @property {number[]} to_down rows of a way in mm
 * @property {number[]} to_right columns of a way in mm
 * @property {number[]} [shape] [z, y, x]
 *
 * @typedef {{ matrix: number[][], own: Grid, other: Grid }} Link
 */

export const AIR_HU = -1024;

const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const turned = (matrix, way) => matrix.slice(0, 3).map((row) => dot(row, way));
const moved = (matrix, place) => matrix.slice(0, 3).map((row) => dot(row, place) + row[3]);

/** The index of a height among rising positions, between two of them in proportion; beyond the ends as far apart. */
export function indexOf(height, positions) {
  const last = positions.length - 1;
  if (last < 1) return 0;
  let low = 0, high = last;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (positions[middle] <= height) low = middle;
    else high = middle;
  }
  return low + (height - positions[low]) / (positions[high] - positions[low]);
}

/** What a value in mm is at the corner of slice k, and by how much it rises down and right: `from` is read in the other. */
function plane({ matrix, own }, k, from) {
  return { at: dot(from, moved(matrix, own.origins[k])), down: dot(from, turned(matrix, own.down)), right: dot(from, turned(matrix, own.right)) };
}

/** Three planes that give the other scan's height, row and column of every pixel of slice k, before its slices' own corners. */
const planes = (link, k) => [link.other.normal, link.other.to_down, link.other.to_right].map((from) => plane(link, k, from));

/** The other scan's voxel (z, y, x), fractional, where pixel (x, y) of slice k lies. */
export function placeIn(link, k, x, y) {
  const [height, row, column] = planes(link, k).map(({ at, down, right }) => at + down * y + right * x);
  const z = indexOf(height, link.other.positions);
  const corner = cornerAt(link.other, z);
  return { z, y: row - dot(link.other.to_down, corner), x: column - dot(link.other.to_right, corner) };
}

/** Where slice z, fractional, has its corner. */
function cornerAt({ origins }, z) {
  const low = Math.max(0, Math.min(Math.floor(z), origins.length - 2));
  const next = origins[low + 1] ?? origins[low];
  return origins[low].map((value, axis) => value + (z - low) * (next[axis] - value));
}

/**
 * The height in mm of the middle of slice k, along the patient: RAS+'s z.
 *
 * @param {Grid} grid
 * @param {number} k the slice, from 0
 * @param {number[]} shape [z, y, x]
 */
export function heightOf({ origins, down, right }, k, shape) {
  const [, rows, columns] = shape;
  return origins[k][2] + (down[2] * (rows - 1)) / 2 + (right[2] * (columns - 1)) / 2;
}

/**
 * The other scan's HU along slice k of this one, interpolated linearly; AIR_HU where it was not scanned.
 *
 * @param {Link} link
 * @param {Int16Array} hu the other scan's voxels
 * @param {number} k the slice, from 0
 * @param {number[]} shape this scan's [z, y, x]
 */
export function along(link, hu, k, shape) {
  const [, rows, columns] = shape;
  const out = new Int16Array(rows * columns).fill(AIR_HU);
  const { other } = link;
  const [depth, height, width] = other.shape;
  const [heights, downs, rights] = planes(link, k);
  const downOff = other.origins.map((corner) => dot(other.to_down, corner));
  const rightOff = other.origins.map((corner) => dot(other.to_right, corner));
  for (let y = 0, i = 0; y < rows; y++) {
    for (let x = 0; x < columns; x++, i++) {
      const z = indexOf(heights.at + heights.down * y + heights.right * x, other.positions);
      if (z < -0.5 || z > depth - 0.5) continue;
      const z0 = Math.max(0, Math.min(Math.floor(z), depth - 2)), fz = depth > 1 ? Math.min(1, Math.max(0, z - z0)) : 0;
      const z1 = Math.min(z0 + 1, depth - 1);
      const row = downs.at + downs.down * y + downs.right * x - downOff[z0] - fz * (downOff[z1] - downOff[z0]);
      const column = rights.at + rights.down * y + rights.right * x - rightOff[z0] - fz * (rightOff[z1] - rightOff[z0]);
      if (row < 0 || column < 0 || row > height - 1 || column > width - 1) continue;
      const y0 = Math.min(Math.floor(row), height - 2), x0 = Math.min(Math.floor(column), width - 2);
      const fy = row - y0, fx = column - x0;
      const low = between(hu, (z0 * height + y0) * width + x0, width, fy, fx);
      out[i] = Math.round(fz ? low + fz * (between(hu, (z1 * height + y0) * width + x0, width, fy, fx) - low) : low);
    }
  }
  return out;
}

function between(hu, at, width, fy, fx) {
  const above = hu[at] + fx * (hu[at + 1] - hu[at]);
  const below = hu[at + width] + fx * (hu[at + width + 1] - hu[at + width]);
  return above + fy * (below - above);
}

/**
 * Blood in both masks, only in the first, only in the second.
 *
 * @param {Uint8Array} before
 * @param {Uint8Array} now
 */
export function compared(before, now) {
  const both = before.map((value, i) => value & now[i]);
  return { both, gone: before.map((value, i) => value & ~now[i] & 1), fresh: now.map((value, i) => value & ~before[i] & 1) };
}
