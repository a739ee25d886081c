// Two small plots of the measures: area by slice, and the histogram of HU. Drawn as SVG, with a sentence each for who hears them.

import { all, one } from "../../viewer/dom.js";
import { mm } from "../../viewer/numbers.js";
import { goTo } from "../../viewer/navigate.js";
import { state } from "../../viewer/state.js";
import { abcOf } from "./abc.js";
import { measuring } from "./measuring.js";

const SVG = "http://www.w3.org/2000/svg";
const PLOT = { left: 34, right: 6, top: 8, high: 92, below: 18 };

function svg(tag, attributes = {}, text = "") {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.textContent = text;
  return node;
}

/** The least of 1, 1.5, 2, 3, 4, 6, 8, 10, 15, ... that is not below a value. */
export function niceTop(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return power * [1, 1.5, 2, 3, 4, 6, 8, 10].find((step) => step * power >= value - 1e-9);
}

function barPlot(width, { series, names, under = [], every, unit }) {
  // Bars of stacked parts, one for each of `names`; `under` stands below them in a second line.
  const { left, right, top, high, below } = PLOT;
  const count = names.length, step = (width - left - right) / count;
  const tall = top + high + below + (under.length ? 13 : 0);
  const plot = svg("svg", { viewBox: "0 0 " + width + " " + tall, width, height: tall, role: "img" });
  const sums = names.map((_, at) => series.reduce((sum, { values }) => sum + values[at], 0));
  const most = niceTop(Math.max(...sums, 1e-9));
  for (const part of [0, 0.5, 1]) {
    const y = top + high * (1 - part);
    plot.append(svg("line", { x1: left, x2: width - right, y1: y, y2: y, class: "ich-rule" }));
    plot.append(svg("text", { x: left - 5, y: y + 3.5, "text-anchor": "end" }, Number((most * part).toPrecision(3)) + (part === 1 ? unit : "")));
  }
  names.forEach((name, at) => {
    const x = left + at * step;
    let y = top + high;
    const bar = svg("g", { class: "ich-bar", "data-at": at });
    bar.append(svg("title", {}, name.title));
    bar.append(svg("rect", { x, y: top, width: step, height: high, class: "ich-reach" }));
    for (const { colour, values } of series) {
      const part = (values[at] / most) * high;
      if (!part) continue;
      y -= part;
      bar.append(svg("rect", { x: x + 0.1 * step, y, width: Math.max(1, 0.8 * step), height: part, fill: colour }));
    }
    plot.append(bar);
    if (at % every === 0) plot.append(svg("text", { x: x + step / 2, y: top + high + 13, "text-anchor": "middle" }, name.text));
    if (under[at]) plot.append(svg("text", { x: x + step / 2, y: top + high + 27, "text-anchor": "middle", class: "ich-under" }, under[at]));
  });
  return plot;
}

export function showPlots() {
  const { record } = measuring;
  if (!measuring.open || !record) return;
  showAreas(record);
  showHistogram(record);
}

function showAreas({ lesions }) {
  const figure = one(".ich-areas");
  const areas = lesions.map((lesion) => new Map(lesion.slices.map((row) => [row.slice_index, row.area_mm2 / 100])));
  const there = areas.flatMap((bySlice) => [...bySlice.keys()]);
  figure.hidden = !there.length;
  if (!there.length) return;
  const first = Math.max(0, Math.min(...there) - 1), last = Math.min(state.scan.shape[0] - 1, Math.max(...there) + 1);
  const range = Array.from({ length: last - first + 1 }, (_, at) => first + at);
  const sum = (slice) => areas.reduce((total, bySlice) => total + (bySlice.get(slice) ?? 0), 0);
  const weights = new Map(lesions.length === 1 ? (abcOf(lesions[0])?.slices ?? []).map((row) => [row.slice_index, row.weight]) : []);
  const width = Math.max(220, figure.clientWidth), room = (width - PLOT.left) / range.length;
  const plot = barPlot(width, {
    series: lesions.map((lesion, at) => ({ colour: lesion.colour, values: range.map((slice) => areas[at].get(slice) ?? 0) })),
    names: range.map((slice) => ({ text: slice + 1, title: "Slice " + (slice + 1) + ": " + sum(slice).toFixed(1) + " cm²" })),
    under: range.map((slice) => ({ 1: "1", 0.5: "½", 0: "0" })[weights.get(slice)] ?? ""),
    every: Math.max(1, Math.ceil(22 / room)),
    unit: "",
  });
  plot.setAttribute("aria-label", "Area by slice: " + range.filter((slice) => sum(slice)).map((slice) => "slice " + (slice + 1) + " " + sum(slice).toFixed(1) + " cm²").join(", ") + ".");
  for (const bar of all(".ich-bar", plot)) bar.dataset.slice = first + Number(bar.dataset.at);
  one("figcaption", figure).textContent = "Area by slice, cm²" + (weights.size ? "; below, what a slice counts in C" : "");
  one("svg", figure)?.remove();
  figure.append(plot);
  markSlice();
}

/** Mark the slice on screen among the areas. */
export function markSlice() {
  for (const bar of all(".ich-areas .ich-bar")) bar.dataset.here = Number(bar.dataset.slice) === state.k;
}

function showHistogram({ lesions, total }) {
  const figure = one(".ich-histogram");
  const blood = lesions.filter((lesion) => lesion.is_blood && lesion.voxels);
  figure.hidden = !blood.length;
  if (!blood.length) return;
  const edges = blood[0].histogram.edges_hu;
  const share = (lesion, at) => (100 * lesion.histogram.voxels[at]) / total.voxels;
  const bins = edges.slice(0, -1);
  const sum = (at) => blood.reduce((percent, lesion) => percent + share(lesion, at), 0);
  const plot = barPlot(Math.max(220, figure.clientWidth), {
    series: blood.map((lesion) => ({ colour: lesion.colour, values: bins.map((_, at) => share(lesion, at)) })),
    names: bins.map((hu, at) => ({ text: hu, title: hu + " to " + edges[at + 1] + " HU: " + sum(at).toFixed(1) + " % of the voxels" })),
    every: 4,
    unit: " %",
  });
  const outside = blood.reduce((voxels, { histogram }) => voxels + histogram.below + histogram.above, 0);
  plot.setAttribute("aria-label", "Hounsfield units of the blood: half of the voxels from " + mm(total.hu.lower_quartile, 0) + " to " + mm(total.hu.upper_quartile, 0) + ", median " + mm(total.hu.median, 0) + ", from " + mm(total.hu.minimum, 0) + " to " + mm(total.hu.maximum, 0) + ".");
  one("figcaption", figure).textContent = "HU of the blood, per cent of its voxels" + (outside ? "; " + outside + " beyond" : "");
  one("svg", figure)?.remove();
  figure.append(plot);
}

export function listenToPlots() {
  one(".ich-areas").addEventListener("click", (event) => {
    const bar = event.target.closest(".ich-bar");
    if (bar) goTo(Number(bar.dataset.slice));
  });
  new ResizeObserver(showPlots).observe(one(".ich-measure-plots"));
}
