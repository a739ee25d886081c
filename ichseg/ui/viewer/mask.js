// Masks as Python sends them, and their outlines.

class Mask {
  // `runs` are the flat indices, row by row, at which the mask turns on and off.
  constructor(runs, [, rows, columns]) {
    this.pixels = new Uint8Array(rows * columns);
    for (let i = 0; i < runs.length; i += 2) this.pixels.fill(1, runs[i], runs[i + 1]);
    this.path = outlineOf(this.pixels, rows, columns);
  }
}

function outlineOf(pixels, rows, columns) {
  // The closed loops along pixel edges, with the mask on the right of each directed edge.
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
  const path = new Path2D();
  while (next.size) {
    const start = next.keys().next().value;
    let at = start;
    path.moveTo(at % width, Math.floor(at / width));
    do {
      const ends = next.get(at);
      const to = ends.pop();
      if (!ends.length) next.delete(at);
      path.lineTo(to % width, Math.floor(to / width));
      at = to;
    } while (at !== start);
    path.closePath();
  }
  return path;
}
