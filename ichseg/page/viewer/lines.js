// ABC/2 on its slice: A and B as lines with ends to move, by pointer and by keys; C with its slices.

const moved = new Map(); // lesion -> {a, b, c} that a person moved and Python has not answered yet
const LINES_WAIT_MS = 300; // keys come in rows: Python is told when they end
const GRIP_PX = 5;
let grip = null; // the end that is being moved or has the keys: {lesion, name: "a" | "b", end: 0 | 1}
let gripDrag = null; // while it is dragged: {pane, pointerId}
let linesTimer = 0;

const endsOf = ({ x0_px, y0_px, x1_px, y1_px }) => [x0_px, y0_px, x1_px, y1_px];

function lengthMm([x0, y0, x1, y1]) {
  const [[xx, xy], [yx, yy]] = measuring.record.plane_mm;
  return Math.hypot(xx * (x1 - x0) + xy * (y1 - y0), yx * (x1 - x0) + yy * (y1 - y0));
}

function abcOf(lesion) {
  // A lesion's ABC/2 as it is on screen: what Python found, under what was moved since.
  const found = lesion.abc2;
  const own = moved.get(lesion.id ?? measuring.record.lesions.find((one) => one.is_blood)?.id); // the total's is its only blood's
  if (!found || !own) return found;
  const line = (given, before) => (given ? { ...before, x0_px: given[0], y0_px: given[1], x1_px: given[2], y1_px: given[3], length_mm: lengthMm(given) } : before);
  const a = line(own.a, found.a), b = line(own.b, found.b), c_mm = own.c ?? found.c_mm;
  return { ...found, a, b, c_mm, volume_ml: (a.length_mm * b.length_mm * c_mm) / 2000, edited: ["a", "b", "c"].filter((name) => own[name] !== null) };
}

const measuredLesions = () => (measuring.open && measuring.record ? measuring.record.lesions.filter((lesion) => lesion.abc2) : []);
const lesionOf = (id) => measuredLesions().find((lesion) => lesion.id === id);

function ownLines(id) {
  // What a person has set of a lesion's lines, null for what is found by itself.
  if (!moved.has(id)) {
    const { a, b, c_mm, edited } = lesionOf(id).abc2;
    moved.set(id, { a: edited.includes("a") ? endsOf(a) : null, b: edited.includes("b") ? endsOf(b) : null, c: edited.includes("c") ? c_mm : null });
  }
  return moved.get(id);
}

function moveEnd({ lesion, name, end }, x, y) {
  const before = abcOf(lesionOf(lesion))[name];
  const ends = endsOf(before);
  ends[2 * end] = clamp(x, 0, scan.shape[2]);
  ends[2 * end + 1] = clamp(y, 0, scan.shape[1]);
  if (lengthMm(ends) < 1) return; // the ends do not meet
  ownLines(lesion)[name] = ends;
  showLineNumbers();
  draw();
}

function tellLines(id) {
  clearTimeout(linesTimer);
  linesTimer = 0;
  const own = moved.get(id);
  if (own) ask({ op: "abc2", lesion: id, ...own });
}

// On the pane

function drawLines(context, pane, { sx, sy, left, top }) {
  if (pane !== 0 || !shown.masks) return;
  for (const lesion of measuredLesions()) {
    const abc = abcOf(lesion);
    if (abc.a.slice_index !== k) continue;
    const settling = moved.get(lesion.id);
    for (const name of ["a", "b"]) {
      const [x0, y0, x1, y1] = endsOf(abc[name]);
      const ends = [[left + x0 * sx, top + y0 * sy], [left + x1 * sx, top + y1 * sy]];
      context.save();
      context.lineCap = "round";
      // B is found anew for a new A: until it is, it is dashed.
      if (name === "b" && settling?.a && !settling.b) context.setLineDash([4, 5]);
      for (const [width, colour] of [[3.5, "rgba(0, 0, 0, 0.55)"], [1.5, "#ffffff"]]) {
        context.lineWidth = width;
        context.strokeStyle = colour;
        context.beginPath();
        context.moveTo(...ends[0]);
        context.lineTo(...ends[1]);
        context.stroke();
      }
      context.restore();
      ends.forEach(([x, y], end) => {
        const on = grip && grip.lesion === lesion.id && grip.name === name && grip.end === end;
        context.beginPath();
        context.arc(x, y, on ? GRIP_PX + 2 : GRIP_PX, 0, 7);
        context.fillStyle = on ? "#ffffff" : "rgba(0, 0, 0, 0.6)";
        context.fill();
        context.lineWidth = 1.5;
        context.strokeStyle = "#ffffff";
        context.stroke();
      });
      labelLine(context, ends, name.toUpperCase() + " " + abc[name].length_mm.toFixed(1) + " mm");
    }
  }
}

function labelLine(context, [[x0, y0], [x1, y1]], text) {
  // Beyond the end that is farther to the right, where the blood is not.
  const [x, y, dx, dy] = x1 >= x0 ? [x1, y1, x1 - x0, y1 - y0] : [x0, y0, x0 - x1, y0 - y1];
  const length = Math.hypot(dx, dy) || 1;
  context.font = "12px system-ui, sans-serif";
  context.textAlign = dx / length > 0.4 ? "left" : "center";
  context.textBaseline = "middle";
  context.lineWidth = 3;
  context.strokeStyle = "rgba(0, 0, 0, 0.75)";
  const at = [x + (dx / length) * 12, y + (dy / length) * 16];
  context.strokeText(text, ...at);
  context.fillStyle = "#ffffff";
  context.fillText(text, ...at);
}

function gripAt({ x, y, sx, sy }, reach) {
  let nearest = null;
  const free = shown.masks && correcting.tool === "box"; // a brush goes over the lines
  for (const lesion of free ? measuredLesions() : []) {
    const abc = abcOf(lesion);
    if (abc.a.slice_index !== k) continue;
    for (const name of ["a", "b"]) {
      const ends = endsOf(abc[name]);
      for (const end of [0, 1]) {
        const far = Math.hypot((ends[2 * end] - x) * sx, (ends[2 * end + 1] - y) * sy);
        if (far <= reach && far < (nearest?.far ?? Infinity)) nearest = { far, lesion: lesion.id, name, end };
      }
    }
  }
  return nearest && { lesion: nearest.lesion, name: nearest.name, end: nearest.end };
}

function onLines(event) {
  // Before the canvas has it: an end under the pointer is moved, and no box is drawn.
  const canvas = panes[0]?.canvas;
  if (event.target !== canvas || !scan) return;
  const point = at(event, canvas);
  if (event.type === "pointerdown") {
    const found = event.button === 0 && !spaceDown && !touches.size ? gripAt(point, event.pointerType === "touch" ? 20 : GRIP_PX + 4) : null;
    if (!found) return;
    event.preventDefault();
    cancelDraft();
    grip = found;
    gripDrag = { pointerId: event.pointerId };
    canvas.focus({ preventScroll: true });
    canvas.setPointerCapture(event.pointerId);
  } else if (gripDrag) {
    if (event.pointerId !== gripDrag.pointerId) return;
    if (event.type === "pointermove") moveEnd(grip, point.x, point.y);
    else {
      tellLines(grip.lesion);
      grip = gripDrag = null;
    }
  } else if (event.type === "pointermove" && !gesture && gripAt(point, GRIP_PX + 4)) canvas.style.cursor = "grab";
  else return;
  event.stopPropagation();
  draw();
}
for (const type of ["pointerdown", "pointermove", "pointerup", "pointercancel"]) one(".ich-panes").addEventListener(type, onLines, true);

// In the panel

function showLines() {
  const lesions = measuredLesions();
  const list = one(".ich-abc");
  const known = all(".ich-abc-lesion", list).map((item) => item.dataset.lesion).join();
  if (known !== lesions.map((lesion) => lesion.id).join()) list.replaceChildren(...lesions.map(makeLines));
  showLineNumbers();
}

function makeLines({ id }) {
  const item = make("div", "", { className: "ich-abc-lesion" });
  item.dataset.lesion = id;
  const sum = make("p", "", { className: "ich-abc-sum" });
  const tools = make("div", "", { className: "ich-row ich-abc-tools" });
  const go = make("button", "", { type: "button", className: "ich-abc-go" });
  go.addEventListener("click", () => {
    goTo(lesionOf(id).abc2.a.slice_index);
    panes[0].node.scrollIntoView({ block: "nearest" });
  });
  const ends = make("span", "", { className: "ich-segments" });
  ends.setAttribute("role", "group");
  ends.setAttribute("aria-label", "Ends to move by keys");
  for (const name of ["a", "b"]) for (const end of [0, 1]) ends.append(makeEnd(id, name, end));
  const label = make("label", "C ", { className: "ich-number" });
  const c = make("input", "", { type: "number", min: 0.1, step: 0.5 });
  c.setAttribute("aria-label", "C, mm");
  c.addEventListener("change", () => {
    ownLines(id).c = Number(c.value) > 0 ? Number(c.value) : null;
    showLineNumbers();
    tellLines(id);
  });
  label.append(c, " mm");
  const reset = make("button", "Reset", { type: "button", className: "ich-abc-reset", title: "Find A, B and C again" });
  reset.addEventListener("click", () => { moved.delete(id); ask({ op: "abc2", lesion: id, a: null, b: null, c: null }); });
  tools.append(go, ends, label, reset);
  item.append(sum, tools, make("p", "", { className: "ich-abc-slices" }));
  return item;
}

function makeEnd(id, name, end) {
  const button = make("button", name.toUpperCase() + (end ? "₂" : "₁"), { type: "button", title: "End of " + name.toUpperCase() + ": arrow keys move it, with Shift farther" });
  Object.assign(button.dataset, { name, end });
  button.addEventListener("focus", () => { grip = { lesion: id, name, end }; goTo(lesionOf(id)?.abc2.a.slice_index ?? k); draw(); });
  button.addEventListener("blur", () => { if (!gripDrag) grip = null; draw(); });
  button.addEventListener("keydown", (event) => {
    const arrow = ARROWS[event.key];
    if (!arrow) return;
    event.preventDefault();
    event.stopPropagation(); // the arrows are the end's, not the slices'
    const by = event.shiftKey ? FAST_PX : 1;
    const ends = endsOf(abcOf(lesionOf(id))[name]);
    moveEnd({ lesion: id, name, end }, ends[2 * end] + by * arrow[0], ends[2 * end + 1] + by * arrow[1]);
    const abc = abcOf(lesionOf(id));
    live.textContent = name.toUpperCase() + " " + mm(abc[name].length_mm) + " mm, ABC/2 " + number(abc.volume_ml) + " mL.";
    clearTimeout(linesTimer);
    linesTimer = setTimeout(() => tellLines(id), LINES_WAIT_MS);
  });
  return button;
}

function showLineNumbers() {
  const { record } = measuring;
  for (const item of all(".ich-abc-lesion")) {
    const lesion = lesionOf(Number(item.dataset.lesion));
    if (!lesion) continue;
    const abc = abcOf(lesion);
    const whose = record.lesions.length > 1 ? lesion.name + ": " : "";
    const hand = abc.edited.length ? " (" + abc.edited.join(", ").toUpperCase() + " set by hand)" : "";
    one(".ich-abc-sum", item).textContent =
      whose + "ABC/2 " + number(abc.volume_ml) + " mL = A " + mm(abc.a.length_mm) + " × B " + mm(abc.b.length_mm) + " × C " + mm(abc.c_mm) + " mm / 2" + hand;
    one(".ich-abc-go", item).textContent = "Slice " + (abc.a.slice_index + 1);
    one(".ich-abc-go", item).title = "Show A and B on their slice, the one with the largest area";
    const c = one("input", item);
    if (document.activeElement !== c) c.value = abc.c_mm.toFixed(1);
    one(".ich-abc-reset", item).disabled = !abc.edited.length;
    one(".ich-abc-slices", item).textContent = "C is each slice's own height times its weight. " + weightsOf(abc);
    for (const button of all(".ich-segments button", item)) {
      const ends = endsOf(abc[button.dataset.name]).map((value) => value.toFixed(1));
      const end = Number(button.dataset.end);
      button.setAttribute("aria-label", button.dataset.name.toUpperCase() + ", " + (end ? "second" : "first") + " end, at " + ends[2 * end] + ", " + ends[2 * end + 1] + "; arrow keys move it");
    }
  }
  if (record) showNumbers(record);
}

function weightsOf({ slices }) {
  const by = (weight) => slices.filter((slice) => slice.weight === weight).map((slice) => slice.slice_index + 1);
  return [[1, "In full (over 75 % of the largest area)"], [0.5, "half (25 to 75 %)"], [0, "not (below)"]]
    .filter(([weight]) => by(weight).length)
    .map(([weight, words]) => words + ": " + by(weight).join(", "))
    .join("; ") + ".";
}
