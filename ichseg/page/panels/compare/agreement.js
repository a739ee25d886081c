// Where two masks agree, drawn apart without colour: full, stripes, dots.

import { one } from "../../viewer/dom.js";
import { Mask, pathOf } from "../../viewer/masks.js";
import { colourOf, here, state, titleOf } from "../../viewer/state.js";
import { againstReference, comparing } from "./comparing.js";

const REFERENCE_COLOUR = "#9be564", BOTH_COLOUR = "#ffffff";
const PATTERNS = { full: "full", stripes: "striped", dots: "dotted" };
const TILE_PX = 16; // two for a CSS pixel
/** a method's mask -> what it has with another, and what only one of them has */
const parts = new WeakMap();
/** a model's masks by lesion -> their blood together */
const unions = new WeakMap();

function bloodOf(model) {
  // What a model marks of blood on the slice, whatever the lesion; undefined where it marks nothing.
  const byLesion = here().masks[model] ?? {};
  const blood = state.lesions.filter((lesion) => lesion.blood && byLesion[lesion.id]);
  if (blood.length < 2) return byLesion[blood[0]?.id];
  const key = blood.map(({ id }) => id).join();
  const known = unions.get(byLesion);
  if (known?.key === key) return known.mask;
  const mask = Mask.union(blood.map(({ id }) => byLesion[id]), state.scan.shape);
  unions.set(byLesion, { key, mask });
  return mask;
}

const emptyMask = () => new Mask([], state.scan.shape);
const referenceHere = () => comparing.reference?.get(state.k);

function agreementOf(own, reference) {
  // The outlines of what both have, and of what only one has; made once for a pair of masks.
  const known = parts.get(own);
  if (known?.reference === reference) return known;
  const [, rows, columns] = state.scan.shape;
  const outline = (keep) => pathOf(own.pixels.map((value, i) => keep(value, reference?.pixels[i] ?? 0)), rows, columns);
  const made = {
    reference,
    both: outline((a, b) => a & b),
    ownOnly: outline((a, b) => a & (1 - b)),
    referenceOnly: outline((a, b) => (1 - a) & b),
  };
  parts.set(own, made);
  return made;
}

function texture(context, kind, colour) {
  const tile = document.createElement("canvas");
  tile.width = tile.height = TILE_PX;
  const pen = tile.getContext("2d");
  pen.fillStyle = pen.strokeStyle = colour;
  PAINT[kind](pen);
  const pattern = context.createPattern(tile, "repeat");
  pattern.setTransform(new DOMMatrix().scale(0.5));
  return pattern;
}

const PAINT = {
  full(pen) {
    pen.globalAlpha = 0.35;
    pen.fillRect(0, 0, TILE_PX, TILE_PX);
  },
  stripes(pen) {
    pen.lineWidth = 4;
    for (const x of [-16, 0, 16]) {
      pen.beginPath();
      pen.moveTo(x - 2, 18);
      pen.lineTo(x + 18, -2);
      pen.stroke();
    }
  },
  dots(pen) {
    for (const [x, y] of [[4, 4], [12, 12]]) {
      pen.beginPath();
      pen.arc(x, y, 3, 0, 7);
      pen.fill();
    }
  },
};

/** Draw where a pane's method agrees, in the place of its masks; the first pane agrees with itself. */
export function drawAgreement(context, index, transform) {
  const isAgainst = againstReference();
  if (!comparing.open || !comparing.agreement || !(isAgainst || index > 0)) return false;
  const own = bloodOf(state.models[index]) ?? emptyMask();
  const { both, ownOnly, referenceOnly } = agreementOf(own, isAgainst ? referenceHere() : bloodOf(state.models[0]));
  const layers = [
    [both, "full", BOTH_COLOUR],
    [referenceOnly, "stripes", isAgainst ? REFERENCE_COLOUR : colourOf(state.models[0])],
    [ownOnly, "dots", colourOf(state.models[index])],
  ];
  for (const [shape, kind, colour] of layers) {
    const path = new Path2D();
    path.addPath(shape, transform);
    context.fillStyle = texture(context, kind, colour);
    context.fill(path, "evenodd");
    context.strokeStyle = colour;
    context.lineWidth = 1;
    context.stroke(path);
  }
  return true;
}

/** Draw the reference mask's outline. */
export function drawReference(context, _, transform) {
  const reference = referenceHere();
  if (!comparing.open || !comparing.outline || !reference) return;
  const path = new Path2D();
  path.addPath(reference.path, transform);
  context.setLineDash([5, 4]);
  context.lineWidth = 1.5;
  context.strokeStyle = REFERENCE_COLOUR;
  context.stroke(path);
  context.setLineDash([]);
}

/** Say what the textures mean. */
export function showLegend() {
  const list = one(".ich-legend");
  const items = comparing.agreement ? meanings() : [];
  list.hidden = !items.length;
  list.replaceChildren(...items.map(([kind, colour, text]) => legendItem(kind, colour, text)));
}

function meanings() {
  if (againstReference()) {
    return [["full", BOTH_COLOUR, "reference mask and method"], ["stripes", REFERENCE_COLOUR, "only the reference mask: missed"], ["dots", colourOf(state.models[0]), "only the method: too much"]];
  }
  const { models } = state;
  const others = models.length === 2 ? titleOf(models[1]) : "the pane's own method";
  return [["full", BOTH_COLOUR, "both"], ["stripes", colourOf(models[0]), "only " + titleOf(models[0])], ["dots", colourOf(models[1]), "only " + others]];
}

function legendItem(kind, colour, text) {
  const item = document.createElement("li");
  const swatch = document.createElement("canvas");
  swatch.width = 44;
  swatch.height = 28;
  swatch.setAttribute("aria-hidden", "true");
  const pen = swatch.getContext("2d");
  pen.scale(2, 2);
  pen.fillStyle = texture(pen, kind, colour);
  pen.fillRect(0, 0, 22, 14);
  item.append(swatch, PATTERNS[kind] + ": " + text);
  return item;
}
