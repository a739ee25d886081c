// Leaving the page: asked about only where what is marked is in no file that a person has.

import { join } from "./hub.js";
import { everyMark, knowsMarks } from "./kept.js";
import { recordOf, savedText } from "./kept_marks.js";
import { queue } from "./server.js";
import { otherScan, state } from "./state.js";

/** The downloads that hold what was drawn. */
const KEEPS = new Set(["record", "mask", "dcm", "seg.nrrd"]);
/** @type {Map<string, string>} by a scan's hash: what of its marks was last downloaded */
const inFile = new Map();
let asked = false; // whether the last download that was asked for is one of those

function noteFile(marks) {
  inFile.set(marks.sha256, savedText(marks));
}

function isUnsaved() {
  const other = otherScan();
  if (other?.marked && !knowsMarks(other.case)) return true; // marked by the server: it was never on screen
  return everyMark().some((marks) => (marks.boxes || marks.masks) && inFile.get(marks.sha256) !== savedText(marks));
}

join({
  start: () => window.addEventListener("beforeunload", (event) => { if (isUnsaved()) event.preventDefault(); }),
  asked(op) {
    if (op.op === "export") asked = KEEPS.has(op.kind);
  },
  take({ download }) {
    if (!download || !asked || queue.ops.length) return; // of what was drawn meanwhile the file says nothing
    asked = false;
    noteFile(recordOf(state));
  },
  downloaded: noteFile,
});
