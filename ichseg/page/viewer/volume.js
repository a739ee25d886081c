// The voxels of a scan: fetched once, and put on screen.

import { announce, focusViewer, root } from "./dom.js";
import { resize } from "./draw.js";
import { join, showAll, tell } from "./hub.js";
import { serverPath } from "./line.js";
import { busy, complain, hush } from "./messages.js";
import { ask, keepSlices } from "./server.js";
import { ROLE_TITLES, state, view } from "./state.js";

/** @type {Map<string, Int16Array>} by a scan's token: changing scans does not fetch them again */
export const voxelsOf = new Map();
/** @type {Map<string, number>} by a scan's token: the slice that was on screen */
const places = new Map();
let coming = 0; // the number of the answer that brought the latest scan

/** Come back to the slice on screen when this scan is shown again. */
export function keepPlace() {
  places.set(state.scan.token, state.k);
}

async function fetchScan(description, reply) {
  coming = reply.n;
  busy({ text: "Loading the scan", part: 0 });
  try {
    const voxels = description.voxels
      ? await fetchVoxels(serverPath("/file=" + description.voxels), description.shape)
      : voxelsOf.get(reply.case);
    if (coming !== reply.n) return; // another scan has come meanwhile, and is the one to show
    adopt(description, voxels, reply);
  } catch {
    if (coming !== reply.n) return;
    complain(
      "The scan could not be fetched from the server; check the connection and try again.",
      () => fetchScan(description, reply), "Try again",
    );
  }
  busy(null);
}

async function fetchVoxels(url, [depth, rows, columns]) {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(answer.statusText);
  const size = Number(answer.headers.get("content-length")) || 0;
  let got = 0;
  const counted = new TransformStream({
    transform(chunk, controller) {
      got += chunk.length;
      if (size) busy({ text: "Loading the scan", part: got / size });
      controller.enqueue(chunk);
    },
  });
  const plain = answer.body.pipeThrough(counted).pipeThrough(new DecompressionStream("gzip"));
  const hu = new Int16Array(await new Response(plain).arrayBuffer());
  if (hu.length !== depth * rows * columns) throw new Error("truncated");
  for (let row = 0; row < hu.length; row += columns) {
    for (let i = row + 1; i < row + columns; i++) hu[i] += hu[i - 1]; // rows come as differences
  }
  return hu;
}

function adopt(description, hu, reply) {
  const scan = { ...description, token: reply.case, hu };
  voxelsOf.set(scan.token, hu);
  Object.assign(state, {
    scan,
    slices: new Map(),
    models: reply.models,
    k: reply.show ?? places.get(scan.token) ?? Math.floor(scan.shape[0] / 2),
    lesion: state.lesions[0]?.id ?? 1,
    selected: -1,
    draft: null,
    lost: null,
  });
  Object.assign(view, { zoom: 1, x: 0.5, y: 0.5 });
  delete root.dataset.lost;
  root.dataset.state = "ready";
  root.dataset.case = scan.token;
  keepSlices(reply.slices);
  tell("opened", reply);
  if (!reply.error) hush();
  resize();
  showAll();
  ask({ op: "fetched" });
  announce((state.roles.followup ? ROLE_TITLES[state.role] + " loaded: " : "Scan loaded: ") + scan.name + ", " + scan.shape[0] + " slices.");
  focusViewer();
}

function forgetClosed(reply) {
  if (!reply.roles) return;
  const open = Object.values(state.roles).map((scan) => scan.case);
  for (const token of voxelsOf.keys()) if (!open.includes(token)) voxelsOf.delete(token);
}

join({
  take(reply) {
    if (reply.scan) fetchScan(reply.scan, reply);
    forgetClosed(reply);
  },
  takeAside: forgetClosed,
});
