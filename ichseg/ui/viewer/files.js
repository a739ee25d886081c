// Files: downloads, uploads, and what is dropped on the page.

function download(kind) {
  ask({ op: "export", kind, model: models[0], slice: k, width: shown.width, level: shown.level, opacity: shown.fill ? shown.opacity : 0 });
}

function save({ path, name, beside = [] }) {
  const link = document.createElement("a");
  link.href = serverPath("/file=" + path);
  link.download = name;
  link.click();
  beside.forEach((file) => save(file));
}

function replaceScan(action) {
  // A new scan takes the place of both the baseline and its follow-up.
  const other = roles[OTHER[role]]?.marked ?? 0;
  confirmLoss(marked().length + other, roles.followup ? "these two scans" : "this scan", action);
}

function confirmLoss(count, whose, action) {
  // What is marked would be lost with the scan: ask first.
  if (!count) return action();
  const dialog = one(".ich-ask");
  one("p", dialog).textContent = "What is marked on " + count + (count === 1 ? " slice" : " slices") + " of " + whose + " goes then. Download first what you want to keep.";
  dialog.onclose = () => { if (dialog.returnValue === "yes") action(); };
  dialog.returnValue = "";
  dialog.showModal();
}

one(".ich-file").addEventListener("change", (event) => {
  const files = [...event.target.files];
  event.target.value = "";
  if (files.length) replaceScan(() => upload(files));
});

function upload(files, op = "open", extra = {}) {
  // Gradio's own upload route. A name of its own for each file keeps two people's equal files apart.
  const form = new FormData();
  for (const file of files) form.append("files", file, crypto.randomUUID() + "-" + file.name);
  const request = new XMLHttpRequest();
  request.open("POST", serverPath("/upload"));
  request.upload.onprogress = (event) => busy({ text: "Uploading", part: event.loaded / event.total });
  request.onload = () => {
    if (request.status === 200) {
      busy({ text: { truth: "Reading the truth mask", load: "Reading what was saved" }[op] ?? "Reading the scan" });
      const paths = JSON.parse(request.responseText);
      ask({ op, ...extra, files: paths.map((path, index) => ({ path, name: files[index].name })) });
      return;
    }
    const tooLarge = request.status === 413;
    fail(tooLarge ? files[0].name + ": an upload is at most 512 MB a file, but this is larger; give one series, or compress it." : "The upload was refused (" + request.status + "); try again.");
  };
  request.onerror = () => fail("The upload was cut off; check the connection and try again.");
  const fail = (text) => { busy(null); complain({ text }); };
  hush();
  busy({ text: "Uploading", part: 0 });
  request.send(form);
}

async function filesOf(transfer) {
  // A dropped folder is walked; readEntries gives at most 100 at a time.
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files];
  const found = [];
  const walk = async (entry) => {
    if (entry.isFile) found.push(await new Promise((resolve, reject) => entry.file(resolve, reject)));
    else {
      const reader = entry.createReader();
      for (;;) {
        const part = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
        if (!part.length) break;
        for (const inner of part) await walk(inner);
      }
    }
  };
  for (const entry of entries) await walk(entry);
  return found;
}

let dragDepth = 0;
const dragging = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
document.addEventListener("dragenter", (event) => { if (dragging(event)) { dragDepth++; root.dataset.dropping = "true"; } });
document.addEventListener("dragleave", () => { if (--dragDepth <= 0) { dragDepth = 0; delete root.dataset.dropping; } });
document.addEventListener("dragover", (event) => { if (dragging(event)) event.preventDefault(); });
document.addEventListener("drop", async (event) => {
  if (!dragging(event)) return;
  event.preventDefault();
  dragDepth = 0;
  delete root.dataset.dropping;
  const files = await filesOf(event.dataTransfer);
  if (files.length) replaceScan(() => upload(files));
});

window.addEventListener("beforeunload", (event) => { if (marked().length || roles[OTHER[role]]?.marked) event.preventDefault(); });
