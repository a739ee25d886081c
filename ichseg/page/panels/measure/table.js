// The measures as numbers: the headline, the table, what could not be computed, the boxes.

import { doubts, make, one } from "../../viewer/dom.js";
import { mm, number, span } from "../../viewer/numbers.js";
import { state } from "../../viewer/state.js";
import { abcOf, isMoved } from "./abc.js";
import { measuring } from "./measuring.js";

const BOXES_SHOWN = 12;
/** What the headline says of the only lesion is not said twice. */
const IN_HEADLINE = new Set(["volume_ml", "range"]);
/** @type {Record<string, (it: any) => string | null>} by a line's key: what is known here before Python says it anew */
const OWN = {
  range: (it) => (rangeComes(it) ? "…" : null),
  abc2: (it) => (isMoved(it) ? number(abcOf(it).volume_ml) : null),
  abc2_lines: (it) => (isMoved(it) ? [abcOf(it).a.length_mm, abcOf(it).b.length_mm, abcOf(it).c_mm].map((length) => mm(length)).join(" × ") : null),
};

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

/** The table of measures, by the lines that Python gives: {key, head, cells}, a cell of all blood, then of each lesion. */
export function showNumbers(record) {
  const { lesions, total } = record;
  const several = lesions.length > 1;
  const whose = [total, ...lesions]; // as the cells are
  const columns = several ? [...lesions, total] : lesions.length ? lesions : [total];
  const nameOf = (it) => (it === total ? "All blood" : it.name);
  const table = document.createElement("table");
  if (several) table.createTHead().insertRow().append(make("td", ""), ...columns.map((it) => headCell(it, nameOf(it))));
  const body = table.createTBody();
  for (const { key, head, cells } of record.table) {
    if (!several && IN_HEADLINE.has(key)) continue;
    const line = body.insertRow();
    line.dataset.measure = key;
    const inMl = head.endsWith(", mL");
    const cellOf = (it) => (it.voxels ? OWN[key]?.(it) : null) ?? cells[whose.indexOf(it)] ?? "–";
    line.append(make("th", head, { scope: "row" }), ...columns.map((it) => make("td", cellOf(it), { className: it.voxels && inMl ? "ich-ml" : "" })));
  }
  one(".ich-measures").replaceChildren(table);
  showMissing(record, columns, nameOf);
}

function headCell({ colour, type }, name) {
  const cell = make("th", name, { scope: "col" });
  if (!colour) return cell;
  cell.style.setProperty("--ich-own", colour);
  cell.className = "ich-of-lesion";
  if (type !== "unspecified") cell.append(make("small", type));
  return cell;
}

function showMissing({ lesions, total, titles }, columns, nameOf) {
  const several = lesions.length > 1;
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
    return make("li", titles[what] + (several ? " of " + whose.join(", ") : "") + ": " + why);
  }));
}
