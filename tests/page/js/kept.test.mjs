import assert from "node:assert/strict";
import { test } from "node:test";

import { countKept, keptSentence, recordOf, savedText } from "../../../ichseg/page/viewer/kept_marks.js";
import { Mask } from "../../../ichseg/page/viewer/masks.js";

const SHAPE = [3, 2, 3];
const lesion = (id, more) => ({ id, name: "Lesion " + id, type: "unspecified", colour: "#fff", locked: false, visible: true, blood: true, ml: 1, stops: [], ...more });
const shown = () => ({
  scan: { token: "t", record: { version: 1, scan: { sha256: "abc" } } },
  models: ["a", "b"],
  lesions: [lesion(1), lesion(2, { name: "Second", locked: true })],
  labels: new Map([["t", "study 7"]]),
  method: { model: "a" },
  edge: true,
  slices: new Map([
    [2, { boxes: {}, masks: { a: { 2: new Mask([1, 3], SHAPE) }, b: { 2: new Mask([0, 6], SHAPE) } }, ml: {}, origin: { 2: "edited" } }],
    [0, { boxes: { 1: [[0, 0, 2, 2], [1, 0, 3, 2]] }, masks: { a: { 1: new Mask([0, 2], SHAPE) } }, ml: {}, origin: { 1: "box" } }],
    [1, { boxes: {}, masks: {}, ml: {}, origin: {} }],
  ]),
});

test("a record has the boxes by slice, and the left pane's masks that boxes do not give", () => {
  const { sha256, record, boxes, masks, lesions } = recordOf(shown());
  assert.deepEqual({ sha256, boxes, masks, lesions }, { sha256: "abc", boxes: 2, masks: 1, lesions: 2 });
  assert.deepEqual(record.boxes, [{ slice: 0, lesion: 1, box_xyxy: [0, 0, 2, 2] }, { slice: 0, lesion: 1, box_xyxy: [1, 0, 3, 2] }]);
  assert.deepEqual(record.edits, [{ slice: 2, lesion: 2, origin: "edited", runs: "1 2" }]);
  assert.deepEqual(record.lesions.map(({ id, name, locked }) => [id, name, locked]), [[1, "Lesion 1", false], [2, "Second", true]]);
  assert.deepEqual(record.scan, { sha256: "abc", label: "study 7" });
  assert.deepEqual([record.model, record.edge, record.version], ["a", true, 1]);
});

test("a record names no volume, and nothing that is computed", () => {
  const { record } = recordOf(shown());
  assert.ok(!JSON.stringify(record).includes('"ml"'));
});

test("what is kept is counted", () => {
  assert.equal(countKept({ boxes: 1, masks: 0, lesions: 1 }), "1 box");
  assert.equal(countKept({ boxes: 3, masks: 2, lesions: 2 }), "3 boxes and 2 masks of 2 lesions");
});

test("the strip says the most pressing thing alone", () => {
  const own = recordOf(shown()), lost = "The server was restarted";
  const say = (how) => keptSentence({ away: false, lost: null, own: undefined, all: [], ...how });
  assert.equal(say({}), "");
  assert.match(say({ away: true, lost, own, all: [own] }), /^The server does not answer/);
  assert.equal(say({ lost }), "The server was restarted: open the scan again.");
  assert.match(say({ lost, own, all: [own] }), /again; 2 boxes and 1 mask of 2 lesions are kept here until then/);
  assert.match(say({ own, all: [own] }), /put them back on this scan/);
  assert.match(say({ all: [own] }), /kept of another scan/);
  assert.match(say({ all: [own], open: false }), /^2 boxes and 1 mask of 2 lesions are kept of a scan that was open before: open that scan to go on/);
});

test("marks are saved until something of them changes, and a label is no mark", () => {
  const before = savedText(recordOf(shown()));
  assert.equal(savedText(recordOf({ ...shown(), labels: new Map() })), before);
  for (const change of [
    { model: "b" },
    { edge: false },
    { lesions: [] },
    { slices: new Map([[0, { boxes: { 1: [[0, 0, 2, 2]] }, masks: {}, ml: {}, origin: { 1: "box" } }]]) },
  ]) {
    const { model, ...more } = change;
    assert.notEqual(savedText(recordOf({ ...shown(), ...more, ...(model && { method: { model } }) })), before);
  }
});
