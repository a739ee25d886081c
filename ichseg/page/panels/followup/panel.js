// A second scan of the same person beside the first, the growth between them, and the bedside scores.

import { all, button, doubts, enable, expand, make, one, onFiles, root } from "../../viewer/dom.js";
import { resize } from "../../viewer/draw.js";
import { showAll } from "../../viewer/hub.js";
import { keepMarks } from "../../viewer/kept.js";
import { busy } from "../../viewer/messages.js";
import { goTo } from "../../viewer/navigate.js";
import { capital, number, signed } from "../../viewer/numbers.js";
import { ask } from "../../viewer/server.js";
import { OTHER, ROLE_TITLES, state } from "../../viewer/state.js";
import { confirmLoss, upload } from "../../viewer/upload.js";
import { keepPlace, voxelsOf } from "../../viewer/volume.js";
import * as beside from "./beside.js";
import * as range from "./range.js";

const following = {
  open: false,
  /** @type {any} as Python sends it */
  growth: null,
  /** what the growth is of */
  grownFrom: "",
  /** what a person said beside the marks, at last */
  asked: "",
  /** whether lesions are to be carried over once the follow-up is on screen */
  carries: false,
  /** whether the next answer is to that */
  carried: false,
};

function growthKey() {
  return JSON.stringify([state.roles, state.lesions, state.totals, following.asked]);
}

/** What the range is of, which the registration decides, too; empty where there is no growth, or an old one. */
function rangeKey() {
  const there = following.growth?.growth && following.grownFrom === growthKey();
  return there ? following.grownFrom + beside.sentence() : "";
}

function rangeWanted() {
  const key = rangeKey();
  return Boolean(following.open && state.scan && key && range.isWanted(key));
}

function takeGrowth({ growth }) {
  if (growth) Object.assign(following, { growth, grownFrom: growthKey() });
}

function takeAside(reply, now) {
  takeGrowth(reply);
  if (now) range.take(reply, rangeKey());
}

function show() {
  const { roles, role, scan } = state;
  const two = Boolean(roles.followup);
  root.dataset.role = role;
  one(".ich-roles").hidden = !two;
  for (const choice of all("[data-role]")) choice.setAttribute("aria-pressed", String(choice.dataset.role === role));
  one(".ich-followup").hidden = !following.open;
  enable("followup", !state.lost);
  expand("followup", following.open);
  beside.show();
  if (!following.open) return;
  range.show(rangeKey());
  button("followup_open").hidden = two;
  button("followup_sample").hidden = two || !scan.sample;
  button("followup_close").hidden = !two;
  one(".ich-hours").closest("label").hidden = !two;
  one(".ich-thresholds").hidden = !two;
  one(".ich-followup-state").textContent = two
    ? (following.growth?.notes ?? []).join(" ")
    : "Open the second scan of the same person, mark the hematoma on it as on the first, and read the growth.";
  one(".ich-hours").placeholder = following.growth?.growth?.hours?.toFixed(1) ?? "";
  showGrowth();
  showBedside();
}

function showGrowth() {
  const region = one(".ich-growth");
  const found = following.growth?.growth;
  region.dataset.stale = following.grownFrom !== growthKey();
  if (!found) {
    region.replaceChildren();
    return;
  }
  const percent = found.growth_percent === null ? "" : " (" + signed(found.growth_percent, 0) + " %)";
  const headline = make("p", "", { className: "ich-growth-headline" });
  headline.append(
    make("strong", signed(found.growth_ml, 1) + " mL" + percent, { className: "ich-ml" }),
    make("span", number(found.baseline_ml) + " to " + number(found.followup_ml) + " mL of " + found.counted),
  );
  const lines = [
    found.growth_ml_per_hour === null ? null : signed(found.growth_ml_per_hour, 2) + " mL an hour.",
    found.ivh_growth_ml === null ? null : signed(found.ivh_growth_ml, 1) + " mL intraventricular.",
    found.error_sentence,
  ].filter(Boolean);
  const doubtful = Object.entries(state.roles).flatMap(([name, { warnings }]) => warnings.map((text) => ROLE_TITLES[name] + ": " + text));
  region.dataset.doubtful = doubtful.length > 0;
  const parts = found.lesions.length > 1 ? [partTable(found.lesions)] : [];
  region.replaceChildren(headline, doubts(doubtful), ...lines.map((text) => make("p", text)), ...parts, verdictTable(found.verdicts));
}

function partTable(lesions) {
  const table = make("table", "");
  table.createTHead().insertRow().append(...["Lesion", "Type", "Before, mL", "Now, mL", "Growth, mL", "%"].map((text) => make("th", text, { scope: "col" })));
  const body = table.createTBody();
  for (const { name, type, baseline_ml, followup_ml, growth_ml, growth_percent, is_new } of lesions) {
    const percent = is_new ? "new" : growth_percent === null ? "–" : signed(growth_percent, 0);
    const cells = [type, number(baseline_ml), number(followup_ml), signed(growth_ml, 1), percent];
    body.insertRow().append(make("th", name, { scope: "row" }), ...cells.map((text) => make("td", text)));
  }
  return table;
}

function verdictTable(verdicts) {
  const table = make("table", "");
  table.createTHead().insertRow().append(...["Expansion", "", "Rule", "Here", "Source"].map((text) => make("th", text, { scope: "col" })));
  const body = table.createTBody();
  for (const { name, expansion, rule, because, source } of verdicts) {
    const row = body.insertRow();
    const answer = expansion === null ? "cannot be told" : expansion ? "yes" : "no";
    const texts = [rule, because, source].map((text) => make("td", text.replaceAll(">=", "≥")));
    row.append(make("th", capital(name), { scope: "row" }), make("td", answer, { className: "ich-answer" }), ...texts);
    row.dataset.answer = answer;
  }
  return table;
}

function showBedside() {
  const { growth } = following;
  one(".ich-bedside-scores").replaceChildren(...(growth?.scores ?? []).map(scoreItem));
  for (const field of all("[data-finding]")) {
    const known = growth?.findings?.[field.dataset.finding];
    field.closest("label").title = known === undefined ? "" : "From what is marked on the baseline";
    if (field.tagName === "INPUT") field.placeholder = typeof known === "number" ? known.toFixed(1) : "";
    else field.options[0].textContent = known === undefined ? "not known" : known ? "marked" : "not marked";
  }
}

function scoreItem({ name, items, total, least, most, missing, meaning, source }) {
  const item = make("li", "");
  const sum = total === null ? least + " to " + most : String(total);
  const means = meaning ? " " + meaning + "." : " ";
  const points = items.filter((part) => part.points !== null).map((part) => part.name + " " + part.points).join("; ");
  item.append(
    make("strong", name + " " + sum),
    make("span", total === null ? " Missing: " + missing.join(", ") + "." : means),
    make("small", (points ? points + ". " : "") + source + "."),
  );
  return item;
}

function toggleRange() {
  range.toggle(rangeKey());
  showAll();
}

function sayAsked() {
  // What a person says beside the marks; an empty field is not known.
  const read = (field) => (field.value === "" ? null : field.tagName === "SELECT" ? field.value === "yes" : Number(field.value));
  const collect = (name) => Object.fromEntries(all("[data-" + name + "]").map((field) => [field.dataset[name], field.type === "checkbox" ? !field.checked : read(field)]));
  const said = { hours: read(one(".ich-hours")), thresholds: collect("threshold"), findings: collect("finding") };
  following.asked = JSON.stringify(said);
  ask({ op: "asked", ...said });
}

function changeScan(target) {
  const { role, roles } = state;
  if (target === role || !roles[target]) return;
  keepPlace();
  keepMarks();
  busy({ text: "Changing scans" });
  ask({ op: "switch", role: target, have: voxelsOf.has(roles[target].case) });
}

function toggle() {
  if (!state.scan) return;
  following.open = !following.open;
  showAll();
  resize();
}

function openSample() {
  keepPlace();
  busy({ text: "Opening the sample's follow-up" });
  ask({ op: "sample", role: "followup" });
}

function close() {
  const { roles, role } = state;
  const back = { op: "switch", close: true, have: role === "followup" && voxelsOf.has(roles.baseline.case) };
  confirmLoss(roles.followup.marked, "the follow-up", () => ask(back));
}

function carry() {
  if (state.role === "followup") {
    following.carried = true;
    busy({ text: "Registering the two scans" });
    ask({ op: "carry" });
    return;
  }
  following.carries = true;
  changeScan("followup");
}

function take(reply) {
  takeGrowth(reply);
  beside.take(reply);
  if (reply.scan || !following.carried) return;
  following.carried = false;
  if (reply.error || reply.cancelled) return;
  const ml = ([, marks]) => Object.values(marks.ml)[0] ?? 0;
  const [largest] = Object.entries(reply.slices ?? {}).sort((a, b) => ml(b) - ml(a));
  if (largest) goTo(Number(largest[0]));
  beside.turnOn();
}

function opened() {
  beside.opened();
  if (!following.carries) return;
  following.carries = false;
  carry();
}

const otherScan = () => changeScan(OTHER[state.role]);

/** @type {import("../../viewer/hub.js").Part} */
export const panel = {
  actions: {
    followup: toggle,
    followup_open: () => one(".ich-followup-file").click(),
    followup_sample: openSample,
    followup_close: close,
    carry,
    beside: beside.toggle,
    beside_linked: beside.toggleLinked,
    beside_map: beside.toggleMap,
    growth_range: toggleRange,
  },
  keys: { g: toggle, x: otherScan, v: beside.toggle, u: beside.toggleLinked },
  slow: ["switch", "link", "carry"],
  ...beside.hooks,
  start() {
    for (const field of all(".ich-followup input:not([type=file]), .ich-followup select")) field.addEventListener("change", sayAsked);
    for (const choice of all("[data-role]")) choice.addEventListener("click", () => changeScan(choice.dataset.role));
    onFiles(".ich-followup-file", (files) => {
      keepPlace();
      upload(files, { op: "open", role: "followup" });
    });
  },
  context: () => ({ followup: following.open }), // whether the growth is wanted with the answer
  wants: () => Boolean(following.open && state.scan && following.grownFrom !== growthKey()) || rangeWanted(),
  request: () => ({ growth_range: rangeWanted() }),
  opened,
  take,
  takeAside,
  show,
};
