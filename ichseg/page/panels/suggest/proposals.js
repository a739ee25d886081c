// The proposals of the scan on screen: which are open, accepted or dismissed. Pure functions, but for `suggesting`.

/**
 * @typedef {import("../../viewer/geometry.js").Box} Box
 *
 * @typedef {object} Proposal
 * @property {number} key what accepting it is answered with
 * @property {number} score how sure it is, 0 to 1
 * @property {number | null} ml of its masks; null once its boxes were adjusted
 * @property {number} show the slice to look at first
 * @property {Map<number, Box[]>} slices its boxes
 * @property {number | null} lesion that it was accepted as
 * @property {boolean} dismissed
 */

export const suggesting = {
  open: false,
  /** @type {Proposal[] | null} strongest first; null before they were asked for */
  list: null,
  /** the one in view, by its place; -1 where none is */
  at: -1,
  /** what is said of all of them */
  text: "",
  /** whose masks the millilitres are of */
  model: "",
  /** @type {Set<number>} the keys of those that are followed through the scan once they are accepted */
  following: new Set(),
  /** @type {{ index: number, box: Box } | null} a box of the one in view that is being adjusted */
  draft: null,
};

/** Whether a proposal's boxes are still there as those of its lesion: not after an undo. */
export function isAccepted(proposal, lesions, slices) {
  const { lesion, show } = proposal;
  return lesion !== null && lesions.some(({ id }) => id === lesion) && Boolean(slices.get(show)?.boxes[lesion]?.length);
}

/** The place of the next proposal that is open, from `at` on and around; -1 where none is. */
export function nextOpen(list, at, isOpen) {
  for (let step = 1; step <= list.length; step++) {
    const place = (at + step) % list.length;
    if (isOpen(list[place])) return place;
  }
  return -1;
}

/**
 * Slices as people name them, runs of three and more together.
 *
 * @param {number[]} slices from 0, rising
 */
export function slicesText(slices) {
  const parts = [];
  for (let i = 0; i < slices.length; i++) {
    const from = i;
    while (slices[i + 1] === slices[i] + 1) i++;
    if (i - from >= 2) parts.push(slices[from] + 1 + " to " + (slices[i] + 1));
    else for (let j = from; j <= i; j++) parts.push(String(slices[j] + 1));
  }
  return parts.length > 1 ? parts.slice(0, -1).join(", ") + " and " + parts.at(-1) : parts.join("");
}

/**
 * The slices that a proposal goes over: it has no gap, but boxes on every tenth of them, say, in a thin series.
 *
 * @param {number[]} slices with boxes, from 0
 */
export function extentText(slices) {
  const first = Math.min(...slices) + 1, last = Math.max(...slices) + 1;
  return first === last ? "slice " + first : "slices " + first + (last === first + 1 ? " and " : " to ") + last;
}

/**
 * How sure a finder is; never wholly.
 *
 * @param {number} score 0 to 1
 */
export function sureText(score) {
  const percent = Math.round(100 * score);
  return (percent > 99 ? "over 99" : percent) + " % sure";
}

/** Slices this suspicious and more are named, and are what the strip shows in full. */
export const LIKELY = 0.5;

/**
 * What the strip shows, in words.
 *
 * @param {Record<string, number>} slices by slice: how likely there is blood
 * @param {number} depth the slices of the scan
 */
export function likelyText(slices, depth) {
  const looked = Object.keys(slices).length;
  const named = Object.entries(slices).filter(([, share]) => share >= LIKELY).map(([k]) => Number(k)).sort((a, b) => a - b);
  const where = named.length ? "Blood is likely on slice" + (named.length > 1 ? "s " : " ") + slicesText(named) : "No slice looks likely to have blood";
  return where + (looked < depth ? "; " + looked + " of " + depth + " slices were looked at" : "") + ". It may be missed: look at every slice.";
}
