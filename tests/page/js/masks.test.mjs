import assert from "node:assert/strict";
import { test } from "node:test";

import { loopsOf, Mask, runsOf } from "../../../ichseg/page/viewer/masks.js";

const pixelsOf = (...rows) => Uint8Array.from(rows.join(""), Number);
const area = (loop) => loop.slice(1).reduce((sum, [x, y], at) => sum + (loop[at][0] * y - x * loop[at][1]) / 2, 0);

test("one pixel has a loop of four edges around it", () => {
  assert.deepEqual(loopsOf(pixelsOf("000", "010", "000"), 3, 3), [[[1, 1], [2, 1], [2, 2], [1, 2], [1, 1]]]);
});

test("a mask that fills its slice has its outline along the border", () => {
  const [loop, ...more] = loopsOf(pixelsOf("11", "11"), 2, 2);
  assert.equal(more.length, 0);
  assert.equal(Math.abs(area(loop)), 4);
});

test("a hole is a loop of its own, the other way round", () => {
  const loops = loopsOf(pixelsOf("1111", "1001", "1111"), 3, 4);
  assert.deepEqual(loops.map(area).sort((a, b) => a - b), [-2, 12]);
});

test("the loops hold as many pixels as the mask, diagonal neighbours too", () => {
  const pixels = pixelsOf("1010", "0101", "1010", "1111");
  const loops = loopsOf(pixels, 4, 4);
  assert.equal(loops.map(area).reduce((a, b) => a + b), 10);
  for (const loop of loops) assert.deepEqual(loop[0], loop.at(-1));
});

test("no pixel, no loop", () => {
  assert.deepEqual(loopsOf(new Uint8Array(6), 2, 3), []);
});

test("a mask turns on and off at the flat indices that Python sends", () => {
  assert.deepEqual([...new Mask([1, 3, 5, 6], [9, 2, 3]).pixels], [0, 1, 1, 0, 0, 1]);
  assert.deepEqual([...new Mask([], [9, 1, 2]).pixels], [0, 0]);
});

test("masks together", () => {
  const shape = [1, 1, 4];
  assert.deepEqual([...Mask.union([new Mask([0, 1], shape), new Mask([2, 4], shape)], shape).pixels], [1, 0, 1, 1]);
});

test("runs count off, on, off, without the last that are off", () => {
  assert.equal(runsOf(pixelsOf("0110010")), "1 2 2 1");
  assert.equal(runsOf(pixelsOf("1100")), "0 2");
  assert.equal(runsOf(pixelsOf("0011")), "2 2");
  assert.equal(runsOf(pixelsOf("0000")), "");
});
