// Masks as Python sends them, their outlines, and as a session's record holds them.

/** A mask of one slice. */
export class Mask {
  /**
   * @param {number[]} runs the flat indices, row by row, at which the mask turns on and off
   * @param {number[]} shape [z, y, x]
   */
  constructor(runs, [, rows, columns]) {
    this.rows = rows;
    this.columns = columns;
    this.pixels = new Uint8Array(rows * columns);
    /** @type {Path2D | null} */
    this.drawn = null;
    for (let i = 0; i < runs.length; i += 2) this.pixels.fill(1, runs[i], runs[i + 1]);
  }

  /** Its outline as a path, drawn when it is first wanted. */
  get path() {
    this.drawn ??= pathOf(this.pixels, this.rows, this.columns);
    return this.drawn;
  }

  static union(masks, shape) {
    const whole = new Mask([], shape);
    for (const { pixels } of masks) for (let i = 0; i < pixels.length; i++) whole.pixels[i] |= pixels[i];
    return whole;
  }
}

/** The outline as a Path2D in pixels of the slice. */
export function pathOf(pixels, rows, columns) {
  const path = new Path2D();
  for (const [start, ...corners] of loopsOf(pixels, rows, columns)) {
    path.moveTo(...start);
    for (const corner of corners) path.lineTo(...corner);
    path.closePath();
  }
  return path;
}

/**
 * The closed loops along pixel edges, with the mask on the right of each directed edge.
 *
 * @returns {[number, number][][]} the corners (x, y) of each loop; its first is its last as well
 */
export function loopsOf(pixels, rows, columns) {
  const next = new Map(); // start corner -> end corners
  const width = columns + 1;
  const edge = (from, to) => (next.has(from) ? next.get(from).push(to) : next.set(from, [to]));
  for (let y = 0, i = 0; y < rows; y++) {
    for (let x = 0; x < columns; x++, i++) {
      if (!pixels[i]) continue;
      const corner = y * width + x;
      if (y === 0 || !pixels[i - columns]) edge(corner, corner + 1);
      if (x === columns - 1 || !pixels[i + 1]) edge(corner + 1, corner + 1 + width);
      if (y === rows - 1 || !pixels[i + columns]) edge(corner + 1 + width, corner + width);
      if (x === 0 || !pixels[i - 1]) edge(corner + width, corner);
    }
  }
  /** @type {[number, number][][]} */
  const loops = [];
  while (next.size) {
    const start = next.keys().next().value;
    /** @type {[number, number][]} */
    const loop = [];
    let at = start;
    do {
      loop.push([at % width, Math.floor(at / width)]);
      const ends = next.get(at);
      const to = ends.pop();
      if (!ends.length) next.delete(at);
      at = to;
    } while (at !== start);
    loop.push(loop[0]);
    loops.push(loop);
  }
  return loops;
}

/** How many pixels, row by row, are off, then on, then off, and so on; the last that are off are left out. */
export function runsOf(pixels) {
  const runs = [];
  let from = 0, on = 0;
  for (let i = 0; i < pixels.length; i++) {
    if (pixels[i] === on) continue;
    runs.push(i - from);
    from = i;
    on = pixels[i];
  }
  if (on) runs.push(pixels.length - from);
  return runs.join(" ");
}
