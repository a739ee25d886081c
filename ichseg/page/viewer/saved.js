// What is marked, in the browser's own store: it outlives a reload, a crash and the server. No voxel, no name of a scan
// and no label goes there, and what is a week old is deleted.

const PREFIX = "ichseg-kept:";
const WEEK_MS = 7 * 24 * 3600 * 1000;
const HELLO_MS = 400; // so long other pages of this browser have to say which marks are theirs
/** What this page's own marks begin with; another page, or this one after a reload, has another. */
const run = [...crypto.getRandomValues(new Uint8Array(8))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

/** @typedef {import("./kept_marks.js").Marks} Marks */

/** Where the marks of a scan are kept by this page. */
export const keyOf = (sha256) => PREFIX + run + ":" + sha256;

export const isOwn = (key) => key.startsWith(PREFIX + run + ":");

/**
 * Keep marks; whether there was room.
 *
 * @param {string} key
 * @param {Marks} marks
 */
export function save(key, marks) {
  const record = { ...marks.record, scan: { ...marks.record.scan, label: null } };
  const text = JSON.stringify({ at: Date.now(), marks: { ...marks, record } });
  try {
    localStorage.setItem(key, text);
    return true;
  } catch {
    return false; // full, or the browser keeps nothing
  }
}

export function remove(key) {
  try {
    localStorage.removeItem(key);
  } catch {
    // There is none, then.
  }
}

/**
 * The marks that pages left which are no longer open, from the oldest, by their keys.
 *
 * @returns {Promise<Map<string, Marks>>}
 */
export async function leftBehind() {
  const open = await openRuns();
  const found = [];
  for (const key of storedKeys()) {
    if (isOwn(key) || open.has(key.slice(PREFIX.length).split(":")[0])) continue;
    const { at, marks } = read(key) ?? {};
    if (!marks?.record?.scan || Date.now() - at > WEEK_MS) remove(key);
    else found.push({ at, key, marks });
  }
  return new Map(found.sort((a, b) => a.at - b.at).map(({ key, marks }) => [key, marks]));
}

function storedKeys() {
  try {
    return Object.keys(localStorage).filter((key) => key.startsWith(PREFIX));
  } catch {
    return [];
  }
}

function read(key) {
  try {
    return JSON.parse(localStorage.getItem(key) ?? "null");
  } catch {
    return null;
  }
}

async function openRuns() {
  // Another page that is open in this browser answers for the marks that are its own.
  const runs = new Set();
  let channel;
  try {
    channel = new BroadcastChannel(PREFIX);
  } catch {
    return runs; // the browser keeps pages apart, and their stores with them
  }
  channel.onmessage = ({ data }) => {
    if (data === "who") channel.postMessage(run);
    else runs.add(data);
  };
  channel.postMessage("who");
  await new Promise((resolve) => setTimeout(resolve, HELLO_MS));
  return runs;
}
