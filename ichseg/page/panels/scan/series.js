// The series of DICOM files to choose from, each with its slices and, where it cannot be opened, the reason.

import { button, expand, make, one } from "../../viewer/dom.js";
import { resize } from "../../viewer/draw.js";
import { hush } from "../../viewer/messages.js";
import { plural } from "../../viewer/numbers.js";
import { ask } from "../../viewer/server.js";
import { state } from "../../viewer/state.js";
import { confirmLoss, replaceScan } from "../../viewer/upload.js";

/** @type {{ series: any[], op: any } | null} what there is, and the operation that opens one with its key; null while closed */
let choosing = null;

export const closeSeries = () => offerSeries(null);

/** Show a list of series to choose from; null puts it away. */
export function offerSeries(choice) {
  choosing = choice;
  const section = one(".ich-choose");
  section.hidden = !choice;
  expand("series", choice);
  const none = choice?.series.every(({ refusal }) => refusal) ?? false;
  section.dataset.none = none;
  one("h2", section).textContent = "Series of these files" + (none ? ": none of them can be opened" : "");
  one("ul", section).replaceChildren(...(choice?.series ?? []).map(seriesRow));
  resize();
}

function seriesRow({ key, number, label, slices, refusal, op = {} }) {
  const row = make("li", "");
  const name = (number === null ? "" : number + ": ") + (label || "no description");
  const text = make("div", "");
  text.append(make("strong", name), make("span", plural(slices, "slice")));
  if (refusal) text.append(make("p", refusal));
  row.append(text);
  row.dataset.refused = Boolean(refusal);
  if (refusal) return row;
  const open = make("button", "Open", { type: "button" });
  open.setAttribute("aria-label", "Open " + name);
  open.addEventListener("click", () => openSeries({ ...op, series: key }));
  row.prepend(open);
  return row;
}

function openSeries(series) {
  const op = { ...choosing.op, ...series };
  const go = () => { hush(); ask(op); };
  if (op.role === "followup") confirmLoss(state.roles.followup?.marked ?? 0, "the follow-up", go);
  else replaceScan(go);
}

/** Show the other series of the scan that is open, or put their list away. */
export function toggleSeries() {
  offerSeries(choosing ? null : { series: state.scan.series, op: { op: "reopen", role: state.role } });
}

/** Say how many other series there are of the files of the scan that is open. */
export function showOtherSeries() {
  const { series } = state.scan;
  const other = button("series");
  other.hidden = !series.length;
  other.textContent = "Other series (" + series.length + ")";
  if (choosing) closeSeries();
}
