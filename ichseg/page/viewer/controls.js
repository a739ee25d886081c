// Buttons and choosers.

const DO = {
  sample: () => replaceScan(() => { busy({ text: "Opening the sample" }); ask({ op: "sample" }); }),
  open: () => one(".ich-file").click(),
  help: () => one(".ich-help").showModal(),
  dismiss: hush,
  previous: () => goTo(k - 1),
  next: () => goTo(k + 1),
  undo: () => timeTravel("undo"),
  redo: () => timeTravel("redo"),
  delete: deleteSelected,
  clear_slice: clearSlice,
  clear: clearAll,
  edge: () => { edge = !edge; ask({ op: "edge", on: edge }); showAll(); },
  mask: () => { shown.masks = !shown.masks; showAll(); },
  fill: () => { shown.fill = true; shown.masks = true; showAll(); },
  outline: () => { shown.fill = false; shown.masks = true; showAll(); },
  zoom_in: () => zoomTo(view.zoom * 1.25),
  zoom_out: () => zoomTo(view.zoom / 1.25),
  zoom_fit: () => zoomTo(1),
};

element.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.dataset.do) DO[button.dataset.do]();
  if (button?.dataset.save) download(button.dataset.save);
});
one(".ich-fix").addEventListener("click", () => { hush(); repair?.(); });

slider.addEventListener("input", () => goTo(Number(slider.value) - 1));
one(".ich-opacity").addEventListener("input", (event) => { shown.opacity = event.target.value / 100; draw(); });
for (const name of ["width", "level"]) {
  one(".ich-" + name).addEventListener("change", () => setWindow(Number(one(".ich-width").value) || 80, Number(one(".ich-level").value)));
}
for (const [index, preset] of props.presets.entries()) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = preset.name[0].toUpperCase() + preset.name.slice(1);
  button.title = "Width " + preset.width + ", level " + preset.level + " (" + (index + 1) + ")";
  Object.assign(button.dataset, { width: preset.width, level: preset.level });
  button.addEventListener("click", () => setWindow(preset.width, preset.level));
  one(".ich-presets").append(button);
}
