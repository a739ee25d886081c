// From where the 3D view is seen. Matrices as WebGL takes them, column by column.

const FIELD_DEGREES = 30;
const AROUND = ["the front", "the front and left", "the left", "the back and left", "the back", "the back and right", "the right", "the front and right"];
const radians = (degrees) => (degrees * Math.PI) / 180;
const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];

/**
 * @param {{ turn: number, rise: number, near: number }} orbit degrees to the patient's left and up; how many times nearer
 * @param {{ middle: number[], radius: number }} extent of what is looked at
 * @param {number} aspect width by height
 */
export function camera({ turn, rise, near: times }, { middle, radius }, aspect) {
  // The patient looks along +z, with the left at +x: seen from the front it is on the right.
  const t = radians(turn), r = radians(rise);
  const ct = Math.cos(t), st = Math.sin(t), cr = Math.cos(r), sr = Math.sin(r);
  const right = [ct, 0, -st], up = [-st * sr, cr, -ct * sr], back = [st * cr, sr, ct * cr];
  const half = Math.tan(radians(FIELD_DEGREES / 2));
  const far = (radius * 0.82) / (half * Math.min(1, aspect)) / times;
  const near = Math.max(far - 2 * radius, far / 100), end = far + 2 * radius;
  const view = [0, 1, 2].flatMap((axis) => [right[axis], up[axis], back[axis], 0]);
  view.push(-dot(right, middle), -dot(up, middle), -dot(back, middle) - far, 1);
  const focus = 1 / half;
  const lens = [focus / aspect, 0, 0, 0, 0, focus, 0, 0, 0, 0, (near + end) / (near - end), -1, 0, 0, (2 * near * end) / (near - end), 0];
  return { view: new Float32Array(view), lens: new Float32Array(lens) };
}

/** From where that is, in words. */
export function seenFrom({ turn, rise }) {
  if (rise > 67) return "above";
  if (rise < -67) return "below";
  return AROUND[Math.round((((turn % 360) + 360) % 360) / 45) % 8];
}
