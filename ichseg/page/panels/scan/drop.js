// Files and folders that are dropped on the page.

import { root } from "../../viewer/dom.js";

let depth = 0; // of the elements that the files are over

const bringsFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");

function leave() {
  depth = 0;
  delete root.dataset.dropping;
}

async function filesOf(transfer) {
  // A dropped folder is walked; readEntries gives at most 100 at a time.
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files];
  const found = [];
  for (const entry of entries) await walk(entry, found);
  return found;
}

async function walk(entry, found) {
  if (entry.isFile) {
    found.push(await new Promise((resolve, reject) => entry.file(resolve, reject)));
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    const part = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!part.length) break;
    for (const inner of part) await walk(inner, found);
  }
}

/** Have `action` take the files that are dropped anywhere on the page. */
export function listenForDrops(action) {
  document.addEventListener("dragenter", (event) => { if (bringsFiles(event)) { depth++; root.dataset.dropping = "true"; } });
  document.addEventListener("dragleave", () => { if (--depth <= 0) leave(); });
  document.addEventListener("dragover", (event) => { if (bringsFiles(event)) event.preventDefault(); });
  document.addEventListener("drop", async (event) => {
    if (!bringsFiles(event)) return;
    event.preventDefault();
    leave();
    const files = await filesOf(event.dataTransfer);
    if (files.length) action(files);
  });
}
