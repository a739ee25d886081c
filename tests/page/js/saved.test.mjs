import assert from "node:assert/strict";
import { test } from "node:test";

// A browser's store, and its line between pages, as far as they are used.
const stored = new Map();
const fake = {
  setItem: (key, text) => { if (text.length > 5000) throw new Error("full"); fake[key] = text; stored.set(key, text); },
  getItem: (key) => stored.get(key) ?? null,
  removeItem: (key) => { delete fake[key]; stored.delete(key); },
};
for (const name of Object.keys(fake)) Object.defineProperty(fake, name, { enumerable: false });
Object.defineProperty(globalThis, "localStorage", { value: fake, configurable: true });
// node waits for a channel that is open; a browser closes it with the page.
const Channel = globalThis.BroadcastChannel;
globalThis.BroadcastChannel = class extends Channel { constructor(name) { super(name); this.unref(); } };
const { isOwn, keyOf, leftBehind, remove, save } = await import("../../../ichseg/page/viewer/saved.js");

const marks = (more) => ({ sha256: "abc", boxes: 1, masks: 0, lesions: 1, record: { scan: { sha256: "abc", label: "Mrs Miller" }, boxes: [] }, ...more });
const left = (run, at, what) => fake.setItem("ichseg-kept:" + run + ":abc", JSON.stringify({ at, marks: what }));

test("what is saved has no label, and is this page's own", () => {
  assert.ok(save(keyOf("abc"), marks()));
  assert.ok(isOwn(keyOf("abc")) && ![...stored.values()].join("").includes("Miller"));
  assert.ok(!save(keyOf("abc"), marks({ more: "x".repeat(6000) })));
  remove(keyOf("abc"));
  assert.equal(stored.size, 0);
});

test("what another page left is found, from the oldest; what is old or no record goes, and this page's own stays", async () => {
  save(keyOf("abc"), marks());
  left("new", Date.now() - 1000, marks({ boxes: 2 }));
  left("older", Date.now() - 5000, marks({ boxes: 3 }));
  left("ancient", Date.now() - 8 * 24 * 3600 * 1000, marks());
  left("junk", Date.now(), 7);
  fake.setItem("ichseg-kept:torn:abc", "{");
  fake.setItem("somebody's", "{}");
  const found = await leftBehind();
  assert.deepEqual([...found.values()].map(({ boxes }) => boxes), [3, 2]);
  assert.deepEqual([...stored.keys()].sort(), ["ichseg-kept:new:abc", "ichseg-kept:older:abc", keyOf("abc"), "somebody's"].sort());
});

test("what belongs to a page that is open elsewhere is its own", async () => {
  const other = new BroadcastChannel("ichseg-kept:");
  other.onmessage = ({ data }) => { if (data === "who") other.postMessage("older"); };
  const found = await leftBehind();
  other.close();
  assert.deepEqual([...found.keys()], ["ichseg-kept:new:abc"]);
});
