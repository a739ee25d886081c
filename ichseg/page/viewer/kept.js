// What was drawn on a scan that the server no longer has, or before the page was loaded anew: kept here and in the browser's
// own store, to be saved, and put back on the same scan.

import { forgetPassing } from "./aside.js";
import { button, one, root } from "./dom.js";
import { actions, join, showAll, tell } from "./hub.js";
import { keptSentence, recordOf } from "./kept_marks.js";
import { isAway } from "./line.js";
import { busy, hush } from "./messages.js";
import { isOwn, keyOf, leftBehind, remove, save } from "./saved.js";
import { ask, forgetAsked, isAsked, OPENS } from "./server.js";
import { state } from "./state.js";
import { upload } from "./upload.js";

/** @typedef {import("./kept_marks.js").Marks} Marks */

const SAVE_MS = 400; // after so long without a change marks are saved

/** @type {{ id: number, files: any, how: any }[]} what was asked to be opened and is not answered; no files for the sample,
 *   for a study of the archive, and for a scan of the operator's study, which `how` names with its operation */
let openings = [];
/** @type {{ files: any, how: any }} what was given last, which may be opened again in another way */
let given = { files: null, how: {} };
/** @type {string | null} the key of the marks that are being put back */
let puttingBack = null;
/** @type {any} */
let saving = 0;
let saved = ""; // what was saved last
let losses = 0; // how often the server lost what was open
/** @type {Map<string, string>} by an open scan's token: its hash */
const hashes = new Map();
/** @type {Map<string, any>} by a scan's token: what was given to open it */
const openedAs = new Map();
/** @type {Record<string, any>} by role: what `opening` was for the scan that is open */
const opened = {};
/** @type {Map<string, Marks>} by a scan's token: its marks when it was last on screen */
const marksOf = new Map();
/** @type {Map<string, Marks>} what is not on the server, by its key in the browser's store, from the oldest */
const kept = new Map();

function noteOpening({ op, id, case: _, files: __, ...how }) {
  if (!OPENS.has(op)) return;
  if (op === "sample") given = { files: null, how };
  if (op === "archive" || op === "study_open") given = { files: null, how: { op, ...how } };
  if (op === "reopen") {
    const from = how.refused ? given : opened[how.role ?? "baseline"] ?? given;
    given = { files: from.files, how: { ...from.how, ...how } };
  }
  openings.push({ id, ...given });
}

function noteAnswer(reply) {
  // Two scans may be asked for in quick succession: each answer is to its own.
  const answered = openings.filter(({ id }) => id <= reply.done);
  openings = openings.filter(({ id }) => id > reply.done);
  if (reply.scan && answered.length) openedAs.set(reply.case, answered.at(-1));
}

function noteOpened() {
  const opening = openedAs.get(state.scan.token);
  if (opening) {
    if (state.role === "baseline" && !opening.how.role) delete opened.followup;
    opened[opening.how.role ?? "baseline"] = opening;
  }
  hashes.set(state.scan.token, state.scan.record.scan.sha256);
  const open = new Set(Object.values(state.roles).map((scan) => scan.case));
  for (const [token, sha256] of hashes) {
    if (open.has(token)) continue;
    hashes.delete(token); // another scan has taken its place, and the person agreed
    if (![...hashes.values()].includes(sha256)) remove(keyOf(sha256));
  }
  showKept();
}

/** Take note of what is marked on the scan on screen. */
export function keepMarks() {
  marksOf.set(state.scan.token, recordOf(state));
}

/** What this page holds of marks: of the scans that are open, as far as they were on screen, and of those that were lost. */
export function everyMark() {
  if (state.scan && !state.lost) keepMarks();
  const open = Object.values(state.roles).map((scan) => marksOf.get(scan.case));
  const lost = [...kept].filter(([key]) => isOwn(key)).map(([, marks]) => marks);
  return [...open.filter(Boolean), ...lost];
}

/** Whether the marks of an open scan are known here. */
export const knowsMarks = (token) => marksOf.has(token);

function loseScan(why) {
  if (!state.scan || state.lost) return;
  state.lost = why;
  losses++;
  forgetAsked();
  forgetPassing();
  const there = Object.values(state.roles).map((scan) => scan.case);
  for (const [token, marks] of marksOf) if (there.includes(token)) keep(marks);
  marksOf.clear();
  state.roles = {};
  state.history = { undo: false, redo: false };
  root.dataset.lost = "true";
  busy(null);
  hush();
  showAll();
  showKept();
}

function keep(marks) {
  // Beside what is drawn on the same scan once it is open again.
  const key = keyOf(marks.sha256) + ":" + losses;
  if (marks.boxes || marks.masks) kept.set(key, marks);
  else kept.delete(key);
  saveMarks(key, marks);
  remove(keyOf(marks.sha256));
}

function saveMarks(key, marks) {
  const text = key + JSON.stringify(marks);
  if (text === saved) return;
  saved = text;
  if (marks.boxes || marks.masks) save(key, marks);
  else remove(key);
}

function saveSoon() {
  clearTimeout(saving);
  saving = setTimeout(saveNow, SAVE_MS);
}

function saveNow() {
  clearTimeout(saving);
  // Until the method is known a record would not say what made its masks.
  if (!state.scan || !state.method || state.lost) return;
  const marks = recordOf(state);
  saveMarks(keyOf(marks.sha256), marks);
}

function forget(key) {
  kept.delete(key);
  remove(key);
}

/** The latest marks that are kept of the scan on screen: their key. */
function keyHere() {
  const sha256 = state.scan?.record.scan.sha256;
  return [...kept.keys()].reverse().find((key) => kept.get(key).sha256 === sha256);
}

function keepShown() {
  // The scan on screen may be drawn on after it was lost.
  if (!state.lost) return;
  keepMarks();
  keep(marksOf.get(state.scan.token));
}

function showKept() {
  keepShown();
  const { lost, scan } = state;
  const strip = one(".ich-kept"), away = isAway();
  const own = kept.get(keyHere());
  const text = keptSentence({ away, lost, own, all: [...kept.values()], open: Boolean(scan) });
  strip.hidden = !text;
  if (one("p", strip).textContent !== text) one("p", strip).textContent = text; // said once
  button("open_again", strip).hidden = away || !lost;
  button("put_back", strip).hidden = away || Boolean(lost) || !own;
  button("save_kept", strip).hidden = !kept.size;
  button("forget_kept", strip).hidden = away || Boolean(lost) || !kept.size;
}

/** Download what is kept, as sessions. */
export function saveKept() {
  showKept();
  for (const marks of kept.values()) {
    const { sha256, record } = marks;
    tell("downloaded", marks);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([JSON.stringify(record, null, 2) + "\n"], { type: "application/json" }));
    link.download = "hematoma-" + (record.scan.label || sha256.slice(0, 8)) + "-session.json";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  }
}

function havePutBack(reply) {
  if (!puttingBack || isAsked("load")) return;
  if (!reply.error && !reply.cancelled) {
    saveNow();
    forget(puttingBack);
  }
  puttingBack = null;
  showKept();
}

function openAgain() {
  const { files, how } = opened.baseline ?? {};
  if (files) upload(files, { op: "open", ...how });
  else if (how?.op) ask({ ...how });
  else if (state.scan.sample) ask({ op: "sample" });
  else actions.open();
}

function putBack() {
  puttingBack = keyHere();
  const text = JSON.stringify(kept.get(puttingBack).record);
  upload([new File([text], "kept.json", { type: "application/json" })], { op: "load", anew: true }, "Reading what was saved");
}

join({
  slow: ["load"],
  actions: {
    open_again: openAgain,
    put_back: putBack,
    save_kept: saveKept,
    forget_kept() {
      for (const key of [...kept.keys()]) forget(key);
      showKept();
    },
  },
  start() {
    leftBehind().then((found) => {
      for (const [key, marks] of [...found, ...kept]) {
        kept.delete(key); // so that the latest stand last
        kept.set(key, marks);
      }
      showKept();
    });
    document.addEventListener("visibilitychange", () => { if (document.hidden) saveNow(); });
    window.addEventListener("pagehide", saveNow);
  },
  asked: noteOpening,
  given(files, { op, ...how }) {
    if (op === "open") given = { files, how };
  },
  leave(reply) {
    noteAnswer(reply);
    keepShown();
    saveNow();
  },
  opened: noteOpened,
  shown: saveSoon,
  take(reply) {
    noteAnswer(reply);
    havePutBack(reply);
  },
  gone: loseScan,
  away() {
    busy(null); // a person may look on meanwhile, or open another scan
    showKept();
  },
  back({ another, wasAway }) {
    if (another) loseScan("The server was restarted");
    if (wasAway) showKept();
  },
});
