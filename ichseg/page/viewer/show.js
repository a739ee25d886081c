// What stands beside the picture: numbers, buttons, states, messages.

const number = (ml) => (Number.isFinite(ml) ? ml.toFixed(ml < 10 ? 2 : 1) : "–");

// A slice as people count it, and as the command line takes it.
const sliceName = (at) => "slice " + (at + 1) + ", --slice " + at;

function showAll() {
  if (scan) {
    showSlice();
    showTools();
    showCompare();
    showLesions();
    showCorrect();
    showStops();
    showMeasure();
    showRoles();
    showFollowup();
    drawStrip();
  }
  showState();
  draw();
  rest();
}

function showSlice() {
  const depth = scan.shape[0];
  slider.value = k + 1;
  slider.setAttribute("aria-valuetext", "slice " + (k + 1) + " of " + depth);
  root.dataset.slice = k;
  one(".ich-count").textContent = k + 1 + " / " + depth;
  one(".ich-count").title = sliceName(k);
  markSlice();
  setPanes(models.length);
  const boxes = boxesHere().length;
  panes.forEach((pane, index) => {
    pane.sliceMl.textContent = number(here().ml[models[index]]);
    pane.totalMl.textContent = marked().length ? number(totals[models[index]]) : "–";
    pane.chooser.value = models[index];
    pane.chooser.title = runs[models[index]] ? "Runs on " + runs[models[index]] : "";
    pane.corner.slice.textContent = k + 1 + " / " + depth + (roles.followup ? "   " + ROLE_TITLES[role] : "");
    pane.corner.window.textContent = "W " + shown.width + "  L " + shown.level;
    pane.canvas.setAttribute(
      "aria-label",
      "Slice " + (k + 1) + " of " + depth + ", " + boxes + (boxes === 1 ? " box" : " boxes") +
        ". Arrow keys change the slice, B places a box, question mark for help.",
    );
  });
}

function showTools() {
  const set = (name, enabled) => { one("[data-do=" + name + "]").disabled = !enabled; };
  set("undo", history.undo);
  set("redo", history.redo);
  set("delete", selected >= 0);
  set("clear_slice", isMarked(here()));
  set("propagate", [...slices.values()].some(({ boxes }) => boxes[lesion]?.length) && !lesionHere()?.locked);
  set("clear", marked().length > 0);
  set("edge", !lost);
  for (const button of all("[data-save]")) button.disabled = button.dataset.save !== "picture" && !marked().length;
  showMore();
  // Boxes are kept here while the scan is lost; the rest is the server's work.
  for (const name of ["lesions", "correct", "compare", "measure", "followup"]) set(name, !lost);
  for (const pane of panes) pane.chooser.disabled = Boolean(lost);
  if (lost) {
    for (const name of ["propagate", "more"]) set(name, false);
    for (const button of all("[data-save]")) button.disabled = button.dataset.save !== "record" || !marked().length;
  }
  const press = (name, on) => one("[data-do=" + name + "]").setAttribute("aria-pressed", String(on));
  press("mask", shown.masks);
  press("edge", edge);
  press("fill", shown.fill);
  press("outline", !shown.fill);
  one(".ich-opacity").hidden = !shown.fill;
  one(".ich-width").value = shown.width;
  one(".ich-level").value = shown.level;
  for (const button of all(".ich-presets button")) {
    const { width, level } = button.dataset;
    button.setAttribute("aria-pressed", String(Number(width) === shown.width && Number(level) === shown.level));
  }
  one(".ich-zoom").textContent = Math.round(view.zoom * 100) + "%";
}

let slowTimer = 0;
function showState() {
  // A pane says what it is doing only when that takes longer than a glance.
  const asked = (...kinds) => ops.some((op) => kinds.includes(op.op) && op.slice === k);
  panes.forEach((pane, index) => {
    const waiting = asked("boxes", "correct") || (asked("complete") && !here().masks[models[index]]);
    const wrong = trouble[models[index]];
    const closer = !waiting && here().rough?.includes(models[index]);
    pane.node.dataset.waiting = waiting;
    pane.corner.state.textContent = wrong || (draft?.keys ? "Arrows move, Shift+arrows resize, Enter sets, Esc cancels" : tip ? "Arrows move, Enter marks, Esc ends" : closer ? "Looking closer…" : "");
    pane.corner.state.dataset.wrong = Boolean(wrong);
  });
  clearTimeout(slowTimer);
  slowTimer = setTimeout(() => {
    for (const pane of panes) if (pane.node.dataset.waiting === "true") pane.corner.state.textContent ||= root.dataset.server === "away" ? "Waiting for the server…" : "Segmenting…";
  }, 400);
}

function showHU() {
  const [, rows, columns] = scan.shape;
  panes.forEach((pane, index) => {
    const inside = pointer && pointer.pane === index && pointer.x >= 0 && pointer.y >= 0 && pointer.x < columns && pointer.y < rows;
    const x = Math.floor(pointer?.x), y = Math.floor(pointer?.y);
    pane.corner.hu.textContent = inside ? scan.hu[(k * rows + y) * columns + x] + " HU  (" + x + ", " + y + ")" : "";
  });
}

function announceVolumes() {
  live.textContent =
    "Slice " + (k + 1) + ": " +
    panes.map((pane, index) => titleOf(models[index]) + " " + number(here().ml[models[index]]) + " mL here, " + number(totals[models[index]]) + " in total").join("; ") + ".";
}

const titleOf = (name) => choices.find((choice) => choice.name === name)?.title ?? name;

function busy(progress) {
  const overlay = one(".ich-busy");
  overlay.hidden = !progress;
  one("[data-do=cancel]").hidden = !progress?.cancel;
  if (!progress) return;
  const bar = one("progress", overlay);
  one("p", overlay).textContent = progress.text;
  if (progress.part === null || progress.part === undefined) bar.removeAttribute("value");
  else bar.value = progress.part;
}

const cancellable = () => !one(".ich-busy").hidden && !one("[data-do=cancel]").hidden;

function showStops() {
  // How far a lesion was followed, and why no further.
  const stops = (lesionHere()?.stops ?? []).filter(({ reason }) => reason !== "end");
  const text = stops.map(({ sentence, slice }) => sentence[0].toUpperCase() + sentence.slice(1) + " (--slice " + slice + ")").join("; ");
  const line = one(".ich-stops");
  line.hidden = !lesionHere()?.stops.length;
  const name = lesions.length > 1 ? lesionHere().name + ": " : "";
  line.textContent = name + (text ? text + "." : "followed to both ends of the scan.") + " Look at every slice; a box where it is wrong wins.";
}

let repair = null;
function complain(error, cure, label, kind = "wrong") {
  const alert = one(".ich-alert");
  alert.dataset.kind = kind;
  one("p", alert).textContent = error.text;
  repair = cure || null;
  const button = one(".ich-fix");
  button.hidden = !cure;
  button.textContent = label || "";
  alert.hidden = false;
}

function hush() {
  one(".ich-alert").hidden = true;
}
