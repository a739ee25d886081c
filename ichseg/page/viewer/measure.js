// Measurement of the left pane's method: numbers, plots, and how sure they are. Python measures, once the person rests.

const measuring = { open: false, record: null, why: "", range: null, at: -1, token: null };
let measureAsked = false; // whether the request in passing that is under way asks for measures

const measureWanted = () =>
  measuring.open && scan && marked().length > 0 && !roughSlices().length &&
  (measuring.at !== lastReply || measuring.range !== null || surfaceWanted());

function measureMessage() {
  measureAsked = measureWanted();
  return measureAsked ? { have: measuring.record?.n ?? null, view: surface.open, viewed: surface.n } : null;
}

function measureAnswered() {
  // Whatever came: it is of what there was after `askedAfter`. A later operation asks anew.
  if (measureAsked) measuring.at = askedAfter;
  measureAsked = false;
}

function takeMeasures(found) {
  if (!found) return;
  if (found.record !== undefined) {
    measuring.record = found.record;
    if (!gripDrag && !linesTimer && !ops.some((op) => op.op === "abc2")) moved.clear();
  }
  if (found.why !== undefined || found.record) measuring.why = found.why ?? "";
  if (found.range !== undefined) measuring.range = found.range;
  if (found.view) takeSurface(found.view);
}

function showMeasure() {
  if (measuring.token !== scan.token) {
    Object.assign(measuring, { record: null, why: "", range: null, at: -1, token: scan.token });
    moved.clear();
    forgetSurface();
  }
  one(".ich-measure").hidden = !measuring.open;
  one("[data-do=measure]").setAttribute("aria-expanded", String(measuring.open));
  if (!measuring.open) return;
  if (!marked().length) measuring.record = null;
  const { record } = measuring;
  const region = one(".ich-measure");
  region.dataset.stale = Boolean(record) && measuring.at !== lastReply && !measuring.why;
  region.dataset.ready = Boolean(record) && measuring.at === lastReply && measuring.range === null && !roughSlices().length;
  one(".ich-measure-body").hidden = !record;
  one(".ich-measure-state").textContent = measureState();
  showSurface();
  if (!record) {
    one(".ich-abc").replaceChildren();
    return;
  }
  showHeadline(record);
  showNumbers(record);
  showBoxes();
  showPlots();
  showLines();
}

function measureState() {
  if (!marked().length) return "Draw a box: what it holds is measured, for the method of the left pane.";
  if (measuring.why) return measuring.why;
  return measuring.record ? "" : roughSlices().length ? "Looking closer first…" : "Measuring…";
}

const rangeComes = (it) => measuring.range !== null && it.range_comes;

const span = ({ low_ml: low, high_ml: high }) => number(low) + " to " + number(high);
const mm = (value, digits = 1) => (value === null || value === undefined ? "–" : value.toFixed(digits));

function showHeadline({ total, reading_error: error, model_error: own, model_title: title }) {
  const given = total.range;
  const around = given
    ? span(given) + " mL " + given.covers + "."
    : rangeComes(total)
      ? "Its range from other boxes is being computed: " + Math.round(100 * measuring.range) + " %."
      : total.not_computed.range ?? "";
  const off = own
    ? title + ": volumes were off by " + own.figure + ". " + own.on_phantoms
    : title + ": how far its volumes are off was not measured.";
  const people = "Two people who measure by hand cannot tell a difference below " + error.between_raters_ml + " mL, one person below " + error.within_rater_ml + " mL (" + error.source + ").";
  const big = make("strong", number(total.volume_ml) + " mL", { className: "ich-ml" });
  const sentences = document.createElement("div");
  sentences.append(make("p", off), doubts(scan.warnings), make("p", around), make("p", people));
  one(".ich-headline").replaceChildren(big, sentences);
}

const BOXES_SHOWN = 12;

function showBoxes() {
  // As the command line takes them, beside the slice as people count it.
  const told = [];
  for (const [slice, { boxes }] of [...slices].sort(([a], [b]) => a - b)) {
    for (const [id, drawn] of Object.entries(boxes)) {
      for (const box of drawn) told.push("--slice " + slice + " --box " + box.map((at) => Number(at.toPrecision(10))).join(",") + " (slice " + (slice + 1) + (lesions.length > 1 ? ", lesion " + id : "") + ")");
    }
  }
  const more = told.length > BOXES_SHOWN ? "; and " + (told.length - BOXES_SHOWN) + " more in the session file" : "";
  const line = one(".ich-boxes");
  line.hidden = !told.length;
  line.textContent = "Boxes as the command line takes them (x0,y0,x1,y1 in pixels): " + told.slice(0, BOXES_SHOWN).join("; ") + more + ".";
}

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
  ["Side", (it) => ({ both: "crosses the midline" })[it.side?.side] ?? it.side?.side ?? "–", "side"],
  ["To the inner table, mm", (it) => mm(it.inner_table?.distance_mm), "inner_table"],
];
const NAMES = { abc2: "ABC/2", range: "Range", side: "Side", inner_table: "To the inner table", all: "Measures" };

function showNumbers(record) {
  const several = record.lesions.length > 1;
  const columns = several ? [...record.lesions, record.total] : record.lesions.length ? record.lesions : [record.total];
  const nameOf = (it) => (it === record.total ? "All blood" : it.name);
  const table = document.createElement("table");
  if (several) {
    const head = table.createTHead().insertRow();
    head.append(make("td", ""));
    for (const it of columns) {
      const cell = make("th", nameOf(it), { scope: "col" });
      if (it.colour) {
        cell.style.setProperty("--ich-own", it.colour);
        cell.className = "ich-of-lesion";
        if (it.type !== "unspecified") cell.append(make("small", it.type));
      }
      head.append(cell);
    }
  }
  const body = table.createTBody();
  // What the headline says of the only lesion is not said twice.
  for (const [title, cell, key] of several ? MEASURES : MEASURES.slice(2)) {
    const line = body.insertRow();
    if (key) line.dataset.measure = key;
    line.append(make("th", title, { scope: "row" }), ...columns.map((it) => make("td", it.voxels ? cell(it) : "–", { className: it.voxels && title.endsWith(", mL") ? "ich-ml" : "" })));
  }
  one(".ich-measures").replaceChildren(table);
  const reasons = new Map(); // each once, with whose it is
  for (const it of columns) {
    for (const [what, why] of Object.entries(it.not_computed)) {
      if (what === "range" && (rangeComes(it) || it === record.total || !several)) continue; // the headline says it
      const key = JSON.stringify([what, why]);
      reasons.set(key, [...(reasons.get(key) ?? []), nameOf(it)]);
    }
  }
  one(".ich-missing").replaceChildren(...[...reasons].map(([key, whose]) => {
    const [what, why] = JSON.parse(key);
    return make("li", NAMES[what] + (several ? " of " + whose.join(", ") : "") + ": " + why);
  }));
}

function toggleMeasure() {
  if (!scan) return;
  measuring.open = !measuring.open;
  showAll();
  resize();
  const panel = one(".ich-measure");
  if (measuring.open && panel.getBoundingClientRect().top > 0.8 * window.innerHeight) panel.scrollIntoView();
}

DO.measure = toggleMeasure;
KEYS.d = toggleMeasure;
