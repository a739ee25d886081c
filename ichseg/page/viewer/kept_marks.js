// What is marked on a scan, as a session's record, and what is said of what is kept. Pure functions.

import { runsOf } from "./masks.js";
import { plural } from "./numbers.js";
import { isMarked } from "./state.js";

/**
 * @typedef {object} Marks
 * @property {string} sha256 the scan's hash
 * @property {any} record a session's record
 * @property {number} boxes how many
 * @property {number} masks how many that boxes do not give
 * @property {number} lesions
 */

/**
 * The marks of the scan on screen.
 *
 * @param {Pick<typeof import("./state.js").state, "scan" | "slices" | "models" | "lesions" | "labels" | "method" | "edge">} shown
 * @returns {Marks}
 */
export function recordOf({ scan, slices, models, lesions, labels, method, edge }) {
  const boxes = [], edits = [];
  for (const [slice, marks] of [...slices].sort(([a], [b]) => a - b)) {
    if (!isMarked(marks)) continue;
    for (const [id, list] of Object.entries(marks.boxes)) {
      for (const box of list) boxes.push({ slice, lesion: Number(id), box_xyxy: box });
    }
    for (const [id, mask] of Object.entries(marks.masks[models[0]] ?? {})) {
      // What boxes gave they give again; the rest is kept as it is.
      const origin = marks.origin[id];
      if (mask && origin && origin !== "box") edits.push({ slice, lesion: Number(id), origin, runs: runsOf(mask.pixels) });
    }
  }
  const rows = lesions.map(({ id, name, type, colour, locked, visible }) => ({ id, name, type, colour, locked, visible }));
  const named = { ...scan.record.scan, label: labels.get(scan.token) || null };
  const record = { ...scan.record, scan: named, ...method, edge, lesions: rows, boxes, propagated: [], edits };
  return { sha256: scan.record.scan.sha256, record, boxes: boxes.length, masks: edits.length, lesions: lesions.length };
}

/** What a file holds of marks, as one text: marks of the same text are saved already. */
export function savedText({ record: { model, edge, lesions, boxes, edits } }) {
  return JSON.stringify([model, edge, lesions, boxes, edits]);
}

/** @param {Pick<Marks, "boxes" | "masks" | "lesions">} marks */
export function countKept({ boxes, masks, lesions }) {
  const parts = [];
  if (boxes) parts.push(plural(boxes, "box"));
  if (masks) parts.push(plural(masks, "mask"));
  return parts.join(" and ") + (lesions > 1 ? " of " + plural(lesions, "lesion") : "");
}

/**
 * What the strip above the viewer says; empty where there is nothing to say.
 *
 * @param {{ away: boolean, lost: string | null, own: Marks | undefined, all: Marks[], open?: boolean }} how whether no
 *   server answers, why the scan was lost, what is kept of the scan on screen, all that is kept, and whether a scan is open
 */
export function keptSentence({ away, lost, own, all, open = true }) {
  if (away) return "The server does not answer: what you drew stays here, and the page goes on by itself once it does.";
  const verb = (one, many) => (all.reduce((sum, { boxes, masks }) => sum + boxes + masks, 0) === 1 ? one : many);
  if (lost) return lost + ": open the scan again" + (own ? "; " + countKept(own) + verb(" is", " are") + " kept here until then." : ".");
  if (own) return countKept(own) + verb(" was", " were") + " kept from before: put them back on this scan, or save them.";
  if (all.length && !open) return all.map(countKept).join(", ") + verb(" is", " are") + " kept of a scan that was open before: open that scan to go on, or save them.";
  if (all.length) return all.map(countKept).join(", ") + verb(" is", " are") + " kept of another scan: open that scan to put them back, or save them.";
  return "";
}
