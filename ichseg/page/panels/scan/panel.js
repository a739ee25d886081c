// Opening a scan, and what is known of it: name, grid, doubts, notes, the other series of its files.

import { listOf, one, onFiles, root } from "../../viewer/dom.js";
import { busy } from "../../viewer/messages.js";
import { sentence } from "../../viewer/numbers.js";
import { ask } from "../../viewer/server.js";
import { state } from "../../viewer/state.js";
import { replaceScan, upload } from "../../viewer/upload.js";
import { listenForDrops } from "./drop.js";
import { closeSeries, offerSeries, showOtherSeries, toggleSeries } from "./series.js";

function openSample() {
  replaceScan(() => { busy({ text: "Opening the sample" }); ask({ op: "sample" }); });
}

const openFiles = (files) => replaceScan(() => upload(files));

function describe() {
  const { scan } = state;
  const [depth, rows, columns] = scan.shape;
  const [dz, dy, dx] = scan.spacing.map((mm) => String(Number(mm.toFixed(2))));
  one(".ich-scan").textContent = scan.name;
  one(".ich-grid").textContent = columns + " × " + rows + " × " + depth + ", " + dx + " × " + dy + " × " + dz + " mm";
  showWarnings(scan);
  one(".ich-notes").textContent = scan.notes.map(sentence).join(" ");
  showTilt(scan);
  showOtherSeries();
}

function showWarnings({ warnings }) {
  // What is in doubt of this scan's millilitres; of the other scan's the follow-up says it beside the growth.
  const strip = one(".ich-warnings");
  strip.hidden = !warnings.length;
  one("ul", strip).replaceChildren(...listOf(warnings));
  if (warnings.length) root.dataset.doubtful = "true";
  else delete root.dataset.doubtful;
}

function showTilt({ tilted, even, dicom }) {
  // An affine of slices that are stacked aslant is sheared; of uneven ones there is none.
  const note = one(".ich-tilted");
  note.hidden = !tilted && even;
  const what = tilted ? "stacked aslant" : "unevenly spaced";
  const why = even
    ? "programs built on ITK (ITK-SNAP, 3D Slicer, elastix) refuse a NIfTI file of such slices, or show it at another angle"
    : "NIfTI cannot hold slices that are unevenly spaced";
  const first = dicom ? "Take the DICOM-SEG, which holds every slice where it is" : "Take the copy where another program needs one";
  one("span", note).textContent = "The slices are " + what + ". " + first + ": " + why + ". For programs that need a NIfTI file there is a resampled copy of scan and mask; its millilitres differ a little.";
}

/** @type {import("../../viewer/hub.js").Part} */
export const panel = {
  actions: {
    sample: openSample,
    open: () => one(".ich-file").click(),
    series: toggleSeries,
    series_close: closeSeries,
  },
  start() {
    onFiles(".ich-file", openFiles);
    listenForDrops(openFiles);
  },
  opened: describe,
  take(reply) {
    if (reply.error?.choose) offerSeries(reply.error.choose);
  },
};
