// The proposals' pure functions: which are open, which is next, and slices in words.

import assert from "node:assert/strict";
import { test } from "node:test";

const at = new URL("../../../ichseg/page/panels/suggest/proposals.js", import.meta.url);
const { extentText, isAccepted, likelyText, nextOpen, slicesText, sureText } = await import(at.href);

test("runs of slices are named from 1", () => {
  assert.equal(slicesText([]), "");
  assert.equal(slicesText([4]), "5");
  assert.equal(slicesText([4, 5]), "5 and 6");
  assert.equal(slicesText([11, 12, 13, 19]), "12 to 14 and 20");
  assert.equal(slicesText([0, 1, 2, 4, 5, 9, 10, 11]), "1 to 3, 5, 6 and 10 to 12");
});

test("a proposal goes from its first slice to its last, and is never wholly sure", () => {
  assert.equal(extentText([4]), "slice 5");
  assert.equal(extentText([5, 4]), "slices 5 and 6");
  assert.equal(extentText([85, 95, 105]), "slices 86 to 106");
  assert.equal(sureText(0.874), "87 % sure");
  assert.equal(sureText(0.994), "99 % sure");
  assert.equal(sureText(0.9951), "over 99 % sure");
  assert.equal(sureText(1), "over 99 % sure");
});

test("the next open one is found around the end", () => {
  const open = (one) => one.open;
  assert.equal(nextOpen([{ open: true }, { open: false }, { open: true }], 0, open), 2);
  assert.equal(nextOpen([{ open: true }, { open: false }, { open: false }], 0, open), 0);
  assert.equal(nextOpen([{ open: false }], -1, open), -1);
  assert.equal(nextOpen([], -1, open), -1);
});

test("an accepted proposal is open again once its boxes are gone", () => {
  const proposal = { lesion: 2, show: 4 };
  const slices = new Map([[4, { boxes: { 2: [[0, 0, 4, 4]] } }]]);
  assert.equal(isAccepted(proposal, [{ id: 1 }, { id: 2 }], slices), true);
  assert.equal(isAccepted(proposal, [{ id: 1 }], slices), false);
  assert.equal(isAccepted(proposal, [{ id: 2 }], new Map()), false);
  assert.equal(isAccepted({ lesion: null, show: 4 }, [{ id: 2 }], slices), false);
});

test("the strip is told in words", () => {
  assert.equal(likelyText({ 4: 0.9, 5: 0.2 }, 2), "Blood is likely on slice 5. It may be missed: look at every slice.");
  assert.equal(
    likelyText({ 4: 0.9, 5: 0.6, 6: 0.7 }, 30),
    "Blood is likely on slices 5 to 7; 3 of 30 slices were looked at. It may be missed: look at every slice.",
  );
  assert.match(likelyText({ 4: 0.1 }, 1), /^No slice looks likely to have blood\./);
});
