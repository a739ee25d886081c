// What a screen reader is told, as sentences. Pure functions.

import { capital, number } from "./numbers.js";

/** The slice that came on screen, from 0, of `depth`; `ml` of the left pane's method where it is marked, else null. */
export const sliceSentence = (k, depth, ml) => "Slice " + (k + 1) + " of " + depth + (ml === null ? "" : ": " + number(ml) + " mL here") + ".";

/**
 * The millilitres of slice k, from 0, and of the whole scan, by method.
 *
 * @param {number} k
 * @param {{ title: string, here_ml: number, total_ml: number }[]} rows
 */
export function volumesSentence(k, rows) {
  const each = rows.map(({ title, here_ml, total_ml }) => title + " " + number(here_ml) + " mL here, " + number(total_ml) + " in total");
  return "Slice " + (k + 1) + ": " + each.join("; ") + ".";
}

/**
 * How far a lesion was followed, and why no further; empty where it was not.
 *
 * @param {{ name: string, stops: { slice: number, reason: string, sentence: string }[] } | undefined} lesion
 * @param {boolean} several whether the scan has more than one
 */
export function stopsSentence(lesion, several) {
  if (!lesion?.stops.length) return "";
  const reasons = lesion.stops
    .filter(({ reason }) => reason !== "end")
    .map(({ slice, sentence }) => capital(sentence) + " (--slice " + slice + ")")
    .join("; ");
  const whose = several ? lesion.name + ": " : "";
  return whose + (reasons ? reasons + "." : "followed to both ends of the scan.") + " Look at every slice; a box where it is wrong wins.";
}
