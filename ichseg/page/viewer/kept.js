// What was drawn on a scan that the server no longer has: kept here, to be saved, and put back on the same scan.

let lost = null; // why the server does not have the scan on screen; null while it has it
let method = null; // what answers the left pane's boxes, as a record says it
let opening = null; // what was last given to be opened: {files, how}; files are null for the sample
let puttingBack = null; // the hash of the scan whose marks are being put back
const opened = {}; // role -> what `opening` was for the scan that is open
const marksOf = new Map(); // a scan's token -> its marks when it was last on screen
const kept = new Map(); // a scan's hash -> its marks: {record, boxes, masks, lesions}

function noteOpening({ op, files, ...how }) {
  if (op === "sample") opening = { files: null, how };
  if (op !== "reopen") return;
  const from = how.refused || !opened[how.role ?? "baseline"] ? opening : opened[how.role ?? "baseline"];
  opening = { files: from?.files ?? null, how: { ...from?.how, ...how } };
}

function noteOpened() {
  if (role === "baseline" && opening && !opening.how.role) delete opened.followup;
  if (opening) opened[opening.how.role ?? "baseline"] = opening;
  opening = null;
}

function keepMarks() {
  const boxes = [], edits = [];
  for (const slice of marked().sort((a, b) => a - b)) {
    const { boxes: drawn, masks, origin } = slices.get(slice);
    for (const [id, list] of Object.entries(drawn)) {
      for (const box of list) boxes.push({ slice, lesion: Number(id), box_xyxy: box });
    }
    for (const [id, mask] of Object.entries(masks[models[0]] ?? {})) {
      // What boxes gave they give again; the rest is kept as it is.
      if (mask && origin[id] && origin[id] !== "box") edits.push({ slice, lesion: Number(id), origin: origin[id], runs: runsOf(mask.pixels) });
    }
  }
  const rows = lesions.map(({ id, name, type, colour, locked, visible }) => ({ id, name, type, colour, locked, visible }));
  const named = { ...scan.record.scan, label: labels.get(scan.token) || null };
  const record = { ...scan.record, scan: named, ...method, edge, lesions: rows, boxes, propagated: [], edits };
  marksOf.set(scan.token, { sha256: scan.record.scan.sha256, record, boxes: boxes.length, masks: edits.length, lesions: lesions.length });
}

function runsOf(pixels) {
  // How many pixels, row by row, are off, then on, then off, and so on; the last that are off are left out.
  const runs = [];
  let from = 0, on = 0;
  for (let i = 0; i < pixels.length; i++) {
    if (pixels[i] === on) continue;
    runs.push(i - from);
    from = i;
    on = pixels[i];
  }
  if (on) runs.push(pixels.length - from);
  return runs.join(" ");
}

function loseScan(why) {
  if (!scan || lost) return;
  lost = why;
  ops.length = underWay = lastReply = lastBetter = totalled = 0;
  for (const timer of [patience, forgetting, resting]) clearTimeout(timer);
  looking = null;
  const there = Object.values(roles).map((one) => one.case);
  for (const [token, marks] of marksOf) if (there.includes(token)) keep(marks);
  marksOf.clear();
  roles = {};
  history = { undo: false, redo: false };
  Object.assign(root.dataset, { pending: 0, rough: 0, lost: "true" });
  keepAlive();
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
  if (!lost) return;
  keepMarks();
  keep(marksOf.get(scan.token));
}

function findAgain() {
  // A scan is opened: what was drawn on the lost one is all that is left of it.
  keepShown();
  lost = null;
  delete root.dataset.lost;
}

const plural = (count, one) => count + " " + one + (count === 1 ? "" : one.endsWith("x") ? "es" : "s");

function countKept(marks) {
  const parts = [];
  if (marks.boxes) parts.push(plural(marks.boxes, "box"));
  if (marks.masks) parts.push(plural(marks.masks, "mask"));
  return parts.join(" and ") + (marks.lesions > 1 ? " of " + plural(marks.lesions, "lesion") : "");
}

function keptSentence() {
  if (root.dataset.server === "away") return "The server does not answer: what you drew stays here, and the page goes on by itself once it does.";
  const own = scan && kept.get(scan.record.scan.sha256);
  if (lost) return lost + ": open the scan again" + (own ? "; " + countKept(own) + " are kept here until then." : ".");
  if (own) return countKept(own) + " were kept from before: put them back on this scan, or save them.";
  if (kept.size) return [...kept.values()].map(countKept).join(", ") + " are kept of another scan: open that scan to put them back, or save them.";
  return "";
}

function showKept() {
  keepShown();
  const strip = one(".ich-kept"), text = keptSentence();
  const own = !lost && scan && kept.has(scan.record.scan.sha256);
  strip.hidden = !text;
  if (one("p", strip).textContent !== text) one("p", strip).textContent = text; // said once
  const away = root.dataset.server === "away";
  one("[data-do=open_again]", strip).hidden = away || !lost;
  one("[data-do=put_back]", strip).hidden = away || !own;
  one("[data-do=save_kept]", strip).hidden = !kept.size;
  one("[data-do=forget_kept]", strip).hidden = away || Boolean(lost) || !kept.size;
}

function saveKept() {
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
  if (!puttingBack || ops.some(({ op }) => op === "load")) return;
  if (!reply.error) kept.delete(puttingBack);
  puttingBack = null;
  showKept();
}

Object.assign(DO, {
  open_again: () => {
    const { files, how } = opened.baseline ?? {};
    if (files) upload(files, "open", how);
    else if (scan.sample) ask({ op: "sample" });
    else DO.open();
  },
  put_back: () => {
    puttingBack = scan.record.scan.sha256;
    const text = JSON.stringify(kept.get(puttingBack).record);
    upload([new File([text], "kept.json", { type: "application/json" })], "load", { anew: true });
  },
  save_kept: saveKept,
  forget_kept: () => { kept.clear(); showKept(); },
});
