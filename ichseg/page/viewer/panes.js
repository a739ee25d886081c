// The panes, each made from the one template: a method, its numbers, and the slice.

import { all, inkOf, one, panes, press, recall, remember, root } from "./dom.js";
import { resize } from "./draw.js";
import { find, join, showAll } from "./hub.js";
import { isAway } from "./line.js";
import { capital, number, plural } from "./numbers.js";
import { listen } from "./pointer.js";
import { ask, queue } from "./server.js";
import { boxesHere, colourOf, here, marked, ROLE_TITLES, shown, standing, state } from "./state.js";

const SINGLE = "ich-single";
const SLOW_MS = 400; // a pane says what it is doing only when that takes longer than a glance
/** @type {any} */
let slowTimer = 0;

function setPanes(count) {
  if (panes.length === count) return;
  while (panes.length > count) panes.pop().node.remove();
  while (panes.length < count) panes.push(makePane(panes.length));
  one(".ich-panes").dataset.many = count > 2;
  resize();
}

function makePane(index) {
  const node = one(".ich-pane-template").content.firstElementChild.cloneNode(true);
  const pane = {
    node,
    canvas: one("canvas", node),
    chooser: one("select", node),
    sliceMl: one(".ich-slice-ml", node),
    totalMl: one(".ich-total-ml", node),
    corner: Object.fromEntries(all(".ich-corner", node).map((span) => [span.dataset.corner, span])),
  };
  node.dataset.pane = index;
  const [place, what] = [["left pane", "the chosen model"], ["right pane", "the baseline"]][index] ?? ["pane " + (index + 1), "another method"];
  node.setAttribute("aria-label", capital(place) + ": " + what);
  one("h3", node).textContent = capital(place) + ": " + what;
  pane.chooser.setAttribute("aria-label", "Method of the " + place);
  pane.canvas.tabIndex = index ? -1 : 0;
  listChoices(pane);
  pane.chooser.addEventListener("change", () => choose(index, pane.chooser.value));
  listen(pane, index);
  one(".ich-start").before(node);
  return pane;
}

function listChoices({ chooser }) {
  chooser.replaceChildren();
  for (const choice of state.choices) {
    const option = new Option(choice.title, choice.name);
    option.disabled = Boolean(choice.missing);
    option.title = choice.missing || choice.summary;
    chooser.add(option);
  }
}

/** Have the left pane alone, or all; remembered until the browser's tab is closed. */
export function showSingle(on) {
  shown.single = on;
  remember(SINGLE, on);
  showAll();
  resize();
}

function choose(index, name) {
  const models = state.models.slice();
  models[index] = name;
  setModels(models);
}

/** Have the panes show other methods, from left to right. */
export function setModels(models) {
  state.models = models;
  ask({ op: "models", models, slice: state.k });
  showAll();
}

function showPanes() {
  const { scan, k, models, totals, runs, roles, role } = state;
  const depth = scan.shape[0];
  setPanes(models.length);
  press("single", shown.single);
  one(".ich-panes").dataset.single = shown.single;
  root.style.setProperty("--ich-first-ink", inkOf(colourOf(models[0])));
  const label = "Slice " + (k + 1) + " of " + depth + ", " + plural(boxesHere().length, "box") + ". Arrow keys change the slice, B places a box, question mark for help.";
  panes.forEach((pane, index) => {
    const model = models[index];
    pane.node.style.setProperty("--ich-own", colourOf(model));
    pane.node.hidden = shown.single && index > 0;
    pane.sliceMl.textContent = number(here().ml[model]);
    pane.totalMl.textContent = marked().length ? number(totals[model]) : "–";
    pane.chooser.value = model;
    pane.chooser.title = runs[model] ? "Runs on " + runs[model] : "";
    pane.chooser.disabled = Boolean(state.lost);
    pane.corner.slice.textContent = k + 1 + " / " + depth + (roles.followup ? "   " + ROLE_TITLES[role] : "");
    pane.canvas.setAttribute("aria-label", label);
  });
  showWindow();
}

function showWindow() {
  for (const { corner } of panes) corner.window.textContent = "W " + shown.width + "  L " + shown.level;
}

function showState() {
  const asked = (...kinds) => queue.ops.some((op) => kinds.includes(op.op) && op.slice === state.k);
  const hint = find("hint");
  panes.forEach((pane, index) => {
    const model = state.models[index];
    const waiting = asked("boxes", "correct") || (asked("complete") && !here().masks[model]);
    const wrong = state.trouble[model];
    const closer = !waiting && here().rough?.includes(model);
    pane.node.dataset.waiting = waiting;
    pane.corner.state.textContent = wrong || hint || standing.text || (closer ? "Refining…" : "");
    pane.corner.state.dataset.wrong = Boolean(wrong);
  });
  clearTimeout(slowTimer);
  slowTimer = setTimeout(sayWaiting, SLOW_MS);
}

function sayWaiting() {
  for (const { node, corner } of panes) {
    if (node.dataset.waiting === "true") corner.state.textContent ||= isAway() ? "Waiting for the server…" : "Segmenting…";
  }
}

const toggleSingle = () => showSingle(!shown.single);

join({
  slow: ["models"],
  actions: { single: toggleSingle },
  keys: { p: toggleSingle },
  start() {
    shown.single = recall(SINGLE);
    setPanes(2);
  },
  show: showPanes,
  showState,
  slice: showPanes,
  windowed: showWindow,
  choices: () => panes.forEach(listChoices),
});
