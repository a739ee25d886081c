// The hematoma in the transparent skull: a GLB that Python makes of the masks, drawn here with WebGL 2.

const surface = { open: false, n: null, why: "", meshes: [], radius: 1, middle: [0, 0, 0] };
const FRONT = { turn: 30, rise: 15, near: 1 }; // degrees to the patient's left, and up
const orbit = { ...FRONT };
const FIELD_DEGREES = 30;
const LOOKS = { front: [0, 0], left: [90, 0], right: [-90, 0], above: [0, 89.9] };
const surfaceCanvas = one(".ich-surface canvas");
let gl; // undefined before the first try, null where there is none
let programs;
let surfaceFrame = 0;

const surfaceWanted = () => surface.open && surface.n !== (measuring.record?.n ?? null) && measuring.record !== null && gl !== null;

function forgetSurface() {
  Object.assign(surface, { n: null, why: "" });
  freeMeshes();
}

function freeMeshes() {
  for (const { array, buffers } of surface.meshes) {
    gl.deleteVertexArray(array);
    buffers.forEach((buffer) => gl.deleteBuffer(buffer));
  }
  surface.meshes = [];
}

function showSurface() {
  one(".ich-surface").hidden = !surface.open;
  one("[data-do=surface]").setAttribute("aria-expanded", String(surface.open));
  if (!surface.open) return;
  const said = one(".ich-surface-state");
  said.textContent = gl === null ? "A 3D view needs WebGL 2, which this browser has not; download the mesh (GLB) and open it elsewhere."
    : !marked().length ? "Nothing is marked yet." : surface.why || (surface.meshes.length && !surfaceWanted() ? "" : "Building the surface…");
  one(".ich-surface-stage").hidden = gl === null;
  describeSurface();
  drawSurface();
}

function describeSurface() {
  const lesions = measuring.record?.lesions ?? [];
  const what = lesions.map((lesion) => lesion.name + ", " + number(lesion.volume_ml) + " mL" + (lesion.side?.side ? ", " + ({ both: "across the midline" }[lesion.side.side] ?? lesion.side.side) : "")).join("; ");
  const { turn, rise } = orbit;
  const around = ["the front", "the front and left", "the left", "the back and left", "the back", "the back and right", "the right", "the front and right"][Math.round((((turn % 360) + 360) % 360) / 45) % 8];
  const from = rise > 67 ? "above" : rise < -67 ? "below" : around;
  surfaceCanvas.setAttribute("aria-label", "Hematoma in the skull, seen from " + from + (what ? ". " + what : "") + ". Arrow keys turn it, plus and minus zoom.");
  one(".ich-surface-from").textContent = "From " + from;
}

async function takeSurface({ path, n, why }) {
  surface.n = n;
  surface.why = why ?? "";
  if (!path) return freeMeshes();
  try {
    const answer = await fetch(serverPath("/file=" + path));
    if (!answer.ok) throw new Error(answer.statusText);
    const content = await answer.arrayBuffer();
    if (surface.n === n && startGl()) load(content);
    ask({ op: "fetched" });
  } catch {
    surface.why = "The surface could not be fetched from the server; close the 3D view and open it again.";
  }
  showSurface();
}

// The file

function load(content) {
  // Of glTF 2 what Python writes: a mesh of one primitive a node, float positions and normals, and indices.
  const head = new DataView(content);
  const size = head.getUint32(12, true);
  const tree = JSON.parse(new TextDecoder().decode(new Uint8Array(content, 20, size)));
  const begin = 28 + size;
  const ARRAYS = { 5126: Float32Array, 5125: Uint32Array, 5123: Uint16Array };
  const read = (index) => {
    const { bufferView, byteOffset = 0, componentType, count, type } = tree.accessors[index];
    const at = begin + (tree.bufferViews[bufferView].byteOffset ?? 0) + byteOffset;
    const kind = ARRAYS[componentType], length = count * (type === "VEC3" ? 3 : 1);
    return new kind(content.slice(at, at + length * kind.BYTES_PER_ELEMENT));
  };
  freeMeshes();
  const low = [Infinity, Infinity, Infinity], high = low.map((value) => -value);
  for (const { primitives: [primitive] } of tree.meshes) {
    const points = read(primitive.attributes.POSITION), normals = read(primitive.attributes.NORMAL), indices = read(primitive.indices);
    const material = tree.materials[primitive.material];
    points.forEach((value, at) => { low[at % 3] = Math.min(low[at % 3], value); high[at % 3] = Math.max(high[at % 3], value); });
    surface.meshes.push({ ...upload3d(points, normals, indices), colour: material.pbrMetallicRoughness.baseColorFactor, clear: material.alphaMode === "BLEND" });
  }
  surface.middle = low.map((value, at) => (value + high[at]) / 2);
  surface.radius = Math.hypot(...low.map((value, at) => high[at] - value)) / 2;
  surface.meshes.sort((one, two) => one.clear - two.clear); // what hides comes before what is seen through
}

function upload3d(points, normals, indices) {
  const array = gl.createVertexArray();
  gl.bindVertexArray(array);
  const buffers = [points, normals].map((values, place) => {
    const buffer = gl.createBuffer();
    gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
    gl.bufferData(gl.ARRAY_BUFFER, values, gl.STATIC_DRAW);
    gl.enableVertexAttribArray(place);
    gl.vertexAttribPointer(place, 3, gl.FLOAT, false, 0, 0);
    return buffer;
  });
  const order = gl.createBuffer();
  gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, order);
  gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, new Uint32Array(indices), gl.STATIC_DRAW);
  gl.bindVertexArray(null);
  return { array, buffers: [...buffers, order], count: indices.length };
}

// The picture

const VERTEX = `#version 300 es
layout(location = 0) in vec3 point;
layout(location = 1) in vec3 normal;
uniform mat4 view, lens;
out vec3 facing, towards;
void main() {
  vec4 place = view * vec4(point, 1.0);
  facing = mat3(view) * normal;
  towards = -place.xyz;
  gl_Position = lens * place;
}`;
// What is seen through is drawn thin where it faces the eye and dense at its rims, as an X-ray shows bone. All of it
// has one colour, so that it looks the same in whatever order its triangles come.
const FRAGMENT = `#version 300 es
precision highp float;
in vec3 facing, towards;
uniform vec4 colour;
uniform bool clear;
out vec4 shown;
void main() {
  float front = abs(dot(normalize(facing), normalize(towards)));
  vec3 lit = clear ? colour.rgb : colour.rgb * (0.35 + 0.65 * front);
  float dense = clear ? colour.a * mix(0.25, 1.6, pow(1.0 - front, 2.0)) : 1.0;
  shown = vec4(lit * dense, dense);
}`;

function startGl() {
  if (gl !== undefined) return gl;
  gl = surfaceCanvas.getContext("webgl2", { antialias: true });
  if (!gl) return null;
  programs = gl.createProgram();
  for (const [kind, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, text);
    gl.compileShader(shader);
    gl.attachShader(programs, shader);
  }
  gl.linkProgram(programs);
  return gl;
}

function drawSurface() {
  if (!surfaceFrame) surfaceFrame = requestAnimationFrame(() => { surfaceFrame = 0; if (surface.open && gl) drawSurfaceNow(); });
}

function drawSurfaceNow() {
  const ratio = window.devicePixelRatio || 1;
  surfaceCanvas.width = Math.max(1, Math.round(surfaceCanvas.clientWidth * ratio));
  surfaceCanvas.height = Math.max(1, Math.round(surfaceCanvas.clientHeight * ratio));
  const { width, height } = surfaceCanvas;
  gl.viewport(0, 0, width, height);
  gl.clearColor(0, 0, 0, 1);
  gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
  gl.useProgram(programs);
  gl.enable(gl.DEPTH_TEST);
  gl.enable(gl.BLEND);
  gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
  const place = (name) => gl.getUniformLocation(programs, name);
  const { view, lens } = camera(width / height);
  gl.uniformMatrix4fv(place("view"), false, view);
  gl.uniformMatrix4fv(place("lens"), false, lens);
  for (const { array, count, colour, clear } of surface.meshes) {
    gl.depthMask(!clear);
    gl.uniform4fv(place("colour"), colour);
    gl.uniform1i(place("clear"), clear);
    gl.bindVertexArray(array);
    gl.drawElements(gl.TRIANGLES, count, gl.UNSIGNED_INT, 0);
  }
  gl.depthMask(true);
  surfaceCanvas.dataset.drawn = surface.meshes.length ? surface.n : "";
}

function camera(aspect) {
  // Column by column. The patient looks along +z, with the left at +x: seen from the front it is on the right.
  const t = (orbit.turn * Math.PI) / 180, r = (orbit.rise * Math.PI) / 180;
  const ct = Math.cos(t), st = Math.sin(t), cr = Math.cos(r), sr = Math.sin(r);
  const right = [ct, 0, -st], up = [-st * sr, cr, -ct * sr], back = [st * cr, sr, ct * cr];
  const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
  const narrow = Math.tan((FIELD_DEGREES * Math.PI) / 360) * Math.min(1, aspect);
  const far = (surface.radius * 0.82) / narrow / orbit.near;
  const near = Math.max(far - 2 * surface.radius, far / 100), end = far + 2 * surface.radius;
  const view = [0, 1, 2].flatMap((axis) => [right[axis], up[axis], back[axis], 0]);
  view.push(-dot(right, surface.middle), -dot(up, surface.middle), -dot(back, surface.middle) - far, 1);
  const focus = 1 / Math.tan((FIELD_DEGREES * Math.PI) / 360);
  const lens = [focus / aspect, 0, 0, 0, 0, focus, 0, 0, 0, 0, (near + end) / (near - end), -1, 0, 0, (2 * near * end) / (near - end), 0];
  return { view: new Float32Array(view), lens: new Float32Array(lens) };
}

function turnSurface(turn, rise, near = orbit.near) {
  Object.assign(orbit, { turn, rise: clamp(rise, -89.9, 89.9), near: clamp(near, 0.6, 6) });
  describeSurface();
  drawSurface();
}

// Hands

const surfaceTouches = new Map();
surfaceCanvas.addEventListener("pointerdown", (event) => {
  surfaceTouches.set(event.pointerId, event);
  surfaceCanvas.setPointerCapture(event.pointerId);
});
surfaceCanvas.addEventListener("pointermove", (event) => {
  const before = surfaceTouches.get(event.pointerId);
  if (!before) return;
  const spread = () => { const [one, two] = [...surfaceTouches.values()]; return Math.hypot(one.clientX - two.clientX, one.clientY - two.clientY) || 1; };
  const was = surfaceTouches.size === 2 ? spread() : 0;
  surfaceTouches.set(event.pointerId, event);
  if (surfaceTouches.size === 2) turnSurface(orbit.turn, orbit.rise, (orbit.near * spread()) / was);
  else turnSurface(orbit.turn - (event.clientX - before.clientX) * 0.5, orbit.rise + (event.clientY - before.clientY) * 0.5);
});
for (const type of ["pointerup", "pointercancel"]) surfaceCanvas.addEventListener(type, (event) => surfaceTouches.delete(event.pointerId));
surfaceCanvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  turnSurface(orbit.turn, orbit.rise, orbit.near * Math.exp(-clamp(event.deltaY, -100, 100) / 500));
}, { passive: false });
surfaceCanvas.addEventListener("keydown", (event) => {
  const arrow = ARROWS[event.key];
  if (arrow) turnSurface(orbit.turn + 10 * arrow[0], orbit.rise - 10 * arrow[1]);
  else if (event.key === "+" || event.key === "=") turnSurface(orbit.turn, orbit.rise, orbit.near * 1.25);
  else if (event.key === "-") turnSurface(orbit.turn, orbit.rise, orbit.near / 1.25);
  else if (event.key === "0") turnSurface(FRONT.turn, FRONT.rise, FRONT.near);
  else return;
  event.preventDefault();
  event.stopPropagation(); // not the slices', nor the zoom of the panes
  live.textContent = one(".ich-surface-from").textContent + ".";
});
surfaceCanvas.addEventListener("webglcontextlost", (event) => {
  event.preventDefault();
  surface.meshes = []; // gone with the context
});
surfaceCanvas.addEventListener("webglcontextrestored", () => {
  gl = undefined;
  surface.n = null;
  rest();
});
one(".ich-surface-looks").addEventListener("click", (event) => {
  const look = LOOKS[event.target.dataset.look];
  if (look) turnSurface(...look);
});
new ResizeObserver(drawSurface).observe(surfaceCanvas);

DO.surface = () => {
  surface.open = !surface.open;
  if (surface.open) startGl();
  if (surface.why) surface.n = null;
  showAll();
};
