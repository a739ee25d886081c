import assert from "node:assert/strict";
import { test } from "node:test";

import { boxBetween, centred, handleAt, lengthMm, placement, reshape, zoomed } from "../../../ichseg/page/viewer/geometry.js";

const SHAPE = [30, 100, 200]; // z, y, x

test("a slice fits its pane in its true proportions, in the middle", () => {
  // 200 columns of 0.5 mm and 100 rows of 1 mm: a square of 100 mm in 400 x 300 CSS pixels, 3 of them a mm.
  const place = placement({ shape: SHAPE, spacing: [5, 1, 0.5] }, { zoom: 1, x: 0.5, y: 0.5 }, 400, 300);
  assert.deepEqual(place, { sx: 1.5, sy: 3, left: 50, top: 0 });
});

test("zoomed in, the centre of the view is in the middle of the pane", () => {
  const { sx, sy, left, top } = placement({ shape: SHAPE, spacing: [5, 1, 0.5] }, { zoom: 2, x: 0.25, y: 0.75 }, 400, 300);
  assert.deepEqual([left + 0.25 * 200 * sx, top + 0.75 * 100 * sy], [200, 150]);
});

test("a box lies between two points in whole pixels of the slice, whatever way it was drawn", () => {
  assert.deepEqual(boxBetween({ x: 20.4, y: 30.6 }, { x: 10.2, y: 12.4 }, SHAPE), [10, 12, 20, 31]);
  assert.deepEqual(boxBetween({ x: -5, y: -5 }, { x: 900, y: 900 }, SHAPE), [0, 0, 200, 100]);
});

test("a click, and a drag along one row, is no box", () => {
  assert.equal(boxBetween({ x: 10, y: 10 }, { x: 11, y: 11 }, SHAPE), null);
  assert.equal(boxBetween({ x: 10, y: 10 }, { x: 60, y: 11 }, SHAPE), null);
});

test("a handle is found by its distance on screen", () => {
  const box = [10, 20, 50, 60];
  const at = (x, y, s = 1) => handleAt(box, { x, y, sx: s, sy: s }, 7);
  assert.deepEqual(at(10, 20), [-1, -1]);
  assert.deepEqual(at(50, 40), [1, 0]);
  assert.deepEqual(at(30, 63), [0, 1]);
  assert.deepEqual(at(30, 40), [0, 0]);
  assert.equal(at(58, 40), null);
  assert.deepEqual(at(51, 40, 4), [1, 0]);
  assert.equal(at(52, 40, 4), null); // 8 CSS pixels beyond
  assert.equal(handleAt(undefined, { x: 0, y: 0, sx: 1, sy: 1 }, 7), null);
});

test("a small box keeps an inside to take hold of", () => {
  assert.deepEqual(handleAt([10, 10, 14, 14], { x: 12, y: 12, sx: 1, sy: 1 }, 1), [0, 0]);
});

test("a box moves as a whole and stays on the slice", () => {
  assert.deepEqual(reshape([10, 20, 30, 40], [0, 0], 4.6, -3.2, SHAPE), [15, 17, 35, 37]);
  assert.deepEqual(reshape([10, 20, 30, 40], [0, 0], -99, 99, SHAPE), [0, 80, 20, 100]);
});

test("a corner moves its two sides", () => {
  assert.deepEqual(reshape([10, 20, 30, 40], [-1, 1], 5, 7, SHAPE), [15, 20, 30, 47]);
});

test("a side dragged past the other turns the box over", () => {
  assert.deepEqual(reshape([10, 20, 30, 40], [1, 0], -26, 0, SHAPE), [4, 20, 10, 40]);
});

test("a box never gets thinner than two pixels", () => {
  assert.deepEqual(reshape([10, 20, 30, 40], [1, 0], -20, 0, SHAPE), [10, 20, 12, 40]);
  assert.deepEqual(reshape([10, 20, 30, 40], [-1, 0], 20, 0, SHAPE), [28, 20, 30, 40]);
  assert.deepEqual(reshape([196, 20, 199, 40], [-1, 0], 9, 0, SHAPE), [198, 20, 200, 40]);
});

test("the view never leaves the slice", () => {
  assert.deepEqual(centred({ zoom: 1 }, 0.9, 0.1), { zoom: 1, x: 0.5, y: 0.5 });
  assert.deepEqual(centred({ zoom: 2 }, 0.9, 0.1), { zoom: 2, x: 0.75, y: 0.25 });
});

test("zooming keeps the point under the pointer where it is", () => {
  const view = { zoom: 2, x: 0.5, y: 0.5 }, at = { x: 0.6, y: 0.4 };
  const next = zoomed(view, 4, at);
  // On screen a point lies (point - centre) * zoom from the middle.
  assert.ok(Math.abs((at.x - view.x) * view.zoom - (at.x - next.x) * next.zoom) < 1e-12);
  assert.ok(Math.abs((at.y - view.y) * view.zoom - (at.y - next.y) * next.zoom) < 1e-12);
  assert.equal(zoomed(view, 99).zoom, 12);
  assert.deepEqual(zoomed(view, 0.1), { zoom: 1, x: 0.5, y: 0.5 });
});

test("a line's length is that of its steps in mm, in a tilted plane too", () => {
  assert.equal(lengthMm([0, 0, 3, 4], [[1, 0], [0, 1]]), 5);
  assert.equal(lengthMm([1, 1, 4, 9], [[1, 0], [0, 0.5]]), 5);
});
