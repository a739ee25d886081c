import assert from "node:assert/strict";
import { test } from "node:test";

import { actions, find, gather, join, keys, slow, tell } from "../../../ichseg/page/viewer/hub.js";

const heard = [];
join({ actions: { one: () => {} }, take: (reply) => heard.push(["first", reply]), hint: () => "first", context: () => ({ a: 1 }) });
join({ keys: { q: () => {} }, slow: ["note"], take: (reply) => heard.push(["second", reply]), hint: () => null, grab: () => ({ kind: "mine" }), context: () => ({ b: 2 }) });

test("all that have a hook are told, in the order in which they joined", () => {
  tell("take", 7);
  assert.deepEqual(heard, [["first", 7], ["second", 7]]);
});

test("the last that has an answer is asked first", () => {
  assert.equal(find("hint"), "first");
  assert.deepEqual(find("grab"), { kind: "mine" });
  assert.equal(find("cursor"), null);
});

test("what parts give is one object", () => {
  assert.deepEqual(gather("context"), { a: 1, b: 2 });
});

test("a button and a key do one thing", () => {
  assert.throws(() => join({ actions: { one: () => {} } }), /A button does one thing; two parts have 'one'; rename one/);
  assert.throws(() => join({ keys: { q: () => {} } }), /A key does one thing; two parts have 'q'/);
  assert.ok("one" in actions && "q" in keys);
});

test("a part says which of its operations may take long", () => {
  assert.deepEqual([...slow], ["note"]);
});
