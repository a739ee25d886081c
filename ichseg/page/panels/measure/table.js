// The measures as numbers: the headline, the table, what could not be computed, the boxes.

import { doubts, make, one } from "../../viewer/dom.js";
import { mm, number, sliceName, span } from "../../viewer/numbers.js";
import { state } from "../../viewer/state.js";
import { abcOf } from "./abc.js";
import { measuring } from "./measuring.js";

const BOXES_SHOWN = 12;
const SIDES = { both: "crosses the midline" };
const NAMES = { abc2: "ABC/2", range: "Range", side: "Side", inner_table: "To the inner table", all: "Measures" };
/** @type {[string, (it: any) => string, string?][]} title, cell, key */
const MEASURES = [
  ["Volume, mL", (it) => number(it.volume_ml)],
  ["From other boxes, mL", (it) => (it.range ? span(it.range) : rangeComes(it) ? "…" : "–"), "range"],
  ["ABC/2, mL", (it) => (abcOf(it) ? number(abcOf(it).volume_ml) : "–"), "abc2"],
  ["A × B × C, mm", (it) => (abcOf(it) ? [abcOf(it).a.length_mm, abcOf(it).b.length_mm, abcOf(it).c_mm].map((length) => mm(length)).join(" × ") : "–")],
  ["Longest in a slice, mm", (it) => mm(it.longest_in_plane?.length_mm) + (it.longest_in_plane ? " (" + sliceName(it.longest_in_plane.slice_index) + ")" : "")],
  ["Longest in 3D, mm", (it) => mm(it.longest_in_3d?.length_mm)],
  ["Surface, cm²", (it) => mm(it.surface_area_mm2 / 100)],
  ["HU, mean ± SD", (it) => (it.hu ? mm(it.hu.mean) + " ± " + mm(it.hu.sd) : "–")],
  ["HU, quartiles", (it) => (it.hu ? ["lower_quartile", "median", "upper_quartile"].map((key) => mm(it.hu[key], 0)).join(", ") : "–")],
  ["Pieces (largest, mL)", (it) => it.pieces + (it.pieces > 1 ? " (" + number(it.largest_piece_ml) + ")" : "")],
  ["Side", (it) => SIDES[it.side?.side] ?? it.side?.side ?? "–", "side"],
  ["To the inner table, mm", (it) => mm(it.inner_table?.distance_mm), "inner_table"],
];
const IN_HEADLINE = 2; // so many rows say what the headline says of the only lesion

const rangeComes = (it) => measuring.range !== null && it.range_comes;

export function showHeadline({ total, reading_error: error, model_error: own, model_title: title }) {
  const off = own
    ? title + ": volumes were off by " + own.figure + ". " + own.on_phantoms
    : title + ": how far its volumes are off was not measured.";
  const people = "Two people who measure by hand cannot tell a difference below " + error.between_raters_ml + " mL, one person below " + error.within_rater_ml + " mL (" + error.source + ").";
  const big = make("strong", number(total.volume_ml) + " mL", { className: "ich-ml" });
  const sentences = document.createElement("div");
  sentences.append(make("p", off), doubts(state.scan.warnings), make("p", rangeSentence(total)), make("p", people));
  one(".ich-headline").replaceChildren(big, sentences);
}

function rangeSentence(total) {
  if (total.range) return span(total.range) + " mL " + total.range.covers + ".";
  if (rangeComes(total)) return "Its range from other boxes is being computed: " + Math.round(100 * measuring.range) + " %.";
  return total.not_computed.range ?? "";
}

/** The boxes as the command line takes them, beside the slice as people count it. */
export function showBoxes() {
  const told = [];
  for (const [slice, { boxes }] of [...state.slices].sort(([a], [b]) => a - b)) {
    for (const [id, drawn] of Object.entries(boxes)) {
      const whose = state.lesions.length > 1 ? ", lesion " + id : "";
      for (const box of drawn) told.push("--slice " + slice + " --box " + box.map((at) => Number(at.toPrecision(10))).join(",") + " (slice " + (slice + 1) + whose + ")");
    }
  }
  const more = told.length > BOXES_SHOWN ? "; and " + (told.length - BOXES_SHOWN) + " more in the session file" : "";
  const line = one(".ich-boxes");
  line.hidden = !told.length;
  line.textContent = "Boxes as the command line takes them (x0,y0,x1,y1 in pixels): " + told.slice(0, BOXES_SHOWN).join("; ") + more + ".";
}

export function showNumbers(record) {
  const several = record.lesions.length > 1;
  const columns = several ? [...record.lesions, record.total] : record.lesions.length ? record.lesions : [record.total];
  const nameOf = (it) => (it === record.total ? "All blood" : it.name);
  const table = document.createElement("table");
  if (several) table.createTHead().insertRow().append(make("td", ""), ...columns.map((it) => headCell(it, nameOf(it))));
  const body = table.createTBody();
  for (const [title, cell, key] of several ? MEASURES : MEASURES.slice(IN_HEADLINE)) {
    const line = body.insertRow();
    if (key) line.dataset.measure = key;
    const inMl = title.endsWith(", mL");
    line.append(make("th", title, { scope: "row" }), ...columns.map((it) => make("td", it.voxels ? cell(it) : "–", { className: it.voxels && inMl ? "ich-ml" : "" })));
  }
  one(".ich-measures").replaceChildren(table);
  showMissing(columns, several, record.total, nameOf);
}

function headCell({ colour, type }, name) {
  const cell = make("th", name, { scope: "col" });
  if (!colour) return cell;
  cell.style.setProperty("--ich-own", colour);
  cell.className = "ich-of-lesion";
  if (type !== "unspecified") cell.append(make("small", type));
  return cell;
}

function showMissing(columns, several, total, nameOf) {
  const reasons = new Map(); // each once, with whose it is
  for (const it of columns) {
    for (const [what, why] of Object.entries(it.not_computed)) {
      if (what === "range" && (rangeComes(it) || it === total || !several)) continue; // the headline says it
      const key = JSON.stringify([what, why]);
      reasons.set(key, [...(reasons.get(key) ?? []), nameOf(it)]);
    }
  }
  one(".ich-missing").replaceChildren(...[...reasons].map(([key, whose]) => {
    const [what, why] = JSON.parse(key);
    return make("li", NAMES[what] + (several ? " of " + whose.join(", ") : "") + ": " + why);
  }));
}
