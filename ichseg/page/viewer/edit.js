// Changing slices, boxes, window and view.

function goTo(slice) {
  if (!scan) return;
  const target = clamp(slice, 0, scan.shape[0] - 1);
  if (target === k) return;
  cancelDraft();
  k = target;
  selected = -1;
  showSlice();
  showTools();
  showState();
  showCompare();
  if (pointer) showHU();
  draw();
  look(false);
  rest();
}

function setBoxes(boxes) {
  const state = here();
  const kept = { ...state.boxes, [lesion]: boxes };
  if (boxes.length) slices.set(k, { ...state, boxes: kept });
  else {
    // What they gave goes at once; Python says the rest.
    delete kept[lesion];
    const masks = {};
    for (const [model, byLesion] of Object.entries(state.masks)) masks[model] = { ...byLesion, [lesion]: undefined };
    slices.set(k, { ...state, boxes: kept, masks, origin: { ...state.origin, [lesion]: undefined } });
  }
  ask({ op: "boxes", slice: k, lesion, boxes, first: true });
  showAll();
}

function commitDraft() {
  const { box, index } = draft;
  draft = null;
  const boxes = boxesHere().slice();
  if (index < 0) boxes.push(box);
  else boxes[index] = box;
  selected = index < 0 ? boxes.length - 1 : index;
  setBoxes(boxes);
}

function cancelDraft() {
  if (!draft) return false;
  draft = null;
  showState();
  draw();
  rest();
  return true;
}

function deleteSelected() {
  if (selected < 0) return;
  const boxes = boxesHere().filter((_, index) => index !== selected);
  selected = -1;
  draft = null;
  setBoxes(boxes);
}

function clearSlice() {
  if (!isMarked(here())) return;
  selected = -1;
  if (!lesions.some(({ locked }) => locked)) slices.delete(k);
  ask({ op: "clear_slice", slice: k });
  showAll();
}

function clearAll() {
  selected = -1;
  if (!lesions.some(({ locked }) => locked)) {
    slices = new Map();
    totals = {};
  }
  ask({ op: "clear" });
  showAll();
}

function timeTravel(op) {
  if (!ops.length && !history[op]) return;
  selected = -1;
  jump = true;
  ask({ op });
}

function setWindow(width, level) {
  shown.width = clamp(Math.round(width), 1, 4000);
  shown.level = clamp(Math.round(level), -1000, 3000);
  showSlice();
  showTools();
  draw();
}

function zoomTo(zoom, at) {
  // Keep the slice's point `at` (in fractions) where it is on screen.
  const target = clamp(zoom, 1, 12);
  const { x, y } = at ?? view;
  const part = view.zoom / target;
  view.zoom = target;
  moveView(x + (view.x - x) * part, y + (view.y - y) * part);
}

function moveView(x, y) {
  const margin = 0.5 / view.zoom;
  view.x = view.zoom === 1 ? 0.5 : clamp(x, Math.min(margin, 0.5), Math.max(1 - margin, 0.5));
  view.y = view.zoom === 1 ? 0.5 : clamp(y, Math.min(margin, 0.5), Math.max(1 - margin, 0.5));
  showTools();
  draw();
}
