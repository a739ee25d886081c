// Where things are: slice and screen, boxes and their handles, zoom. Pure functions of numbers.

/**
 * @typedef {[number, number, number, number]} Box x0, y0, x1, y1 in pixels of the slice
 * @typedef {{ sx: number, sy: number, left: number, top: number }} Placement
 *   slice pixel (x, y) lies at (left + x * sx, top + y * sy) in CSS pixels of the canvas
 * @typedef {{ zoom: number, x: number, y: number }} View the centre in fractions of the slice
 */

export const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

/**
 * Where a slice lies on a canvas of `width` by `height` CSS pixels: at zoom 1 it fits, in its true proportions.
 *
 * @param {{ shape: number[], spacing: number[] }} grid both [z, y, x], the spacing in mm
 * @returns {Placement}
 */
export function placement({ shape: [, rows, columns], spacing: [, dy, dx] }, view, width, height) {
  const scale = Math.min(width / (columns * dx), height / (rows * dy)) * view.zoom;
  const sx = scale * dx, sy = scale * dy;
  return { sx, sy, left: width / 2 - view.x * columns * sx, top: height / 2 - view.y * rows * sy };
}

/**
 * The whole pixels between two points, on the slice; null where the drag was no more than a click.
 *
 * @param {number[]} shape [z, y, x]
 * @returns {Box | null}
 */
export function boxBetween(a, b, shape) {
  const [, rows, columns] = shape;
  const x0 = clamp(Math.round(Math.min(a.x, b.x)), 0, columns), x1 = clamp(Math.round(Math.max(a.x, b.x)), 0, columns);
  const y0 = clamp(Math.round(Math.min(a.y, b.y)), 0, rows), y1 = clamp(Math.round(Math.max(a.y, b.y)), 0, rows);
  return x1 - x0 < 2 || y1 - y0 < 2 ? null : [x0, y0, x1, y1];
}

/**
 * Which part of a box lies under a point: [hx, hy] in -1, 0, 1; [0, 0] is its inside; null where none does.
 *
 * @param {Box | undefined} box
 * @param {{ x: number, y: number, sx: number, sy: number }} point in pixels of the slice, with the scale there
 * @param {number} reach CSS pixels
 */
export function handleAt(box, { x, y, sx, sy }, reach) {
  if (!box) return null;
  const [x0, y0, x1, y1] = box;
  const rx = reach / sx, ry = reach / sy;
  if (x < x0 - rx || x > x1 + rx || y < y0 - ry || y > y1 + ry) return null;
  const side = (value, low, high, r) => {
    const near = Math.min(r, (high - low) / 3 + r / 3);
    return Math.abs(value - low) <= near ? -1 : Math.abs(value - high) <= near ? 1 : 0;
  };
  return [side(x, x0, x1, rx), side(y, y0, y1, ry)];
}

/**
 * A box whose handle was moved by (dx, dy): it stays on the slice, and at least two pixels wide and tall.
 *
 * @param {Box} box
 * @param {number[]} handle [hx, hy], as `handleAt` gives it
 * @param {number[]} shape [z, y, x]
 * @returns {Box}
 */
export function reshape(box, handle, dx, dy, shape) {
  const [x0, y0, x1, y1] = box, [hx, hy] = handle, [, rows, columns] = shape;
  if (!hx && !hy) {
    const mx = clamp(Math.round(dx), -x0, columns - x1), my = clamp(Math.round(dy), -y0, rows - y1);
    return [x0 + mx, y0 + my, x1 + mx, y1 + my];
  }
  const [left, right] = moveSide(x0, x1, hx, dx, columns);
  const [top, bottom] = moveSide(y0, y1, hy, dy, rows);
  return [left, top, right, bottom];
}

function moveSide(from, to, handle, by, size) {
  let low = handle < 0 ? clamp(Math.round(from + by), 0, size) : from;
  let high = handle > 0 ? clamp(Math.round(to + by), 0, size) : to;
  if (low > high) [low, high] = [high, low]; // dragged past the other side
  if (high - low < 2 && handle < 0) low = Math.max(0, high - 2);
  else if (high - low < 2) high = Math.min(size, low + 2);
  return [low, high];
}

/** The view with its centre at (x, y), as far as the slice still fills the pane. */
export function centred({ zoom }, x, y) {
  if (zoom === 1) return { zoom, x: 0.5, y: 0.5 };
  const margin = 0.5 / zoom;
  const within = (value) => clamp(value, Math.min(margin, 0.5), Math.max(1 - margin, 0.5));
  return { zoom, x: within(x), y: within(y) };
}

/** The view at another zoom, 1 to 12, with the slice's point `at` (in fractions) where it is on screen. */
export function zoomed(view, zoom, at = view) {
  const target = clamp(zoom, 1, 12);
  const part = view.zoom / target;
  return centred({ zoom: target }, at.x + (view.x - at.x) * part, at.y + (view.y - at.y) * part);
}

/** The length of a line in mm; `plane` holds what a step of one pixel is in mm, [[xx, xy], [yx, yy]]. */
export function lengthMm([x0, y0, x1, y1], [[xx, xy], [yx, yy]]) {
  return Math.hypot(xx * (x1 - x0) + xy * (y1 - y0), yx * (x1 - x0) + yy * (y1 - y0));
}
