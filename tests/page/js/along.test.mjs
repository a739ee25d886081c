// One scan along another's slices: closed forms on small grids.

import assert from "node:assert/strict";
import { test } from "node:test";

import { AIR_HU, along, compared, heightOf, indexOf, placeIn } from "../../../ichseg/page/panels/followup/along.js";

/** Slices `dz` mm apart, pixels of 1 mm, down is RAS -y and right is RAS -x, as Python has them. */
const grid = (depth, dz, corner = [0, 0, 0], shape = [depth, 4, 5]) => ({
  origins: Array.from({ length: depth }, (_, k) => [corner[0], corner[1], corner[2] + k * dz]),
  positions: Array.from({ length: depth }, (_, k) => corner[2] + k * dz),
  normal: [0, 0, 1], down: [0, -1, 0], right: [-1, 0, 0], to_down: [0, -1, 0], to_right: [-1, 0, 0], shape,
});
const SAME = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]];

test("an index lies between rising positions in proportion, and beyond the ends as far apart", () => {
  const positions = [0, 4, 8, 15];
  assert.deepEqual([-2, 0, 6, 8, 11.5, 22].map((height) => indexOf(height, positions)), [-0.5, 0, 1.5, 2, 2.5, 4]);
  assert.equal(indexOf(7, [3]), 0);
});

test("a pixel's place in the other scan goes by the motion and by where its slices lie", () => {
  const moved = [[1, 0, 0, -2], [0, 1, 0, 1], [0, 0, 1, 5], [0, 0, 0, 1]];
  const link = { matrix: moved, own: grid(3, 5), other: grid(7, 2.5) };
  assert.deepEqual(placeIn(link, 1, 3, 2), { z: 4, y: 1, x: 5 }); // 10 mm high; 1 mm to the front, 2 to the left
  assert.equal(heightOf(link.own, 2, [3, 4, 5]), 10);
});

test("the other scan along a slice is read between its voxels, and is air beyond it", () => {
  const other = grid(2, 4, [0, 0, 0], [2, 4, 5]);
  const hu = new Int16Array(40).map((_, i) => i); // rises by 1 across, 5 down, 20 a slice
  const own = grid(3, 2, [-0.5, 0, 0]);
  const out = along({ matrix: SAME, own, other }, hu, 1, [3, 4, 5]);
  // Half way between the slices (+10), half a pixel to the right; the last column lies outside.
  assert.deepEqual([...out.slice(0, 5)], [11, 12, 13, 14, AIR_HU]);
  assert.equal(out[5], 16);
  const above = along({ matrix: SAME, own: grid(3, 5), other }, hu, 2, [3, 4, 5]);
  assert.ok(above.every((value) => value === AIR_HU));
});

test("where slices are stacked aslant each has its own corner", () => {
  const other = grid(2, 4);
  other.origins[1] = [0, 2, 4]; // the upper slice lies 2 mm to the front: two rows
  const link = { matrix: SAME, own: grid(2, 4), other };
  assert.deepEqual(placeIn(link, 1, 0, 0), { z: 1, y: 2, x: 0 });
});

test("what is in both, only before and only now", () => {
  const { both, gone, fresh } = compared(new Uint8Array([1, 1, 0, 0]), new Uint8Array([1, 0, 1, 0]));
  assert.deepEqual([[...both], [...gone], [...fresh]], [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]);
});
