// Masks as Python sends them, and their outlines.

class Mask {
  // `runs` are the flat indices, row by row, at which the mask turns on and off.
  constructor(runs, [, rows, columns]) {
    this.pixels = new Uint8Array(rows * columns);
    for (let i = 0; i < runs.length; i += 2) this.pixels.fill(1, runs[i], runs[i + 1]);
    this.path = outlineOf(this.pixels, rows, columns);
  }

  static union(masks, shape) {
    const whole = new Mask([], shape);
    for (const { pixels } of masks) for (let i = 0; i < pixels.length; i++) whole.pixels[i] |= pixels[i];
    whole.path = outlineOf(whole.pixels, shape[1], shape[2]);
    return whole;
  }
}

const unions = new WeakMap(); // a model's masks by lesion -> their blood together, made once
function bloodOf(state, model) {
  // What a model marks of blood on a slice, whatever the lesion; undefined where it marks nothing.
  const byLesion = state.masks[model] ?? {};
  const blood = lesions.filter((one) => one.blood && byLesion[one.id]);
  if (blood.length < 2) return byLesion[blood[0]?.id];
  const key = blood.map(({ id }) => id).join();
  const known = unions.get(byLesion);
  if (known?.key === key) return known.mask;
  const mask = Mask.union(blood.map(({ id }) => byLesion[id]), scan.shape);
  unions.set(byLesion, { key, mask });
  return mask;
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
