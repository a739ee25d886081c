import assert from "node:assert/strict";
import { test } from "node:test";

import { camera, seenFrom } from "../../../ichseg/page/panels/measure/camera.js";
import { extentOf, meshesOf } from "../../../ichseg/page/panels/measure/glb.js";

function glb() {
  // One triangle that is seen through, then one that is not, with 16-bit indices.
  const points = new Float32Array([0, 0, 0, 4, 0, 0, 0, 3, 0]), normals = new Float32Array([0, 0, 1, 0, 0, 1, 0, 0, 1]);
  const order = new Uint16Array([0, 1, 2]);
  const view = (byteOffset, byteLength) => ({ buffer: 0, byteOffset, byteLength });
  const mesh = (material) => ({ primitives: [{ attributes: { POSITION: 0, NORMAL: 1 }, indices: 2, material }] });
  const tree = {
    meshes: [mesh(0), mesh(1)],
    materials: [{ alphaMode: "BLEND", pbrMetallicRoughness: { baseColorFactor: [1, 1, 1, 0.2] } }, { pbrMetallicRoughness: { baseColorFactor: [1, 0, 0, 1] } }],
    accessors: [{ bufferView: 0, componentType: 5126, count: 3, type: "VEC3" }, { bufferView: 1, componentType: 5126, count: 3, type: "VEC3" }, { bufferView: 2, componentType: 5123, count: 3, type: "SCALAR" }],
    bufferViews: [view(0, 36), view(36, 36), view(72, 6)],
  };
  let text = JSON.stringify(tree);
  text += " ".repeat((4 - (text.length % 4)) % 4);
  const content = Buffer.concat([Buffer.alloc(12), Buffer.alloc(8), Buffer.from(text), Buffer.alloc(8), ...[points, normals, order].map((part) => Buffer.from(part.buffer))]);
  content.writeUInt32LE(text.length, 12);
  return content.buffer.slice(content.byteOffset, content.byteOffset + content.length);
}

test("meshes are read from a GLB, what hides before what is seen through", () => {
  const [solid, clear] = meshesOf(glb());
  assert.deepEqual([solid.clear, clear.clear], [false, true]);
  assert.deepEqual(solid.colour, [1, 0, 0, 1]);
  assert.deepEqual([...solid.points], [0, 0, 0, 4, 0, 0, 0, 3, 0]);
  assert.deepEqual([...solid.normals.slice(0, 3)], [0, 0, 1]);
  assert.deepEqual([...solid.indices], [0, 1, 2]);
});

test("the extent is the middle of the box and half its diagonal", () => {
  assert.deepEqual(extentOf(meshesOf(glb())), { middle: [2, 1.5, 0], radius: 2.5 });
});

test("seen from the front, the middle is ahead and the patient's left to the right", () => {
  const extent = { middle: [10, 20, 30], radius: 5 };
  const { view } = camera({ turn: 0, rise: 0, near: 1 }, extent, 1);
  const at = ([x, y, z]) => [0, 1, 2].map((row) => view[row] * x + view[4 + row] * y + view[8 + row] * z + view[12 + row]);
  const [mx, my, mz] = at(extent.middle);
  assert.ok(Math.abs(mx) < 1e-4 && Math.abs(my) < 1e-4 && mz < -extent.radius);
  assert.ok(at([11, 20, 30])[0] > mx); // +x is the patient's left
  assert.ok(at([10, 21, 30])[1] > my);
});

test("nearer is nearer", () => {
  const extent = { middle: [0, 0, 0], radius: 5 };
  const depth = (near) => camera({ turn: 0, rise: 0, near }, extent, 1).view[14];
  assert.ok(Math.abs(depth(2) - depth(1) / 2) < 1e-4);
});

test("from where it is seen, in words", () => {
  const from = (turn, rise = 0) => seenFrom({ turn, rise });
  assert.deepEqual([from(0), from(90), from(-90), from(180), from(30), from(405), from(0, 89), from(0, -80)],
    ["the front", "the left", "the right", "the back", "the front and left", "the front and left", "above", "below"]);
});
