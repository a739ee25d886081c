// What was drawn on a scan that the server no longer has: kept here, to be saved, and put back on the same scan.

import { forgetPassing } from "./aside.js";
import { button, one, root } from "./dom.js";
import { actions, join, showAll } from "./hub.js";
import { keptSentence, recordOf } from "./kept_marks.js";
import { isAway } from "./line.js";
import { busy, hush } from "./messages.js";
import { ask, forgetAsked, isAsked } from "./server.js";
import { marked, otherScan, state } from "./state.js";
import { upload } from "./upload.js";

/** @typedef {import("./kept_marks.js").Marks} Marks */

/** @type {any} what was last given to be opened: {files, how}; files are null for the sample */
let opening = null;
let puttingBack = null; // the hash of the scan whose marks are being put back
/** @type {Record<string, any>} by role: what `opening` was for the scan that is open */
const opened = {};
/** @type {Map<string, Marks>} by a scan's token: its marks when it was last on screen */
const marksOf = new Map();
/** @type {Map<string, Marks>} by a scan's hash */
const kept = new Map();

function noteOpening({ op, ...how }) {
  if (op === "sample") opening = { files: null, how };
  if (op !== "reopen") return;
  const from = how.refused || !opened[how.role ?? "baseline"] ? opening : opened[how.role ?? "baseline"];
  opening = { files: from?.files ?? null, how: { ...from?.how, ...how } };
}

function noteOpened() {
  if (state.role === "baseline" && opening && !opening.how.role) delete opened.followup;
  if (opening) opened[opening.how.role ?? "baseline"] = opening;
  opening = null;
  showKept();
}

/** Take note of what is marked on the scan on screen. */
export function keepMarks() {
  marksOf.set(state.scan.token, recordOf(state));
}

function loseScan(why) {
  if (!state.scan || state.lost) return;
  state.lost = why;
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
  if (marks.boxes || marks.masks) kept.set(marks.sha256, marks);
  else kept.delete(marks.sha256);
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
  const own = scan && kept.get(scan.record.scan.sha256);
  const text = keptSentence({ away, lost, own, all: [...kept.values()] });
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
  for (const { sha256, record } of kept.values()) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([JSON.stringify(record, null, 2) + "\n"], { type: "application/json" }));
    link.download = "hematoma-" + (record.scan.label || sha256.slice(0, 8)) + "-session.json";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  }
}

function havePutBack(reply) {
  if (!puttingBack || isAsked("load")) return;
  if (!reply.error) kept.delete(puttingBack);
  puttingBack = null;
  showKept();
}

function openAgain() {
  const { files, how } = opened.baseline ?? {};
  if (files) upload(files, { op: "open", ...how });
  else if (state.scan.sample) ask({ op: "sample" });
  else actions.open();
}

function putBack() {
  puttingBack = state.scan.record.scan.sha256;
  const text = JSON.stringify(kept.get(puttingBack).record);
  upload([new File([text], "kept.json", { type: "application/json" })], { op: "load", anew: true }, "Reading what was saved");
}

join({
  slow: ["load"],
  actions: {
    open_again: openAgain,
    put_back: putBack,
    save_kept: saveKept,
    forget_kept() { kept.clear(); showKept(); },
  },
  start() {
    window.addEventListener("beforeunload", (event) => {
      if (marked().length || otherScan()?.marked || kept.size) event.preventDefault();
    });
  },
  asked: noteOpening,
  given(files, { op, ...how }) {
    if (op === "open") opening = { files, how };
  },
  leave: keepShown,
  opened: noteOpened,
  take: havePutBack,
  gone: loseScan,
  away() {
    if (state.scan) busy(null); // a person may look on meanwhile
    showKept();
  },
  back({ another, wasAway }) {
    if (another) loseScan("The server was restarted");
    if (wasAway) showKept();
  },
});
