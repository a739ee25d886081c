// The panes, each made from the one template: a method, its numbers, and the slice.

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
  node.style.setProperty("--ich-own", colours[index % colours.length]);
  const [place, what] = [["left pane", "the chosen model"], ["right pane", "the baseline"]][index] ?? ["pane " + (index + 1), "another method"];
  node.setAttribute("aria-label", place[0].toUpperCase() + place.slice(1) + ": " + what);
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
  for (const choice of choices) {
    const option = new Option(choice.title, choice.name);
    option.disabled = Boolean(choice.missing);
    option.title = choice.missing || choice.summary;
    chooser.add(option);
  }
}

function choose(index, name) {
  models = models.slice();
  models[index] = name;
  ask({ op: "models", models, slice: k });
  showAll();
}

function listen(pane, index) {
  const { canvas } = pane;
  canvas.addEventListener("pointerdown", (event) => onPointerDown(event, pane));
  canvas.addEventListener("pointermove", (event) => onPointerMove(event, pane, index));
  canvas.addEventListener("pointerup", (event) => onPointerUp(event, pane));
  canvas.addEventListener("pointercancel", () => { touches.clear(); gesture = null; cancelDraft(); rest(); });
  canvas.addEventListener("pointerleave", () => { pointer = null; if (scan) showHU(); draw(); });
  canvas.addEventListener("wheel", (event) => onWheel(event, pane), { passive: false });
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
}
