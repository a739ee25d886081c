import assert from "node:assert/strict";
import { test } from "node:test";

import { sliceSentence, stopsSentence, volumesSentence } from "../../../ichseg/page/viewer/said.js";

test("a slice is said as people count it, with its millilitres where it is marked", () => {
  assert.equal(sliceSentence(12, 28, null), "Slice 13 of 28.");
  assert.equal(sliceSentence(0, 28, 3.204), "Slice 1 of 28: 3.20 mL here.");
});

test("the result says each method's millilitres, here and in total", () => {
  const rows = [{ title: "A", here_ml: 1.5, total_ml: 12.04 }, { title: "B", here_ml: NaN, total_ml: NaN }];
  assert.equal(volumesSentence(4, rows), "Slice 5: A 1.50 mL here, 12.0 in total; B – mL here, – in total.");
});

test("the stops of a whole hematoma are said, and whose they are where there are several", () => {
  const stop = { reason: "leak", sentence: "stopped at slice 10: it leaks" };
  const end = { reason: "end", sentence: "the end" };
  const tail = " Look at every slice; a box where it is wrong wins.";
  assert.equal(stopsSentence(undefined, false), "");
  assert.equal(stopsSentence({ name: "Lesion 1", stops: [] }, false), "");
  assert.equal(stopsSentence({ name: "Lesion 1", stops: [stop, end] }, false), "Stopped at slice 10: it leaks." + tail);
  const other = { reason: "hu", sentence: "stopped below slice 4: too dark" };
  assert.equal(stopsSentence({ name: "Lesion 2", stops: [stop, other] }, true), "Lesion 2: Stopped at slice 10: it leaks. Stopped below slice 4: too dark." + tail);
  assert.equal(stopsSentence({ name: "Lesion 2", stops: [end] }, true), "Lesion 2: followed to both ends of the scan." + tail);
});
