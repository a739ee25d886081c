// The series of DICOM files to choose from, each with its slices and, where it cannot be opened, the reason.

let choosing = null; // {series, op}: what there is, and the operation that opens one with its key; null while closed

function offerSeries(choice) {
  choosing = choice;
  const section = one(".ich-choose");
  section.hidden = !choice;
  one("[data-do=series]").setAttribute("aria-expanded", String(Boolean(choice)));
  const none = choice?.series.every(({ refusal }) => refusal) ?? false;
  section.dataset.none = none;
  one("h2", section).textContent = "Series of these files" + (none ? ": none of them can be opened" : "");
  one("ul", section).replaceChildren(...(choice?.series ?? []).map(seriesRow));
  resize();
}

function seriesRow({ key, number, label, slices: count, refusal }) {
  const row = make("li", "");
  const name = (number === null ? "" : number + ": ") + (label || "no description");
  const text = make("div", "");
  text.append(make("strong", name), make("span", plural(count, "slice")));
  if (refusal) text.append(make("p", refusal));
  row.append(text);
  row.dataset.refused = Boolean(refusal);
  if (refusal) return row;
  const open = make("button", "Open", { type: "button" });
  open.setAttribute("aria-label", "Open " + name);
  open.addEventListener("click", () => openSeries(key));
  row.prepend(open);
  return row;
}

function openSeries(key) {
  const op = { ...choosing.op, series: key };
  const go = () => { hush(); ask(op); };
  if (op.role === "followup") confirmLoss(roles.followup?.marked ?? 0, "the follow-up", go);
  else replaceScan(go);
}

function showOtherSeries() {
  // Of the scan that is open.
  const button = one("[data-do=series]");
  button.hidden = !scan.series.length;
  button.textContent = "Other series (" + scan.series.length + ")";
  if (choosing) offerSeries(null);
}

DO.series = () => offerSeries(choosing ? null : { series: scan.series, op: { op: "reopen", role } });
DO.series_close = () => offerSeries(null);
