import assert from "node:assert/strict";
import { test } from "node:test";

import { megabytes, mm, number, plural, sentence, share, signed, sliceName, span } from "../../../ichseg/page/viewer/numbers.js";

test("millilitres have two digits below ten, and a dash where there are none", () => {
  assert.deepEqual([0, 9.994, 10, 123.456].map(number), ["0.00", "9.99", "10.0", "123.5"]);
  assert.deepEqual([undefined, null, NaN, Infinity].map(number), ["–", "–", "–", "–"]);
  assert.equal(span({ low_ml: 9.5, high_ml: 12.25 }), "9.50 to 12.3");
});

test("a number that is not there is a dash, and nought is a number", () => {
  assert.deepEqual([mm(0), mm(null), mm(undefined), mm(4.25, 0), share(0.98765), share(null)], ["0.0", "–", "–", "4", "0.988", "–"]);
});

test("a change has its sign, a true minus", () => {
  assert.deepEqual([signed(1.25, 1), signed(-1.25, 2), signed(0, 0)], ["+1.3", "−1.25", "+0"]);
});

test("counts", () => {
  assert.deepEqual([plural(1, "box"), plural(2, "box"), plural(0, "mask"), plural(1, "slice")], ["1 box", "2 boxes", "0 masks", "1 slice"]);
  assert.equal(megabytes(1), 1);
  assert.equal(megabytes(2 ** 20), 1);
});

test("a slice as people count it, and as the command line takes it", () => {
  assert.equal(sliceName(15), "slice 16, --slice 15");
});

test("a note becomes a sentence, with one full stop", () => {
  assert.equal(sentence("the slices are tilted"), "The slices are tilted.");
  assert.equal(sentence("So it is."), "So it is.");
});
