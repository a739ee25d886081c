// Handing files to the server: a scan, a mask, a session.

import { one } from "./dom.js";
import { host } from "./host.js";
import { tell } from "./hub.js";
import { serverPath } from "./line.js";
import { busy, complain, hush } from "./messages.js";
import { megabytes, plural } from "./numbers.js";
import { ask } from "./server.js";
import { marked, otherScan, state } from "./state.js";

/** Ask first, where what is marked on the scan and its follow-up would be lost with them. */
export function replaceScan(action) {
  // A new scan takes the place of both. What is kept here is not lost with it.
  if (state.lost) action();
  else confirmLoss(marked().length + (otherScan()?.marked ?? 0), state.roles.followup ? "these two scans" : "this scan", action);
}

/** Ask first, where what is marked on `count` slices would be lost. */
export function confirmLoss(count, whose, action) {
  if (!count) {
    action();
    return;
  }
  const dialog = one(".ich-ask");
  one("p", dialog).textContent = "What is marked on " + plural(count, "slice") + " of " + whose + " goes then. Download first what you want to keep.";
  dialog.onclose = () => { if (dialog.returnValue === "yes") action(); };
  dialog.returnValue = "";
  dialog.showModal();
}

/** Why these files are too much; empty where they are not. `limits`: {files, bytes} of an upload, {file} bytes of one. */
export function refusal(files, limits) {
  const bytes = sizeOf(files);
  const large = files.find((file) => file.size > limits.file);
  if (large) {
    return large.name + ": a file of an upload is at most " + megabytes(limits.file) + " MB; this one has " + megabytes(large.size) + " MB; compress it (.nii.gz), or give one series.";
  }
  if (files.length > limits.files || bytes > limits.bytes) {
    return "An upload is at most " + megabytes(limits.bytes) + " MB in " + limits.files + " files; got " + megabytes(bytes) + " MB in " + files.length + "; give one series.";
  }
  return "";
}

/** @type {XMLHttpRequest | null} */
let sending = null;
let uploads = 0; // how many there were: the latest alone is opened

const sizeOf = (files) => files.reduce((sum, file) => sum + file.size, 0);

/** Send files, and ask for an operation with them; `reading` says what Python does then. */
export async function upload(files, op = { op: "open" }, reading = "Reading the scan") {
  const why = refusal(files, host.props.limits);
  if (why) {
    complain(why);
    return;
  }
  hush();
  busy({ text: "Uploading", part: 0 });
  const mine = ++uploads;
  sending?.abort();
  try {
    const paths = await sendInPortions(files);
    if (mine !== uploads) return;
    busy({ text: reading });
    tell("given", files, op);
    ask({ ...op, files: paths.map((path, index) => ({ path, name: files[index].name })) });
  } catch (error) {
    if (mine !== uploads) return;
    busy(null);
    complain(error.message);
  }
}

/** @returns {Promise<string[]>} where the server has the files, in their order */
export async function sendInPortions(files) {
  // The server takes so many files a request; they are opened together once all are there.
  const { portion: most } = host.props.limits;
  const bytes = sizeOf(files);
  const paths = [];
  let sent = 0;
  for (let from = 0; from < files.length; from += most) {
    const portion = files.slice(from, from + most);
    const before = sent;
    const count = files.length > most ? " " + files.length + " files" : "";
    const progress = (loaded) => busy({ text: "Uploading" + count, part: Math.min(1, (before + loaded) / Math.max(1, bytes)) });
    paths.push(...(await sendPortion(portion, progress)));
    sent += sizeOf(portion);
  }
  return paths;
}

/** @returns {Promise<string[]>} where the server has them */
function sendPortion(files, progress) {
  // Gradio's own upload route. A name of its own for each file keeps two people's equal files apart.
  const form = new FormData();
  for (const file of files) form.append("files", file, uniqueName() + "-" + file.name);
  const request = sending = new XMLHttpRequest();
  request.open("POST", serverPath("/upload"));
  request.upload.onprogress = (event) => progress(event.loaded);
  return new Promise((resolve, reject) => {
    request.onload = () => {
      if (request.status === 200) resolve(JSON.parse(request.responseText));
      else if (request.status >= 500) reject(new Error("The server could not store the upload (" + request.status + "): its disk may be full; try again later, or tell whoever runs it."));
      else reject(new Error("The upload was refused (" + request.status + "); try again."));
    };
    request.onabort = () => reject(new Error("The upload was given up for another."));
    request.onerror = () => reject(new Error("The upload was cut off; check the connection and try again."));
    request.send(form);
  });
}

function uniqueName() {
  // Not crypto.randomUUID: browsers have that under HTTPS and on this machine alone, and not over a local network.
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
