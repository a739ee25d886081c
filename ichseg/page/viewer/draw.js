// Drawing: the slice, masks, boxes, and the strip below the slider.

const base = document.createElement("canvas"); // the slice at one canvas pixel a voxel
const table = new Uint32Array(65536); // HU + 32768 -> grey, opaque
let painted = ""; // what `base` holds
let tabled = "";
let frame = 0;

function draw() {
  if (!frame) frame = requestAnimationFrame(() => { frame = 0; drawNow(); });
}

function drawNow() {
  if (!scan) return;
  paintBase();
  panes.forEach(drawPane);
}

function paintBase() {
  const want = [scan.token, k, shown.width, shown.level].join();
  if (want === painted) return;
  const window = shown.width + "," + shown.level;
  if (window !== tabled) {
    const low = shown.level - shown.width / 2;
    for (let i = 0; i < 65536; i++) {
      const grey = clamp(Math.round(((i - 32768 - low) / shown.width) * 255), 0, 255);
      table[i] = 0xff000000 | (grey << 16) | (grey << 8) | grey;
    }
    tabled = window;
  }
  const [, rows, columns] = scan.shape;
  const image = new ImageData(columns, rows);
  const out = new Uint32Array(image.data.buffer);
  const offset = k * rows * columns;
  for (let i = 0; i < out.length; i++) out[i] = table[scan.hu[offset + i] + 32768];
  base.getContext("2d").putImageData(image, 0, 0);
  painted = want;
}

function placement(canvas) {
  // Slice pixel (x, y) lies at (left + x * sx, top + y * sy) in CSS pixels of the canvas.
  const [, rows, columns] = scan.shape;
  const [, dy, dx] = scan.spacing;
  const width = canvas.clientWidth, height = canvas.clientHeight;
  const scale = Math.min(width / (columns * dx), height / (rows * dy)) * view.zoom;
  const sx = scale * dx, sy = scale * dy;
  return { sx, sy, left: width / 2 - view.x * columns * sx, top: height / 2 - view.y * rows * sy };
}

function drawPane(pane, number) {
  const { canvas } = pane;
  const ratio = window.devicePixelRatio || 1;
  const context = canvas.getContext("2d");
  const { sx, sy, left, top } = placement(canvas);
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(base, left, top, base.width * sx, base.height * sy);
  const transform = new DOMMatrix([sx, 0, 0, sy, left, top]);
  if (shown.masks && showsAgreement(number)) drawAgreement(context, number, transform);
  else if (shown.masks) drawMasks(context, number, transform);
  if (shown.masks) drawTruth(context, transform);
  drawBoxes(context, { sx, sy, left, top });
  drawLines(context, number, { sx, sy, left, top });
  if (number === 0) drawStrokes(context, { sx, sy, left, top });
  if (pointer && pointer.pane !== number && !draft) drawCross(context, { sx, sy, left, top });
}

function drawMasks(context, number, transform) {
  // One lesion has the pane's colour; of several each has its own.
  for (const { id, colour, visible } of lesions) {
    const mask = here().masks[models[number]]?.[id];
    if (!mask || !visible) continue;
    const path = new Path2D();
    path.addPath(mask.path, transform);
    context.fillStyle = context.strokeStyle = lesions.length > 1 ? colour : colours[number % colours.length];
    context.lineJoin = "round";
    if (shown.fill) {
      context.globalAlpha = shown.opacity;
      context.fill(path, "evenodd");
      context.globalAlpha = 1;
    }
    context.lineWidth = 1.5;
    context.stroke(path);
  }
}

function drawBoxes(context, { sx, sy, left, top }) {
  for (const { id, colour, visible } of lesions) {
    if (id === lesion || !visible) continue;
    context.lineWidth = 1;
    context.strokeStyle = colour;
    for (const [x0, y0, x1, y1] of here().boxes[id] ?? []) context.strokeRect(left + x0 * sx, top + y0 * sy, (x1 - x0) * sx, (y1 - y0) * sy);
  }
  const boxes = boxesHere().slice();
  if (draft) boxes[draft.index < 0 ? boxes.length : draft.index] = draft.box;
  const current = draft ? (draft.index < 0 ? boxes.length - 1 : draft.index) : selected;
  boxes.forEach(([x0, y0, x1, y1], index) => {
    const x = left + x0 * sx, y = top + y0 * sy, width = (x1 - x0) * sx, height = (y1 - y0) * sy;
    const on = index === current;
    context.setLineDash(draft?.keys && on ? [5, 4] : []);
    context.lineWidth = 3;
    context.strokeStyle = "rgba(0, 0, 0, 0.45)";
    context.strokeRect(x, y, width, height);
    context.lineWidth = on ? 1.5 : 1;
    context.strokeStyle = on ? "#ffffff" : "rgba(255, 255, 255, 0.7)";
    context.strokeRect(x, y, width, height);
    context.setLineDash([]);
    if (!on) return;
    context.fillStyle = "#ffffff";
    const grip = Math.min(width, height) < 24 ? 4 : 6;
    for (const [cx, cy] of [[x, y], [x + width, y], [x, y + height], [x + width, y + height]]) {
      context.fillRect(cx - grip / 2, cy - grip / 2, grip, grip);
    }
  });
}

function drawCross(context, { sx, sy, left, top }) {
  const x = left + pointer.x * sx, y = top + pointer.y * sy;
  context.strokeStyle = "rgba(255, 255, 255, 0.55)";
  context.lineWidth = 1;
  context.beginPath();
  for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
    context.moveTo(x + 4 * dx, y + 4 * dy);
    context.lineTo(x + 11 * dx, y + 11 * dy);
  }
  context.stroke();
}

function resize() {
  const ratio = window.devicePixelRatio || 1;
  for (const canvas of [...panes.map((pane) => pane.canvas), strip]) {
    canvas.width = Math.round(canvas.clientWidth * ratio);
    canvas.height = Math.round(canvas.clientHeight * ratio);
  }
  drawNow();
  drawStrip();
}
const sized = new ResizeObserver(resize);
sized.observe(root);
sized.observe(one(".ich-panes"));

const THUMB_PX = 16; // the slider's thumb, as the style sheet has it: its centre runs THUMB_PX short of the ends

function drawStrip() {
  if (!scan) return;
  const ratio = window.devicePixelRatio || 1;
  const context = strip.getContext("2d");
  const width = strip.clientWidth, height = strip.clientHeight;
  const step = (width - THUMB_PX) / Math.max(1, scan.shape[0] - 1);
  const bar = clamp(step / 2 - 1, 1, 6);
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  context.fillStyle = ink("--ich-tick");
  for (let slice = 0; slice < scan.shape[0]; slice++) {
    context.fillRect(THUMB_PX / 2 + slice * step - 0.5, height - 3, 1, 3);
  }
  const most = Math.max(0.001, ...marked().flatMap((slice) => Object.values(slices.get(slice).ml)));
  for (const slice of marked()) {
    const middle = THUMB_PX / 2 + slice * step;
    // What was only followed there is paler than what a person marked or corrected.
    const followed = Object.values(slices.get(slice).origin).every((origin) => !origin || origin === "propagated");
    context.globalAlpha = followed ? 0.5 : 1;
    models.slice(0, 2).forEach((model, number) => {
      const part = (slices.get(slice).ml[model] ?? 0) / most;
      const tall = part ? Math.max(2, part * (height - 1)) : 1;
      context.fillStyle = ink(number ? "--ich-baseline-ink" : "--ich-model-ink");
      context.fillRect(middle + (number ? 0.5 : -bar - 0.5), height - tall, bar, tall);
    });
  }
  context.globalAlpha = 1;
  context.fillStyle = ink("--ich-strong");
  for (const { slice, direction } of lesionHere()?.stops ?? []) {
    context.fillRect(THUMB_PX / 2 + (slice + direction / 2) * step - 0.75, 0, 1.5, height);
  }
}

strip.addEventListener("pointerdown", (event) => {
  const step = (strip.clientWidth - THUMB_PX) / Math.max(1, scan.shape[0] - 1);
  goTo(Math.round((event.offsetX - THUMB_PX / 2) / step));
});
