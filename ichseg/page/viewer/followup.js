// A second scan of the same person beside the first, the growth between them, and the bedside scores.

const OTHER = { baseline: "followup", followup: "baseline" };
const ROLE_TITLES = { baseline: "Baseline", followup: "Follow-up" };
const comparingScans = { open: false };
let role = "baseline"; // which of the two scans is on screen
let roles = {}; // role -> {case, marked}
let growth = null; // as Python sends it
let grownFrom = ""; // what it is of
const voxelsOf = new Map(); // a scan's token -> its voxels: changing scans does not fetch them again
const places = new Map(); // a scan's token -> the slice that was on screen

function growthKey() {
  return JSON.stringify([roles, lesions, totals, lastAsked]);
}
const growthWanted = () => comparingScans.open && scan && grownFrom !== growthKey();

function takeRoles(reply) {
  if (!reply.roles) return;
  role = reply.role;
  roles = reply.roles;
  const tokens = Object.values(roles).map((one) => one.case);
  for (const token of voxelsOf.keys()) if (!tokens.includes(token)) voxelsOf.delete(token);
}

function takeGrowth(record) {
  if (!record) return;
  growth = record;
  grownFrom = growthKey();
}

function showRoles() {
  const two = Boolean(roles.followup);
  root.dataset.role = role;
  one(".ich-roles").hidden = !two;
  for (const button of all("[data-role]")) button.setAttribute("aria-pressed", String(button.dataset.role === role));
}

function showFollowup() {
  one(".ich-followup").hidden = !comparingScans.open;
  one("[data-do=followup]").setAttribute("aria-expanded", String(comparingScans.open));
  if (!comparingScans.open) return;
  const two = Boolean(roles.followup);
  one("[data-do=followup_open]").hidden = two;
  one("[data-do=followup_sample]").hidden = two || !scan.sample;
  one("[data-do=followup_close]").hidden = !two;
  one(".ich-hours").closest("label").hidden = !two;
  one(".ich-thresholds").hidden = !two;
  one(".ich-followup-state").textContent = two
    ? (growth?.notes ?? []).join(" ")
    : "Open the second scan of the same person, mark the hematoma on it as on the first, and read the growth.";
  showGrowth();
  showBedside();
}

function showGrowth() {
  const region = one(".ich-growth");
  const found = growth?.growth;
  region.dataset.stale = grownFrom !== growthKey();
  if (!found) return region.replaceChildren();
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
  const table = make("table", "");
  table.createTHead().insertRow().append(...["Expansion", "", "Rule", "Here", "Source"].map((text) => make("th", text, { scope: "col" })));
  const body = table.createTBody();
  for (const { name, expansion, rule, because, source } of found.verdicts) {
    const row = body.insertRow();
    const answer = expansion === null ? "cannot be told" : expansion ? "yes" : "no";
    row.append(make("th", name[0].toUpperCase() + name.slice(1), { scope: "row" }), make("td", answer, { className: "ich-answer" }), ...[rule, because, source].map((text) => make("td", text.replaceAll(">=", "≥"))));
    row.dataset.answer = answer;
  }
  const doubtful = Object.entries(roles).flatMap(([name, { warnings }]) => warnings.map((text) => ROLE_TITLES[name] + ": " + text));
  region.dataset.doubtful = doubtful.length > 0;
  region.replaceChildren(headline, doubts(doubtful), ...lines.map((text) => make("p", text)), table);
}

function showBedside() {
  const list = one(".ich-bedside-scores");
  list.replaceChildren(...(growth?.scores ?? []).map(({ name, items, total, least, most, missing, meaning, source }) => {
    const item = make("li", "");
    const sum = total === null ? least + " to " + most : String(total);
    item.append(make("strong", name + " " + sum), make("span", total === null ? " Missing: " + missing.join(", ") + "." : " " + (meaning ?? "") + (meaning ? "." : "")));
    const points = items.filter((one) => one.points !== null).map((one) => one.name + " " + one.points).join("; ");
    item.append(make("small", (points ? points + ". " : "") + source + "."));
    return item;
  }));
  for (const field of all("[data-finding]")) {
    const known = growth?.findings?.[field.dataset.finding];
    const label = field.closest("label");
    label.title = known === undefined ? "" : "From what is marked on the baseline";
    if (field.tagName === "INPUT") field.placeholder = typeof known === "number" ? known.toFixed(1) : "";
    else field.options[0].textContent = known === undefined ? "not known" : known ? "marked" : "not marked";
  }
}

let lastAsked = "";
function sayAsked() {
  // What a person says beside the marks; an empty field is not known.
  const read = (field) => (field.value === "" ? null : field.tagName === "SELECT" ? field.value === "yes" : Number(field.value));
  const collect = (name) => Object.fromEntries(all("[data-" + name + "]").map((field) => [field.dataset[name], field.type === "checkbox" ? !field.checked : read(field)]));
  const said = { hours: read(one(".ich-hours")), thresholds: collect("threshold"), findings: collect("finding") };
  lastAsked = JSON.stringify(said);
  ask({ op: "asked", ...said });
}
for (const field of all(".ich-followup input:not([type=file]), .ich-followup select")) field.addEventListener("change", sayAsked);

function changeScan(target) {
  if (target === role || !roles[target]) return;
  places.set(scan.token, k);
  keepMarks();
  busy({ text: "Changing scans" });
  ask({ op: "switch", role: target, have: voxelsOf.has(roles[target].case) });
}

Object.assign(DO, {
  followup: () => {
    if (!scan) return;
    comparingScans.open = !comparingScans.open;
    showAll();
    resize();
  },
  followup_open: () => one(".ich-followup-file").click(),
  followup_sample: () => { places.set(scan.token, k); busy({ text: "Opening the sample's follow-up" }); ask({ op: "sample", role: "followup" }); },
  followup_close: () => confirmLoss(roles.followup.marked, "the follow-up", () => ask({ op: "switch", close: true, have: role === "followup" && voxelsOf.has(roles.baseline.case) })),
  other_scan: () => changeScan(OTHER[role]),
});

for (const button of all("[data-role]")) button.addEventListener("click", () => changeScan(button.dataset.role));
one(".ich-followup-file").addEventListener("change", (event) => {
  const files = [...event.target.files];
  event.target.value = "";
  if (!files.length) return;
  places.set(scan.token, k);
  upload(files, "open", { role: "followup" });
});
