// What the page shows: the one place that the core and the panels share. A panel's own state is its own.

/**
 * @typedef {import("./geometry.js").Box} Box
 * @typedef {import("./masks.js").Mask} Mask
 *
 * @typedef {object} Scan
 * @property {string} token what Python knows it by
 * @property {Int16Array} hu voxels, [z, y, x]
 * @property {number[]} shape [z, y, x]
 * @property {number[]} spacing [z, y, x], mm
 * @property {string} name
 * @property {any} record a session's record without any mark
 * @property {string[]} warnings what makes its millilitres doubtful
 * @property {string[]} notes
 * @property {any[]} series the other series of its files, and of its study in the archive
 * @property {boolean} archive whether it came from the image archive
 * @property {{ key: string, number: number } | null} study which row of the study it is, where the page was started for one
 * @property {boolean} sample whether it is one of the project's own
 * @property {boolean} dicom
 * @property {boolean} tilted whether its slices are stacked aslant
 * @property {boolean} even whether they are evenly spaced
 *
 * @typedef {object} Lesion `ml` and `stops` are the left pane's
 * @property {number} id
 * @property {string} name
 * @property {string} type
 * @property {string} colour
 * @property {boolean} locked
 * @property {boolean} visible
 * @property {boolean} blood
 * @property {number} ml
 * @property {{ slice: number, direction: number, reason: string, sentence: string }[]} stops
 *
 * @typedef {object} Slice what is marked on a slice
 * @property {number} [n] the number of the answer that it comes from
 * @property {Record<string, Box[]>} boxes by lesion
 * @property {Record<string, Record<string, Mask | undefined>>} masks by method, then lesion
 * @property {Record<string, number>} ml by method
 * @property {Record<string, string | undefined>} origin by lesion: "box", "propagated" or "edited"
 * @property {string[]} [rough] the methods whose masks are yet to be refined
 *
 * @typedef {"baseline" | "followup"} Role
 */

export const state = {
  /** @type {Scan | null} the scan on screen */
  scan: null,
  /** the slice on screen, from 0 */
  k: 0,
  /** whether the growth map is shown, of two scans side by side */
  growthMap: false,
  /** @type {any[]} the methods there are: {name, title, summary, colour, missing, fetch, hindrance} */
  choices: [],
  /** @type {string[]} the methods of the panes, from left to right */
  models: [],
  /** @type {Lesion[]} */
  lesions: [],
  /** the lesion that boxes and corrections go to, by its id */
  lesion: 1,
  /** @type {Map<number, Slice>} what is marked, by slice */
  slices: new Map(),
  /** @type {Record<string, number>} mL of the scan by method */
  totals: {},
  /** @type {Record<string, string>} by method: what computes it, for people */
  runs: {},
  /** @type {Record<string, string>} by method: what went wrong with it */
  trouble: {},
  /** what can be undone and done again */
  history: { undo: false, redo: false },
  /** whether the edge at half height is drawn on what boxes give */
  edge: true,
  /** @type {any} what answers the left pane's boxes, as a record says it */
  method: null,
  /** @type {Role} which of the two scans is on screen */
  role: "baseline",
  /** @type {Record<string, { case: string, marked: number, warnings: string[] }>} the scans that are open, by role */
  roles: {},
  /** @type {Map<string, string>} by a scan's token: what a person calls it in files */
  labels: new Map(),
  /** the pane of the scan on screen that is corrected: the left one, unless the two scans are side by side */
  own: 0,
  /** @type {string | null} why the server no longer has the scan on screen; null while it has it */
  lost: null,
  /** the selected box of this slice and lesion; -1 where none is */
  selected: -1,
  /** @type {{ box: Box, index: number, keys?: boolean } | null} a box in the making; index is -1 for a new one */
  draft: null,
  /** what a plain drag does: "box", or a tool of the correction by hand */
  tool: "box",
  /** @type {any} what the pointer is doing, from its press to its release (pointer.js) */
  gesture: null,
  /** @type {{ x: number, y: number, pane: number } | null} where the mouse is, in pixels of the slice */
  pointer: null,
};

/** What is said while an answer takes long because others wait, too. */
export const standing = { text: "" };

/** How the picture is shown. */
export const shown = {
  width: 80, level: 40, masks: true, fill: false, opacity: 0.35,
  /** whether the left pane has the whole width */
  single: false,
};
/** The methods of the panes that are in sight, from left to right. */
export const modelsInSight = () => state.models.slice(0, shown.single ? 1 : undefined);

/** @type {import("./geometry.js").View} what part of the slice is shown */
export const view = { zoom: 1, x: 0.5, y: 0.5 };

/** @type {Slice} */
const NOTHING = { boxes: {}, masks: {}, ml: {}, origin: {} };

/** What is marked on the slice on screen. */
export const here = () => state.slices.get(state.k) ?? NOTHING;
export const boxesHere = () => here().boxes[state.lesion] ?? [];
/** @param {Slice} slice */
export const isMarked = ({ boxes, origin }) => Object.keys(boxes).length > 0 || Object.values(origin).some(Boolean);
/** The slices that anything is marked on. */
export const marked = () => [...state.slices.keys()].filter((slice) => isMarked(state.slices.get(slice)));
/** The slices whose masks are yet to be refined. */
export const roughSlices = () => marked().filter((slice) => state.slices.get(slice).rough?.length);
export const lesionHere = () => state.lesions.find(({ id }) => id === state.lesion);
export const titleOf = (name) => state.choices.find((choice) => choice.name === name)?.title ?? name;
/** The colour of a method, whichever pane shows it. */
export const colourOf = (name) => state.choices.find((choice) => choice.name === name)?.colour ?? "#d7dde3";

/** @type {Record<Role, Role>} */
export const OTHER = { baseline: "followup", followup: "baseline" };
export const ROLE_TITLES = { baseline: "Baseline", followup: "Follow-up" };
/** The scan beside the one on screen; undefined where there is none. */
export const otherScan = () => state.roles[OTHER[state.role]];
