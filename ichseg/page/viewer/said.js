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
 * @param {{ name: string, stops: { reason: string, sentence: string }[] } | undefined} lesion
 * @param {boolean} several whether the scan has more than one
 */
export function stopsSentence(lesion, several) {
  if (!lesion?.stops.length) return "";
  const reasons = lesion.stops
    .filter(({ reason }) => reason !== "end")
    .map(({ sentence }) => capital(sentence) + ".")
    .join(" ");
  const whose = several ? lesion.name + ": " : "";
  return whose + (reasons || "followed to both ends of the scan.") + " Look at every slice; a box where it is wrong wins.";
}

const about = (seconds) => (Number.isFinite(seconds) ? ", about " + Math.max(1, Math.round(seconds)) + " s" : "");

/**
 * A place in the server's queue.
 *
 * @param {{ ahead: number, seconds: number | null }} place how many are served before, and what is left to wait
 */
export function queueSentence({ ahead, seconds }) {
  const place = ahead ? "you are number " + (ahead + 1) + " in the queue" : "you are next";
  return "Others are being served: " + place + about(seconds) + ".";
}

/**
 * How many wait at the same time where there is no queue; empty where nobody else does.
 *
 * @param {{ people: number, seconds: number | null }} waiting with this page; what such an answer took lately
 */
export function waitSentence({ people, seconds }) {
  if (people < 2) return "";
  const others = people === 2 ? "1 other waits" : people - 1 + " others wait";
  return "Segmenting… " + others + " as well" + about(seconds) + ".";
}
