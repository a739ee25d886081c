import assert from "node:assert/strict";
import { test } from "node:test";

import { contrast, darkened } from "../../../ichseg/page/viewer/colours.js";

test("contrast is that of WCAG", () => {
  assert.equal(contrast("#000000", "#ffffff"), 21);
  assert.equal(contrast("#777777", "#777777"), 1);
  assert.ok(Math.abs(contrast("#777777", "#ffffff") - 4.478) < 0.001); // as the guideline's own tools have it
});

test("a bright colour is darkened until it can be read, and a dark one stays", () => {
  const shown = darkened("#2fe3d3", "#ffffff");
  assert.ok(contrast(shown, "#ffffff") >= 4.5 && contrast(shown, "#ffffff") < 6);
  assert.equal(darkened("#123456", "#ffffff"), "#123456");
  assert.equal(darkened("#2fe3d3", "#171c21"), "#2fe3d3");
});
