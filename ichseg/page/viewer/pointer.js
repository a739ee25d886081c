// The pointer: boxes, window, pan and zoom by mouse, pen and fingers.

const touches = new Map();
let gesture = null; // {kind, ...} from pointerdown to pointerup
let spaceDown = false;

function at(event, canvas) {
  const { sx, sy, left, top } = placement(canvas);
  const frame = canvas.getBoundingClientRect();
  return { x: (event.clientX - frame.left - left) / sx, y: (event.clientY - frame.top - top) / sy, sx, sy };
}

function handleAt({ x, y, sx, sy }, reach) {
  // Which part of the selected box lies under the pointer: [hx, hy] in -1, 0, 1; [0, 0] is its inside.
  const box = boxesHere()[selected];
  if (!box) return null;
  const [x0, y0, x1, y1] = box;
  const rx = reach / sx, ry = reach / sy;
  if (x < x0 - rx || x > x1 + rx || y < y0 - ry || y > y1 + ry) return null;
  const side = (value, low, high, r) => {
    const near = Math.min(r, (high - low) / 3 + r / 3);
    return Math.abs(value - low) <= near ? -1 : Math.abs(value - high) <= near ? 1 : 0;
  };
  return [side(x, x0, x1, rx), side(y, y0, y1, ry)];
}

const CURSORS = { "-1,-1": "nwse-resize", "1,1": "nwse-resize", "-1,1": "nesw-resize", "1,-1": "nesw-resize", "0,0": "move", "-1,0": "ew-resize", "1,0": "ew-resize", "0,-1": "ns-resize", "0,1": "ns-resize" };

function boxBetween(a, b) {
  // The whole pixels between two points, on the slice; null where the drag was no more than a click.
  const [, rows, columns] = scan.shape;
  const x0 = clamp(Math.round(Math.min(a.x, b.x)), 0, columns), x1 = clamp(Math.round(Math.max(a.x, b.x)), 0, columns);
  const y0 = clamp(Math.round(Math.min(a.y, b.y)), 0, rows), y1 = clamp(Math.round(Math.max(a.y, b.y)), 0, rows);
  return x1 - x0 < 2 || y1 - y0 < 2 ? null : [x0, y0, x1, y1];
}

function reshape([x0, y0, x1, y1], [hx, hy], dx, dy) {
  const [, rows, columns] = scan.shape;
  if (!hx && !hy) {
    const mx = clamp(Math.round(dx), -x0, columns - x1), my = clamp(Math.round(dy), -y0, rows - y1);
    return [x0 + mx, y0 + my, x1 + mx, y1 + my];
  }
  const move = (low, high, h, d, size) => {
    if (h < 0) low = clamp(Math.round(low + d), 0, size);
    if (h > 0) high = clamp(Math.round(high + d), 0, size);
    if (low > high) [low, high] = [high, low]; // dragged past the other side
    if (high - low < 2) h < 0 ? (low = Math.max(0, high - 2)) : (high = Math.min(size, low + 2));
    return [low, high];
  };
  const [left, right] = move(x0, x1, hx, dx, columns);
  const [top, bottom] = move(y0, y1, hy, dy, rows);
  return [left, top, right, bottom];
}

function startGesture(event, pane) {
  const point = at(event, pane.canvas);
  const start = { clientX: event.clientX, clientY: event.clientY };
  if (event.button === 2) return { kind: "window", ...start, width: shown.width, level: shown.level };
  if (event.button === 1 || spaceDown) return { kind: "pan", ...start, x: view.x, y: view.y };
  if (correcting.tool !== "box") return startStroke(point, pane);
  const handle = event.shiftKey ? null : handleAt(point, event.pointerType === "touch" ? 20 : 7);
  look(true); // the slice is embedded while the person draws
  if (handle) return { kind: "adjust", handle, point, index: selected, box: boxesHere()[selected] };
  return { kind: "new", point };
}

function onPointerDown(event, pane) {
  if (!scan) return;
  event.preventDefault();
  pane.canvas.focus({ preventScroll: true });
  pane.canvas.setPointerCapture(event.pointerId);
  cancelDraft();
  if (event.pointerType === "touch") {
    touches.set(event.pointerId, event);
    if (touches.size === 2) {
      gesture = pinch();
      return;
    }
  }
  gesture = startGesture(event, pane);
}

function onPointerMove(event, pane, index) {
  if (!scan) return;
  const point = at(event, pane.canvas);
  if (event.pointerType !== "touch") {
    pointer = { ...point, pane: index };
    showHU();
  }
  if (touches.has(event.pointerId)) touches.set(event.pointerId, event);
  if (gesture) continueGesture(event, pane, point);
  else {
    const handle = event.shiftKey || correcting.tool !== "box" ? null : handleAt(point, 7);
    pane.canvas.style.cursor = spaceDown ? "grab" : handle ? CURSORS[handle.join()] : correctingCursor(index) ?? "crosshair";
  }
  draw();
}

function continueGesture(event, pane, point) {
  const dx = event.clientX - gesture.clientX, dy = event.clientY - gesture.clientY;
  if (gesture.kind === "stroke") extendStroke(point);
  else if (gesture.kind === "new") {
    const box = boxBetween(gesture.point, point);
    draft = box && { box, index: -1 };
  } else if (gesture.kind === "adjust") {
    draft = { box: reshape(gesture.box, gesture.handle, point.x - gesture.point.x, point.y - gesture.point.y), index: gesture.index };
  } else if (gesture.kind === "window") {
    const speed = Math.max(0.2, gesture.width / 400);
    setWindow(gesture.width + dx * speed, gesture.level - dy * speed);
  } else if (gesture.kind === "pan") {
    const { sx, sy } = placement(pane.canvas);
    moveView(gesture.x - dx / (sx * scan.shape[2]), gesture.y - dy / (sy * scan.shape[1]));
  } else if (gesture.kind === "pinch" && touches.size === 2) {
    const now = pinch();
    zoomTo((gesture.zoom * now.spread) / gesture.spread);
    const { sx, sy } = placement(pane.canvas);
    moveView(gesture.x - (now.cx - gesture.cx) / (sx * scan.shape[2]), gesture.y - (now.cy - gesture.cy) / (sy * scan.shape[1]));
  }
}

function pinch() {
  const [a, b] = [...touches.values()];
  return {
    kind: "pinch", spread: Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY),
    cx: (a.clientX + b.clientX) / 2, cy: (a.clientY + b.clientY) / 2, zoom: view.zoom, x: view.x, y: view.y,
  };
}

function onPointerUp(event, pane) {
  touches.delete(event.pointerId);
  const done = gesture;
  gesture = null;
  if (!done || !scan) return;
  if (done.kind === "stroke") endStroke(done);
  else if (draft && String(draft.box) !== String(done.box)) commitDraft();
  else if (done.kind === "new") pick(done.point);
  else cancelDraft();
  rest();
}

function pick({ x, y }) {
  // A click takes up the box under it, the smallest where several are.
  const area = ([x0, y0, x1, y1]) => (x1 - x0) * (y1 - y0);
  const hit = lesions
    .flatMap(({ id }) => (here().boxes[id] ?? []).map((box, index) => ({ box, index, id })))
    .filter(({ box: [x0, y0, x1, y1] }) => x >= x0 && x < x1 && y >= y0 && y < y1)
    .sort((a, b) => area(a.box) - area(b.box));
  if (hit.length) lesion = hit[0].id;
  selected = hit.length ? hit[0].index : -1;
  draft = null;
  showTools();
  showLesions();
  draw();
}

let wheelSum = 0;
function onWheel(event, pane) {
  if (!scan) return;
  event.preventDefault();
  const delta = event.deltaMode === 1 ? event.deltaY * 40 : event.deltaY;
  if (event.ctrlKey || event.metaKey) {
    const { x, y } = at(event, pane.canvas);
    zoomTo(view.zoom * Math.exp(-clamp(delta, -100, 100) / 400), { x: x / scan.shape[2], y: y / scan.shape[1] });
    return;
  }
  // A notch of a wheel is one slice; a trackpad's small steps add up to one.
  wheelSum = Math.abs(delta) >= 60 ? Math.sign(delta) * 40 : wheelSum + delta;
  if (Math.abs(wheelSum) >= 40) {
    goTo(k + Math.sign(wheelSum));
    wheelSum = 0;
  }
}
