// The hematoma in the transparent skull: a GLB that Python makes of the masks, drawn here with WebGL 2.

import { rest } from "../../viewer/aside.js";
import { announce, expand, one } from "../../viewer/dom.js";
import { clamp } from "../../viewer/geometry.js";
import { showAll } from "../../viewer/hub.js";
import { ARROWS } from "../../viewer/keys.js";
import { serverPath } from "../../viewer/line.js";
import { number } from "../../viewer/numbers.js";
import { ask } from "../../viewer/server.js";
import { marked, state } from "../../viewer/state.js";
import { camera, seenFrom } from "./camera.js";
import { extentOf, meshesOf } from "./glb.js";
import { measuring } from "./measuring.js";
import { makeProgram, paintMeshes, uploadMesh, freeMesh } from "./webgl.js";

const FRONT = { turn: 30, rise: 15, near: 1 };
const LOOKS = { front: [0, 0], left: [90, 0], right: [-90, 0], above: [0, 89.9] };
const KEY_DEGREES = 10, DRAG_DEGREES = 0.5; // an arrow key; a pixel
const SIDES = { both: "across the midline" };

export const surface = {
  open: false,
  /** @type {number | null} the number of the measures that it is made of */
  n: null,
  /** whether it is the growth map's */
  map: false,
  /** why there is none */
  why: "",
};
/** @type {any[]} */
let meshes = [];
let extent = { middle: [0, 0, 0], radius: 1 };
const orbit = { ...FRONT };
/** @type {WebGL2RenderingContext | null | undefined} undefined before the first try, null where there is none */
let gl;
/** @type {WebGLProgram} */
let program;
let frame = 0;
/** @type {Map<number, PointerEvent>} */
const touches = new Map();

const canvas = () => one(".ich-surface canvas");

export const surfaceWanted = () =>
  surface.open && measuring.record !== null && gl !== null && (surface.n !== measuring.record.n || surface.map !== state.growthMap);

export function forgetSurface() {
  Object.assign(surface, { n: null, why: "" });
  freeMeshes();
}

function freeMeshes() {
  for (const mesh of meshes) freeMesh(gl, mesh);
  meshes = [];
}

export function showSurface() {
  one(".ich-surface").hidden = !surface.open;
  expand("surface", surface.open);
  if (!surface.open) return;
  one(".ich-surface-state").textContent = surfaceState();
  one(".ich-surface-stage").hidden = gl === null;
  describe();
  drawSoon();
}

function surfaceState() {
  if (gl === null) return "A 3D view needs WebGL 2, which this browser has not; download the mesh (GLB) and open it elsewhere.";
  if (!marked().length) return "Nothing is marked yet.";
  return surface.why || (meshes.length && !surfaceWanted() ? "" : "Building the surface…");
}

function describe() {
  const what = (measuring.record?.lesions ?? [])
    .map(({ name, volume_ml, side }) => name + ", " + number(volume_ml) + " mL" + (side?.side ? ", " + (SIDES[side.side] ?? side.side) : ""))
    .join("; ");
  const from = seenFrom(orbit);
  canvas().setAttribute("aria-label", (surface.map ? "Growth map" : "Hematoma") + " in the skull, seen from " + from + (what ? ". " + what : "") + ". Arrow keys turn it, plus and minus zoom.");
  one(".ich-surface-from").textContent = "From " + from;
}

export async function takeSurface({ path, n, why, map }) {
  surface.n = n;
  surface.map = map;
  surface.why = why ?? "";
  if (!path) {
    freeMeshes();
    return;
  }
  try {
    const answer = await fetch(serverPath("/file=" + path));
    if (!answer.ok) throw new Error(answer.statusText);
    const content = await answer.arrayBuffer();
    if (surface.n === n && surface.map === map && startGl()) load(content);
    ask({ op: "fetched" });
  } catch {
    surface.why = "The surface could not be fetched from the server; close the 3D view and open it again.";
  }
  showSurface();
}

function load(content) {
  freeMeshes();
  const read = meshesOf(content);
  extent = extentOf(read);
  meshes = read.map((mesh) => uploadMesh(gl, mesh));
}

function startGl() {
  if (gl !== undefined) return gl;
  gl = canvas().getContext("webgl2", { antialias: true });
  if (gl) program = makeProgram(gl);
  return gl;
}

function drawSoon() {
  if (!frame) frame = requestAnimationFrame(() => { frame = 0; if (surface.open && gl) drawNow(); });
}

function drawNow() {
  const stage = canvas();
  const ratio = window.devicePixelRatio || 1;
  stage.width = Math.max(1, Math.round(stage.clientWidth * ratio));
  stage.height = Math.max(1, Math.round(stage.clientHeight * ratio));
  paintMeshes(gl, program, meshes, camera(orbit, extent, stage.width / stage.height));
  stage.dataset.drawn = meshes.length ? surface.n : "";
}

function turnTo(turn, rise, near = orbit.near) {
  Object.assign(orbit, { turn, rise: clamp(rise, -89.9, 89.9), near: clamp(near, 0.6, 6) });
  describe();
  drawSoon();
}

// Hands

function onMove(event) {
  const before = touches.get(event.pointerId);
  if (!before) return;
  const spread = () => {
    const [first, second] = [...touches.values()];
    return Math.hypot(first.clientX - second.clientX, first.clientY - second.clientY) || 1;
  };
  const was = touches.size === 2 ? spread() : 0;
  touches.set(event.pointerId, event);
  if (was) turnTo(orbit.turn, orbit.rise, (orbit.near * spread()) / was);
  else turnTo(orbit.turn - (event.clientX - before.clientX) * DRAG_DEGREES, orbit.rise + (event.clientY - before.clientY) * DRAG_DEGREES);
}

function onWheel(event) {
  event.preventDefault();
  turnTo(orbit.turn, orbit.rise, orbit.near * Math.exp(-clamp(event.deltaY, -100, 100) / 500));
}

function onKey(event) {
  const arrow = ARROWS[event.key];
  if (arrow) turnTo(orbit.turn + KEY_DEGREES * arrow[0], orbit.rise - KEY_DEGREES * arrow[1]);
  else if (event.key === "+" || event.key === "=") turnTo(orbit.turn, orbit.rise, orbit.near * 1.25);
  else if (event.key === "-") turnTo(orbit.turn, orbit.rise, orbit.near / 1.25);
  else if (event.key === "0") turnTo(FRONT.turn, FRONT.rise, FRONT.near);
  else return;
  event.preventDefault();
  event.stopPropagation(); // not the slices', nor the zoom of the panes
  announce(one(".ich-surface-from").textContent + ".");
}

export function listenToSurface() {
  const stage = canvas();
  stage.addEventListener("pointerdown", (event) => {
    touches.set(event.pointerId, event);
    stage.setPointerCapture(event.pointerId);
  });
  stage.addEventListener("pointermove", onMove);
  for (const type of ["pointerup", "pointercancel"]) stage.addEventListener(type, (event) => touches.delete(event.pointerId));
  stage.addEventListener("wheel", onWheel, { passive: false });
  stage.addEventListener("keydown", onKey);
  stage.addEventListener("webglcontextlost", (event) => {
    event.preventDefault();
    meshes = []; // gone with the context
  });
  stage.addEventListener("webglcontextrestored", () => {
    gl = undefined;
    surface.n = null;
    rest();
  });
  one(".ich-surface-looks").addEventListener("click", (event) => {
    const look = LOOKS[event.target.dataset.look];
    if (look) turnTo(look[0], look[1]);
  });
  new ResizeObserver(drawSoon).observe(stage);
}

export function toggleSurface() {
  surface.open = !surface.open;
  if (surface.open) startGl();
  if (surface.why) surface.n = null;
  showAll();
}
