import assert from "node:assert/strict";
import { test } from "node:test";

// A page over plain HTTP on a local network: a document that takes whatever is shown, and no crypto.randomUUID.
const anything = new Proxy(() => anything, {
  get: (_, name) => {
    if (name === Symbol.toPrimitive) return () => "";
    return name === Symbol.iterator ? [][Symbol.iterator] : anything;
  },
  set: () => true,
});
globalThis.window = globalThis.document = anything;
Object.defineProperty(globalThis, "crypto", { value: { getRandomValues: crypto.getRandomValues.bind(crypto) } });
const requests = [];
globalThis.XMLHttpRequest = class {
  upload = {};
  status = 200;
  open() { /* nobody is there */ }
  send(form) {
    const names = form.getAll("files").map((file) => file.name);
    requests.push(names);
    this.responseText = JSON.stringify(names.map((name) => "/there/" + name));
    this.onload();
  }
};
const { host } = await import("../../../ichseg/page/viewer/host.js");
const { refusal, sendInPortions } = await import("../../../ichseg/page/viewer/upload.js");

test("1,200 files go in portions over plain HTTP, each by a name of its own, and come back in their order", async () => {
  host.props = { limits: { portion: 500 } };
  const files = Array.from({ length: 1200 }, (_, index) => new File(["x"], index % 2 + ".dcm"));
  const paths = await sendInPortions(files);
  assert.deepEqual(requests.map((names) => names.length), [500, 500, 200]);
  assert.equal(new Set(paths).size, 1200);
  assert.ok(paths.every((path, index) => path.endsWith("-" + files[index].name)));
});

test("what is too much is refused before it is sent", () => {
  const limits = { files: 2, bytes: 3 << 20, file: 2 << 20 };
  const file = (name, megabytes) => ({ name, size: megabytes << 20 });
  assert.equal(refusal([file("a", 1), file("b", 2)], limits), "");
  assert.match(refusal([file("a", 3)], limits), /^a: a file of an upload is at most 2 MB; this one has 3 MB/);
  assert.match(refusal([file("a", 2), file("b", 2)], limits), /at most 3 MB in 2 files; got 4 MB in 2/);
});
