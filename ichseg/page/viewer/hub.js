// How the parts of the page, its core and its panels, hear of each other. No part is known here by name: a new panel
// changes no other script.

import { state } from "./state.js";

/**
 * @typedef {import("./geometry.js").Placement} Placement
 *
 * @typedef {object} Part Each hook is called with what its line says, and where a part has it. Told are the core's
 *   parts first, then the panels in the order of their table.
 * @property {Record<string, () => void>} [actions] what a button does, by its data-do
 * @property {Record<string, () => void>} [keys] what a key does while a scan is open
 * @property {string[]} [slow] the operations that may take long: Python tells of their progress
 * @property {() => void} [start] once, when all parts have joined: to listen
 * @property {() => void} [show] anything has changed, and a scan is open
 * @property {() => void} [showState] what is under way has changed
 * @property {() => void} [shown] after both
 * @property {() => void} [slice] another slice is on screen
 * @property {() => void} [windowed] window, zoom or the part of the slice in view has changed
 * @property {() => void} [resized] the page has another size
 * @property {() => void} [abandon] what is in the making is given up: the slice changes, the pointer goes down
 * @property {() => boolean} [stepBack] Escape: whether the part had something to give up
 * @property {(event: KeyboardEvent, key: string) => boolean} [key] whether a key is the part's, before the table has it
 * @property {() => (string | null)} [hint] what a person may do now, for the corner of the panes
 * @property {(point: any, pane: any, event: PointerEvent) => any} [grab] the gesture that begins: {kind, move, end};
 *   null where the pointer is not this part's
 * @property {(point: any, index: number, event: PointerEvent) => (string | null)} [cursor]
 * @property {(index: number, by: number) => boolean} [scroll] whether the part scrolled a pane by so many slices
 * @property {(index: number, x: number, y: number) => (string | null)} [valueAt] what is under the pointer in a pane
 * @property {(context: CanvasRenderingContext2D, index: number, canvas: HTMLCanvasElement) => (boolean | null)} [drawWhole]
 *   whether the part drew all of a pane but the cross
 * @property {(context: CanvasRenderingContext2D, index: number, transform: DOMMatrix) => (boolean | null)} [drawInstead]
 *   whether the part drew something in the place of a pane's masks
 * @property {(context: CanvasRenderingContext2D, index: number, transform: DOMMatrix) => void} [drawUnder] above the masks
 * @property {(context: CanvasRenderingContext2D, index: number, place: Placement) => void} [draw] above the boxes
 * @property {(context: CanvasRenderingContext2D, xOf: (slice: number) => number, step: number, height: number) => void}
 *   [drawStrip] below the bars of the strip: where a slice's middle is, how far slices are apart, in CSS pixels
 * @property {() => object} [context] what goes along with everything that is said to Python
 * @property {(op: any) => void} [asked] an operation is asked for
 * @property {(files: File[], op: any) => void} [given] files were sent for an operation
 * @property {(reply: any) => void} [leave] an answer brings another scan; the one on screen still stands
 * @property {(reply: any) => void} [opened] another scan is on screen
 * @property {(reply: any) => void} [take] an answer to operations, once the shared state has it
 * @property {() => void} [choices] the methods there are have changed
 * @property {() => boolean} [wants] whether Python is to compute something once the page is at rest
 * @property {() => object} [request] what, as part of the message
 * @property {() => void} [answered] the answer in passing has come, whether or not it is still of use
 * @property {(reply: any, now: boolean) => void} [takeAside] it is of use; `now`: nothing was asked since
 * @property {() => void} [away] no server answers
 * @property {(how: { another: boolean, wasAway: boolean }) => void} [back] one does
 * @property {(place: { ahead: number, seconds: number | null } | null) => void} [queued] the place in the server's queue has
 *   changed; null: it is one's turn
 * @property {() => void} [broken] a stream of answers broke off
 * @property {(marks: import("./kept_marks.js").Marks) => void} [downloaded] kept marks went into a file
 * @property {(why: string) => void} [gone] the server no longer has the scan
 */

/** @type {Part[]} */
const parts = [];
/** @type {Record<string, () => void>} by data-do */
export const actions = {};
/** @type {Record<string, () => void>} */
export const keys = {};
/** @type {Set<string>} the operations that may take long */
export const slow = new Set();

/** @param {Part} part */
export function join(part) {
  parts.push(part);
  add(actions, part.actions, "A button");
  add(keys, part.keys, "A key");
  for (const op of part.slow ?? []) slow.add(op);
}

function add(table, given = {}, what) {
  for (const name of Object.keys(given)) {
    if (name in table) throw new Error(what + " does one thing; two parts have '" + name + "'; rename one.");
    table[name] = given[name];
  }
}

/** Call a hook of every part that has it. */
export function tell(hook, ...given) {
  for (const part of parts) part[hook]?.(...given);
}

/** The first answer that is not null, false or undefined, of the parts from the last that joined to the first. */
export function find(hook, ...given) {
  for (const part of [...parts].reverse()) {
    const answer = part[hook]?.(...given);
    if (answer) return answer;
  }
  return null;
}

/** What all parts give, in one object. */
export const gather = (hook) => Object.assign({}, ...parts.map((part) => part[hook]?.()));

/** Show everything as it is now. */
export function showAll() {
  if (state.scan) tell("show");
  tell("showState");
  tell("shown");
}
