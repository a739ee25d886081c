// Files: downloads, uploads, and what is dropped on the page.

const LIMITS = props.limits; // {files, bytes} of an upload, {portion} files of a request, {file} bytes of one file

const labels = new Map(); // a scan's token -> what a person calls it in files

one(".ich-label").addEventListener("change", (event) => labels.set(scan.token, event.target.value.trim()));

function download(kind) {
  if (lost && kind === "record") return saveKept();
  const other_label = labels.get(roles[OTHER[role]]?.case) ?? "";
  ask({ op: "export", kind, label: labels.get(scan.token) ?? "", other_label, model: models[0], slice: k, width: shown.width, level: shown.level, opacity: shown.fill ? shown.opacity : 0 });
}

function save({ path, name, beside = [] }) {
  const link = document.createElement("a");
  link.href = serverPath("/file=" + path);
  link.download = name;
  link.click();
  beside.forEach((file) => save(file));
}

function replaceScan(action) {
  // A new scan takes the place of both the baseline and its follow-up. What is kept here is not lost with it.
  if (lost) return action();
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
  const bytes = files.reduce((sum, file) => sum + file.size, 0);
  const large = files.find((file) => file.size > LIMITS.file);
  if (large) {
    complain({ text: large.name + ": a file of an upload is at most " + megabytes(LIMITS.file) + " MB; this one has " + megabytes(large.size) + " MB; compress it (.nii.gz), or give one series." });
    return;
  }
  if (files.length > LIMITS.files || bytes > LIMITS.bytes) {
    complain({ text: "An upload is at most " + megabytes(LIMITS.bytes) + " MB in " + LIMITS.files + " files; got " + megabytes(bytes) + " MB in " + files.length + "; give one series." });
    return;
  }
  hush();
  busy({ text: "Uploading", part: 0 });
  sendInPortions(files, bytes)
    .then((paths) => {
      busy({ text: { truth: "Reading the truth mask", load: "Reading what was saved" }[op] ?? "Reading the scan" });
      if (op === "open") opening = { files, how: extra };
      ask({ op, ...extra, files: paths.map((path, index) => ({ path, name: files[index].name })) });
    })
    .catch((error) => {
      busy(null);
      complain({ text: error.message });
    });
}

const megabytes = (bytes) => Math.ceil(bytes / 2 ** 20);

async function sendInPortions(files, bytes) {
  // The server takes LIMITS.portion files a request; they are opened together once all are there.
  const paths = [];
  let sent = 0;
  for (let from = 0; from < files.length; from += LIMITS.portion) {
    const portion = files.slice(from, from + LIMITS.portion);
    const count = files.length > LIMITS.portion ? " " + files.length + " files" : "";
    const tell = (loaded) => busy({ text: "Uploading" + count, part: Math.min(1, (sent + loaded) / Math.max(1, bytes)) });
    paths.push(...(await sendPortion(portion, tell)));
    sent += portion.reduce((sum, file) => sum + file.size, 0);
  }
  return paths;
}

function sendPortion(files, tell) {
  // Gradio's own upload route. A name of its own for each file keeps two people's equal files apart.
  const form = new FormData();
  for (const file of files) form.append("files", file, uniqueName() + "-" + file.name);
  const request = new XMLHttpRequest();
  request.open("POST", serverPath("/upload"));
  request.upload.onprogress = (event) => tell(event.loaded);
  return new Promise((resolve, reject) => {
    request.onload = () => {
      if (request.status === 200) resolve(JSON.parse(request.responseText));
      else reject(new Error("The upload was refused (" + request.status + "); try again."));
    };
    request.onerror = () => reject(new Error("The upload was cut off; check the connection and try again."));
    request.send(form);
  });
}

function uniqueName() {
  // Not crypto.randomUUID: browsers have that under HTTPS and on this machine alone, and not over a local network.
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
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

window.addEventListener("beforeunload", (event) => { if (marked().length || roles[OTHER[role]]?.marked || kept.size) event.preventDefault(); });
