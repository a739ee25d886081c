// The table of scores, and the methods that are not on this machine.

import { make, one } from "../../viewer/dom.js";
import { number, share, signed } from "../../viewer/numbers.js";
import { ask } from "../../viewer/server.js";
import { marked, state, titleOf } from "../../viewer/state.js";
import { comparing } from "./comparing.js";

function volumeError({ difference_ml: ml, difference_percent: percent }) {
  return signed(ml, 2) + (percent === null ? "" : " (" + signed(percent, 0) + " %)");
}

/** @param {boolean} stale whether the scores are of something else than what is on screen */
export function showScores(stale) {
  const { scores, reference } = comparing;
  const region = one(".ich-scores");
  region.dataset.stale = stale;
  const note = one(".ich-scores-note");
  if (!scores) {
    region.replaceChildren();
    note.textContent = marked().length || reference ? "Scoring…" : "Draw a box: the methods are compared on the slices that have one.";
    return;
  }
  const withReference = scores.scopes.some(({ rows }) => rows[0] && "dice" in rows[0]);
  region.replaceChildren(scoreTable(scores, withReference));
  note.textContent = withReference
    ? "Dice, Jaccard, surface Dice and volume error are against the reference mask. That of the whole scan includes slices without a box. " +
      "Surface Dice: boundaries in the plane of the slices, in three dimensions for the whole scan."
    : "Load a reference mask to score each method against it.";
}

function scoreTable({ first, slice, marked: count, scopes }, withReference) {
  const names = {
    slice: "This slice (" + (slice + 1) + ")",
    marked: "Marked slices (" + count + ")",
    whole: "Whole scan (" + state.scan.shape[0] + " slices)",
  };
  /** @type {[string, (row: any) => string][]} */
  const columns = [["mL", (row) => number(row.ml)], ["Dice with " + titleOf(first), (row) => (row.model === first ? "" : share(row.with_first))]];
  if (withReference) {
    columns.push(
      ["Reference, mL", (row) => number(row.reference_ml)], ["Dice", (row) => share(row.dice)], ["Jaccard", (row) => share(row.jaccard)],
      ["Surface Dice, 2 mm", (row) => share(row.surface_dice)], ["Volume error, mL", volumeError],
    );
  }
  const table = document.createElement("table");
  const head = table.createTHead().insertRow();
  head.append(...["Method", ...columns.map(([title]) => title)].map((title) => make("th", title, { scope: "col" })));
  for (const { scope, rows } of scopes) {
    const body = table.createTBody();
    body.insertRow().append(make("th", names[scope], { scope: "rowgroup", colSpan: columns.length + 1 }));
    for (const row of rows) {
      body.insertRow().append(make("th", titleOf(row.model), { scope: "row" }), ...columns.map(([, cell]) => make("td", cell(row))));
    }
  }
  return table;
}

/** Offer to fetch the methods that are not on this machine. */
export function showAbsent() {
  const absent = state.choices.filter((choice) => choice.missing);
  one(".ich-absent").hidden = !absent.length;
  one(".ich-absent summary").textContent = absent.length === 1 ? "1 method is not on this machine" : absent.length + " methods are not on this machine";
  one(".ich-absent ul").replaceChildren(...absent.map((choice) => {
    const item = document.createElement("li");
    const fetchIt = make("button", "Fetch " + choice.title, { type: "button", disabled: !choice.fetch });
    fetchIt.addEventListener("click", () => ask({ op: "fetch", name: choice.name }));
    item.append(fetchIt, choice.missing + (choice.hindrance ? " " + choice.hindrance : ""));
    return item;
  }));
}
