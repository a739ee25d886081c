// ABC/2 as it is on screen: what Python found, under what a person moved since.

import { lengthMm } from "../../viewer/geometry.js";
import { ask } from "../../viewer/server.js";
import { measuring } from "./measuring.js";

/** @type {Map<number, any>} by lesion: {a, b, c} that a person moved and Python has not answered yet */
export const moved = new Map();

/** @returns {[number, number, number, number]} x0, y0, x1, y1 of a line, in pixels of the slice */
export const endsOf = ({ x0_px, y0_px, x1_px, y1_px }) => [x0_px, y0_px, x1_px, y1_px];

export const lineMm = (ends) => lengthMm(ends, measuring.record.plane_mm);

const withEnds = (line, [x0_px, y0_px, x1_px, y1_px]) => ({ ...line, x0_px, y0_px, x1_px, y1_px, length_mm: lineMm([x0_px, y0_px, x1_px, y1_px]) });

/** What a person moved of a lesion's; of the total's, which is that of its only blood. */
const ownOf = (lesion) => moved.get(lesion.id ?? measuring.record.lesions.find((part) => part.is_blood)?.id);

export const isMoved = (lesion) => Boolean(lesion.abc2 && ownOf(lesion));

export function abcOf(lesion) {
  const found = lesion.abc2;
  const own = ownOf(lesion);
  if (!found || !own) return found;
  const a = own.a ? withEnds(found.a, own.a) : found.a;
  const b = own.b ? withEnds(found.b, own.b) : found.b;
  const c_mm = own.c ?? found.c_mm;
  return { ...found, a, b, c_mm, volume_ml: (a.length_mm * b.length_mm * c_mm) / 2000, edited: ["a", "b", "c"].filter((name) => own[name] !== null) };
}

export const measuredLesions = () => (measuring.open && measuring.record ? measuring.record.lesions.filter((lesion) => lesion.abc2) : []);
export const lesionOf = (id) => measuredLesions().find((lesion) => lesion.id === id);

/** What a person has set of a lesion's lines, null for what is found by itself. */
export function ownLines(id) {
  if (!moved.has(id)) {
    const { a, b, c_mm, edited } = lesionOf(id).abc2;
    moved.set(id, { a: edited.includes("a") ? endsOf(a) : null, b: edited.includes("b") ? endsOf(b) : null, c: edited.includes("c") ? c_mm : null });
  }
  return moved.get(id);
}

/** Tell Python what a person has set of a lesion's lines. */
export function tellLines(id) {
  const own = moved.get(id);
  if (own) ask({ op: "abc2", lesion: id, ...own });
}
