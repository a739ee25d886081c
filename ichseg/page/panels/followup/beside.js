// Side by side: the baseline on the left, the follow-up on the right. The scan on screen is in its own pane, to be marked
// as ever; the other one is drawn along its slices by the registration, or, unlinked, slice by slice as it was scanned.

import { button, enable, one, panes, press } from "../../viewer/dom.js";
import { draw, drawMasks, greys } from "../../viewer/draw.js";
import { clamp, placement } from "../../viewer/geometry.js";
import { showAll } from "../../viewer/hub.js";
import { Mask, pathOf } from "../../viewer/masks.js";
import { complain } from "../../viewer/messages.js";
import { number } from "../../viewer/numbers.js";
import { showSingle } from "../../viewer/panes.js";
import { ask } from "../../viewer/server.js";
import { here, OTHER, ROLE_TITLES, shown, state, view } from "../../viewer/state.js";
import { voxelsOf } from "../../viewer/volume.js";
import { along, compared, heightOf, placeIn } from "./along.js";

/** How dense the parts of the growth map are filled. */
const FILLS = { both: 0, gone: 0.4, fresh: 0.4 };

const beside = {
  on: false,
  linked: true,
  /** whether blood in both, only before and only now is outlined */
  map: false,
  /** @type {any} as Python tells it (page/linking.py) */
  link: null,
  /** the slice of the other scan while the two are not linked */
  k: 0,
};
/** the other scan as it is drawn now, at one canvas pixel a voxel */
const cut = { key: "", hu: /** @type {Int16Array} */ (new Int16Array(0)), canvas: document.createElement("canvas"), painted: "" };
/** @type {Map<string, any>} outlines of the other scan's lesions and of the map, by what they are of */
const outlines = new Map();

/** Whether both scans are drawn side by side now. */
const isLive = () => Boolean(beside.on && state.scan && panes.length > 1 && beside.link?.case === state.scan.token && voxelsOf.has(beside.link.token));
/** The pane of the scan on screen, and that of the other one. */
const ownPane = () => (state.role === "followup" ? 1 : 0);
const otherPane = () => 1 - ownPane();

function grid() {
  // What the other pane shows: the grid of the slice on screen, or the other scan's own.
  if (beside.linked) return { shape: state.scan.shape, spacing: state.scan.spacing };
  const { other } = beside.link;
  return { shape: other.shape, spacing: [1, Math.hypot(...other.down), Math.hypot(...other.right)] };
}

function cutNow() {
  const { link, linked } = beside;
  const voxels = voxelsOf.get(link.token);
  const k = linked ? state.k : beside.k;
  const key = [link.case, link.token, linked, k].join();
  if (key !== cut.key) {
    const [, rows, columns] = grid().shape;
    cut.hu = linked ? along(link, voxels, k, state.scan.shape) : voxels.subarray(k * rows * columns, (k + 1) * rows * columns);
    cut.key = key;
  }
  const want = [key, shown.width, shown.level].join();
  if (want === cut.painted) return;
  const [, rows, columns] = grid().shape;
  Object.assign(cut.canvas, { width: columns, height: rows });
  const image = new ImageData(columns, rows);
  const out = new Uint32Array(image.data.buffer), table = greys();
  for (let i = 0; i < out.length; i++) out[i] = table[cut.hu[i] + 32768];
  cut.canvas.getContext("2d").putImageData(image, 0, 0);
  cut.painted = want;
}

/** Draw the other scan in its pane; null where this pane is not its. */
function drawWhole(context, index, canvas) {
  if (!isLive() || index !== otherPane()) return null;
  cutNow();
  const { sx, sy, left, top } = placement(grid(), view, canvas.clientWidth, canvas.clientHeight);
  context.imageSmoothingQuality = "high";
  context.drawImage(cut.canvas, left, top, cut.canvas.width * sx, cut.canvas.height * sy);
  if (!shown.masks || !beside.linked) return true;
  const transform = new DOMMatrix([sx, 0, 0, sy, left, top]);
  if (beside.map && state.role === "baseline") return drawMap(context, transform);
  for (const { id, colour } of beside.link.lesions) {
    const mask = otherMask(id);
    if (mask) stroke(context, mask.path, transform, colour);
  }
  return true;
}

/** Draw the masks of the scan on screen in its pane: those of the left pane's method, or the growth map. */
function drawInstead(context, index, transform) {
  if (!isLive() || index !== ownPane()) return null;
  if (beside.map && beside.linked && state.role === "followup") return drawMap(context, transform);
  drawMasks(context, 0, transform);
  return true;
}

function otherMask(id) {
  const runs = beside.link.slices[state.k]?.[id];
  if (!runs) return null;
  return kept("other" + id, runs, () => new Mask(runs, state.scan.shape));
}

/** What was made of something, as long as that is the same. */
function kept(name, of, made) {
  const known = outlines.get(name);
  if (known?.of === of) return known.made;
  const fresh = { of, made: made() };
  outlines.set(name, fresh);
  return fresh.made;
}

function drawMap(context, transform) {
  const { lesions, models, scan, role } = state;
  const own = lesions.filter(({ blood }) => blood).map(({ id }) => here().masks[models[0]]?.[id]).filter(Boolean);
  const others = beside.link.lesions.map(({ id }) => otherMask(id)).filter(Boolean);
  const mine = Mask.union(own, scan.shape).pixels, theirs = Mask.union(others, scan.shape).pixels;
  const parts = role === "followup" ? compared(theirs, mine) : compared(mine, theirs);
  for (const name of ["gone", "fresh", "both"]) { // the last one's edge lies on those of the others
    const { colour } = beside.link.parts[name];
    if (parts[name].some(Boolean)) stroke(context, pathOf(parts[name], scan.shape[1], scan.shape[2]), transform, colour, FILLS[name]);
  }
  return true;
}

function stroke(context, path, transform, colour, opacity = shown.fill ? shown.opacity : 0) {
  const placed = new Path2D();
  placed.addPath(path, transform);
  context.strokeStyle = context.fillStyle = colour;
  context.lineJoin = "round";
  if (opacity) {
    context.globalAlpha = opacity;
    context.fill(placed, "evenodd");
    context.globalAlpha = 1;
  }
  context.lineWidth = 1.5;
  context.stroke(placed);
}

// What hands do

/** What is said of the registration, once there is one. */
export const sentence = () => beside.link?.sentence ?? "";

/** Have both scans side by side, or one. */
export function toggle() {
  if (!state.roles.followup) return;
  beside.on = !beside.on;
  state.own = 0;
  if (beside.on) wanted();
  showAll();
}

/** Have both side by side, for another part of the panel. */
export function turnOn() {
  beside.on = true;
  wanted();
}

function wanted() {
  const { link } = beside;
  if (!state.roles.followup || state.lost) return;
  if (shown.single) showSingle(false); // one scan a pane
  const other = state.roles[OTHER[state.role]].case;
  if (!voxelsOf.has(other)) {
    beside.on = false;
    complain("Both scans are shown once both are loaded; the other one is not; change to it once (X), then try again.");
    return;
  }
  if (link?.case !== state.scan.token || link.token !== other) ask({ op: "link" });
}

/** Link the two scans, or let the other one go its own way. */
export function toggleLinked() {
  if (!isLive()) return;
  beside.linked = !beside.linked;
  const [, rows, columns] = state.scan.shape;
  const { z } = placeIn(beside.link, state.k, columns / 2, rows / 2);
  beside.k = clamp(Math.round(z), 0, beside.link.other.shape[0] - 1);
  showAll();
}

/** Outline what has come and gone, or each scan's own masks. */
export function toggleMap() {
  beside.map = !beside.map;
  showAll();
}

function scroll(index, by) {
  if (!isLive() || beside.linked || index !== otherPane()) return false;
  beside.k = clamp(beside.k + by, 0, beside.link.other.shape[0] - 1);
  showPanes();
  draw();
  return true;
}

/** What is to be seen of the other scan under the pointer; null where this pane is not its. */
function valueAt(index, x, y) {
  if (!isLive() || index !== otherPane()) return null;
  const [, rows, columns] = grid().shape;
  return x < 0 || y < 0 || x >= columns || y >= rows ? "" : cut.hu[y * columns + x] + " HU";
}

// What is said

function showTools() {
  const two = Boolean(state.roles.followup);
  for (const name of ["carry", "beside", "beside_linked", "beside_map"]) button(name).hidden = !two;
  enable("beside_linked", isLive());
  enable("beside_map", isLive() && beside.linked);
  enable("carry", two && state.roles.baseline?.marked > 0 && !state.lost);
  press("beside", beside.on);
  press("beside_linked", beside.linked);
  press("beside_map", beside.map);
  const legend = one(".ich-map-legend");
  legend.hidden = !(isLive() && beside.map && beside.linked);
  if (!legend.hidden && !legend.childElementCount) {
    for (const [name, { title, colour }] of Object.entries(beside.link.parts)) {
      const item = document.createElement("span");
      item.textContent = title;
      item.style.setProperty("--ich-own", colour);
      item.style.setProperty("--ich-filled", 100 * FILLS[name] + "%");
      legend.append(item);
    }
  }
  const said = one(".ich-link-state");
  said.textContent = two && beside.link ? beside.link.sentence : "";
  said.dataset.unsure = Boolean(beside.link) && !beside.link.sure;
}

function showPanes() {
  for (const { node } of panes) delete node.dataset.beside;
  if (!isLive()) return;
  const { link, linked } = beside, { k, scan, models, totals, role } = state;
  const own = panes[ownPane()], other = panes[otherPane()];
  own.sliceMl.textContent = number(here().ml[models[0]]);
  own.totalMl.textContent = number(totals[models[0]]);
  other.sliceMl.textContent = "–";
  other.totalMl.textContent = number(link.total_ml);
  for (const pane of [own, other]) {
    pane.chooser.value = models[0];
    pane.chooser.disabled = true;
  }
  own.node.dataset.beside = "own";
  other.node.dataset.beside = "other";
  const mm = (value) => "   z " + value.toFixed(1) + " mm";
  own.corner.slice.textContent = k + 1 + " / " + scan.shape[0] + "   " + ROLE_TITLES[role] + mm(heightOf(link.own, k, scan.shape));
  const [, rows, columns] = scan.shape;
  const depth = link.other.shape[0];
  const z = linked ? placeIn(link, k, columns / 2, rows / 2).z : beside.k;
  const nearest = clamp(Math.round(z), 0, depth - 1);
  const where = linked ? "along this slice, about " + (nearest + 1) + " / " + depth : nearest + 1 + " / " + depth;
  other.corner.slice.textContent = where + "   " + ROLE_TITLES[OTHER[role]] + mm(heightOf(link.other, nearest, link.other.shape));
  other.canvas.setAttribute("aria-label", ROLE_TITLES[OTHER[role]] + ", " + where);
}

/** The hooks of side by side, to be joined with the panel's. */
export const hooks = {
  drawWhole,
  drawInstead,
  scroll,
  valueAt,
  grab: (point, pane) => (isLive() && pane === panes[otherPane()] ? { kind: "none", end() {} } : null),
  cursor: (point, index) => (isLive() && index === otherPane() ? "default" : null),
  slice: showPanes,
};

/** Another scan is on screen: its link is another. */
export function opened() {
  outlines.clear();
  if (beside.on && state.roles.followup) wanted();
  if (!state.roles.followup) Object.assign(beside, { on: false, link: null });
}

/** An answer may bring what the panes are linked by. */
export function take(reply) {
  if (reply.link) beside.link = reply.link;
  if (reply.error && beside.on && !isLive()) beside.on = false;
}

/** Show everything as it is now. */
export function show() {
  if (!state.roles.followup && beside.on) Object.assign(beside, { on: false, link: null });
  state.own = isLive() ? ownPane() : 0;
  state.growthMap = isLive() && beside.map && beside.linked;
  showTools();
  showPanes();
}
