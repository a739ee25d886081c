// The comparison: any two methods or all, where they agree, their scores, and a truth mask.

const comparing = { open: false, agreement: false, against: "first", outline: true };
let choices = props.choices;
let truth = null; // {masks: Map of k -> Mask}
let scores = null; // as Python sends them; null where they are yet to come
let scored = ""; // what they are of
let askHub = false;
const parts = new WeakMap(); // a method's Mask -> {reference, both, reference only, own only}

const ABSENT = { pixels: null, path: new Path2D() };
const truthHere = () => truth?.masks.get(k) ?? ABSENT;
const againstTruth = () => comparing.against === "truth" && truth;

function scoreKey() {
  // What the scores depend on: methods, marked slices, the slice on screen, the truth.
  return JSON.stringify([k, models, marked().map((slice) => [slice, slices.get(slice).boxes, slices.get(slice).ml]), Boolean(truth)]);
}
const scoresWanted = () => comparing.open && scan && scored !== scoreKey();

function agreementOf(own, reference) {
  // The outlines of what both have, and of what only one has; made once for a pair of masks.
  const known = parts.get(own);
  if (known?.reference === reference) return known;
  const [, rows, columns] = scan.shape;
  const pick = (keep) => {
    const out = new Uint8Array(rows * columns);
    for (let i = 0; i < out.length; i++) out[i] = keep(own.pixels[i], reference.pixels?.[i] ?? 0);
    return outlineOf(out, rows, columns);
  };
  const made = {
    reference,
    both: pick((a, b) => a & b),
    ownOnly: pick((a, b) => a & (1 - b)),
    referenceOnly: pick((a, b) => (1 - a) & b),
  };
  parts.set(own, made);
  return made;
}

function texture(context, kind, colour) {
  // Told apart without colour: full, stripes, dots.
  const tile = document.createElement("canvas");
  tile.width = tile.height = 16; // two for a CSS pixel
  const pen = tile.getContext("2d");
  pen.fillStyle = pen.strokeStyle = colour;
  if (kind === "full") {
    pen.globalAlpha = 0.35;
    pen.fillRect(0, 0, 16, 16);
  } else if (kind === "stripes") {
    pen.lineWidth = 4;
    for (const x of [-16, 0, 16]) {
      pen.beginPath();
      pen.moveTo(x - 2, 18);
      pen.lineTo(x + 18, -2);
      pen.stroke();
    }
  } else {
    for (const [x, y] of [[4, 4], [12, 12]]) {
      pen.beginPath();
      pen.arc(x, y, 3, 0, 7);
      pen.fill();
    }
  }
  const pattern = context.createPattern(tile, "repeat");
  pattern.setTransform(new DOMMatrix().scale(0.5));
  return pattern;
}

const TRUTH_COLOUR = "#9be564", BOTH_COLOUR = "#ffffff";

function showsAgreement(number) {
  return comparing.open && comparing.agreement && (againstTruth() || number > 0);
}

function drawAgreement(context, number, transform) {
  const own = bloodOf(here(), models[number]) ?? { pixels: new Uint8Array(scan.shape[1] * scan.shape[2]), path: new Path2D() };
  const reference = againstTruth() ? truthHere() : bloodOf(here(), models[0]) ?? ABSENT;
  const { both, ownOnly, referenceOnly } = agreementOf(own, reference);
  const layers = [
    [both, "full", BOTH_COLOUR],
    [referenceOnly, "stripes", againstTruth() ? TRUTH_COLOUR : colours[0]],
    [ownOnly, "dots", colours[number % colours.length]],
  ];
  for (const [shape, kind, colour] of layers) {
    const path = new Path2D();
    path.addPath(shape, transform);
    context.fillStyle = texture(context, kind, colour);
    context.fill(path, "evenodd");
    context.strokeStyle = colour;
    context.lineWidth = 1;
    context.stroke(path);
  }
}

function drawTruth(context, transform) {
  if (!comparing.open || !comparing.outline || !truth) return;
  const path = new Path2D();
  path.addPath(truthHere().path, transform);
  context.setLineDash([5, 4]);
  context.lineWidth = 1.5;
  context.strokeStyle = TRUTH_COLOUR;
  context.stroke(path);
  context.setLineDash([]);
}

function showCompare() {
  one(".ich-compare").hidden = !comparing.open;
  one("[data-do=compare]").setAttribute("aria-expanded", String(comparing.open));
  if (!comparing.open) return;
  const press = (name, on) => one("[data-do=" + name + "]").setAttribute("aria-pressed", String(Boolean(on)));
  press("show_masks", !comparing.agreement);
  press("show_agreement", comparing.agreement);
  press("show_two", models.length === 2);
  press("show_every", models.length > 2);
  press("truth_outline", comparing.outline);
  const against = one(".ich-against");
  against.closest("label").hidden = !comparing.agreement;
  against.options[1].disabled = !truth;
  against.value = againstTruth() ? "truth" : "first";
  one("[data-do=truth_sample]").hidden = Boolean(truth) || !scan.sample;
  one("[data-do=truth_open]").hidden = Boolean(truth);
  for (const name of ["truth_outline", "truth_remove"]) one("[data-do=" + name + "]").hidden = !truth;
  showLegend();
  showScores();
  showAbsent();
}

function showLegend() {
  const list = one(".ich-legend");
  const first = titleOf(models[0]);
  const others = models.length === 2 ? titleOf(models[1]) : "the pane's own method";
  const items = !comparing.agreement ? [] : againstTruth()
    ? [["full", BOTH_COLOUR, "truth and method"], ["stripes", TRUTH_COLOUR, "only the truth: missed"], ["dots", colours[0], "only the method: too much"]]
    : [["full", BOTH_COLOUR, "both"], ["stripes", colours[0], "only " + first], ["dots", colours[1], "only " + others]];
  list.hidden = !items.length;
  list.replaceChildren(...items.map(([kind, colour, text]) => {
    const item = document.createElement("li");
    const swatch = document.createElement("canvas");
    swatch.width = 44;
    swatch.height = 28;
    swatch.setAttribute("aria-hidden", "true");
    const pen = swatch.getContext("2d");
    pen.scale(2, 2);
    pen.fillStyle = texture(pen, kind, colour);
    pen.fillRect(0, 0, 22, 14);
    const pattern = { full: "full", stripes: "striped", dots: "dotted" }[kind];
    item.append(swatch, pattern + ": " + text);
    return item;
  }));
}

const share = (value) => (value === null || value === undefined ? "–" : value.toFixed(3));
const signed = (value, digits) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(digits);

function volumeError({ difference_ml: ml, difference_percent: percent }) {
  return signed(ml, 2) + (percent === null ? "" : " (" + signed(percent, 0) + " %)");
}

function showScores() {
  const region = one(".ich-scores");
  region.dataset.stale = scored !== scoreKey();
  const note = one(".ich-scores-note");
  if (!scores) {
    region.replaceChildren();
    note.textContent = marked().length || truth ? "Scoring…" : "Draw a box: the methods are compared on the slices that have one.";
    return;
  }
  const withTruth = scores.scopes.some(({ rows }) => rows[0] && "dice" in rows[0]);
  const names = {
    slice: "This slice (" + (scores.slice + 1) + ")",
    marked: "Marked slices (" + scores.marked + ")",
    whole: "Whole scan (" + scan.shape[0] + " slices)",
  };
  const columns = [["mL", (row) => number(row.ml)], ["Dice with " + titleOf(scores.first), (row) => (row.model === scores.first ? "" : share(row.with_first))]];
  if (withTruth) {
    columns.push(
      ["Truth, mL", (row) => number(row.truth_ml)], ["Dice", (row) => share(row.dice)], ["Jaccard", (row) => share(row.jaccard)],
      ["Surface Dice, 2 mm", (row) => share(row.surface_dice)], ["Volume error, mL", volumeError],
    );
  }
  const table = document.createElement("table");
  const head = table.createTHead().insertRow();
  head.append(make("th", "Method", { scope: "col" }), ...columns.map(([title]) => make("th", title, { scope: "col" })));
  for (const { scope, rows } of scores.scopes) {
    const body = table.createTBody();
    body.insertRow().append(make("th", names[scope], { scope: "rowgroup", colSpan: columns.length + 1 }));
    for (const row of rows) {
      const line = body.insertRow();
      line.append(make("th", titleOf(row.model), { scope: "row" }), ...columns.map(([, cell]) => make("td", cell(row))));
    }
  }
  region.replaceChildren(table);
  note.textContent = withTruth
    ? "Dice, Jaccard, surface Dice and volume error are against the truth. The whole scan's truth includes slices without a box. " +
      "Surface Dice: boundaries in the plane of the slices, in three dimensions for the whole scan."
    : "Load a truth mask to score each method against it.";
}

function showAbsent() {
  const absent = choices.filter((choice) => choice.missing);
  one(".ich-absent").hidden = !absent.length;
  one(".ich-absent summary").textContent = absent.length === 1 ? "1 method is not on this machine" : absent.length + " methods are not on this machine";
  one(".ich-absent ul").replaceChildren(...absent.map((choice) => {
    const item = document.createElement("li");
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Fetch " + choice.title;
    button.disabled = !choice.fetch;
    button.addEventListener("click", () => ask({ op: "fetch", name: choice.name }));
    item.append(button, choice.missing + (choice.hindrance ? " " + choice.hindrance : ""));
    return item;
  }));
}

function takeChoices(list) {
  choices = list;
  askHub = false;
  for (const pane of panes) listChoices(pane);
}

function takeTruth(state) {
  truth = state && { masks: new Map(Object.entries(state.slices).map(([key, runs]) => [Number(key), new Mask(runs, scan.shape)])) };
  if (!truth) comparing.against = "first";
  live.textContent = truth ? "Truth mask loaded, with blood on " + truth.masks.size + " slices." : "Truth mask removed.";
}

function forgetComparison() {
  truth = scores = null;
  scored = "";
  comparing.against = "first";
}

Object.assign(DO, {
  compare: () => {
    if (!scan) return;
    comparing.open = !comparing.open;
    askHub = comparing.open && choices.some((choice) => choice.missing && !choice.hindrance);
    showAll();
    resize();
  },
  show_masks: () => { comparing.agreement = false; showAll(); },
  show_agreement: () => { comparing.agreement = true; showAll(); },
  show_two: () => chooseAll(models.slice(0, 2)),
  show_every: () => {
    const here = choices.filter((choice) => !choice.missing).map((choice) => choice.name);
    chooseAll([...new Set([...models, ...here])]);
  },
  truth_open: () => one(".ich-truth-file").click(),
  truth_sample: () => ask({ op: "truth", sample: true }),
  truth_remove: () => ask({ op: "truth", remove: true }),
  truth_outline: () => { comparing.outline = !comparing.outline; showAll(); },
});

function chooseAll(names) {
  if (names.length < 2 || String(names) === String(models)) return;
  models = names;
  ask({ op: "models", models, slice: k });
  showAll();
}

one(".ich-against").addEventListener("change", (event) => { comparing.against = event.target.value; showAll(); });
one(".ich-truth-file").addEventListener("change", (event) => {
  const files = [...event.target.files];
  event.target.value = "";
  if (files.length) upload(files, "truth");
});
