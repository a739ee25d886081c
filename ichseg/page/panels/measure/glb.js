// Of glTF 2 what Python writes: a mesh of one primitive a node, float positions and normals, and indices.

const ARRAYS = { 5126: Float32Array, 5125: Uint32Array, 5123: Uint16Array };
const HEADER_BYTES = 12, CHUNK_HEADER_BYTES = 8;

/**
 * @param {ArrayBuffer} content of a .glb file
 * @returns {{ points: Float32Array, normals: Float32Array, indices: Uint32Array, colour: number[], clear: boolean }[]}
 *   what hides first, then what is seen through
 */
export function meshesOf(content) {
  const start = HEADER_BYTES + CHUNK_HEADER_BYTES;
  const size = new DataView(content).getUint32(HEADER_BYTES, true);
  const tree = JSON.parse(new TextDecoder().decode(new Uint8Array(content, start, size)));
  const binary = start + size + CHUNK_HEADER_BYTES;
  const read = (index) => {
    const { bufferView, byteOffset = 0, componentType, count, type } = tree.accessors[index];
    const at = binary + (tree.bufferViews[bufferView].byteOffset ?? 0) + byteOffset;
    const kind = ARRAYS[componentType], length = count * (type === "VEC3" ? 3 : 1);
    return new kind(content.slice(at, at + length * kind.BYTES_PER_ELEMENT));
  };
  return tree.meshes
    .map(({ primitives: [{ attributes, indices, material }] }) => ({
      points: read(attributes.POSITION),
      normals: read(attributes.NORMAL),
      indices: new Uint32Array(read(indices)),
      colour: tree.materials[material].pbrMetallicRoughness.baseColorFactor,
      clear: tree.materials[material].alphaMode === "BLEND",
    }))
    .sort((a, b) => Number(a.clear) - Number(b.clear));
}

/** The middle of the box around all points, and half its diagonal. */
export function extentOf(meshes) {
  const low = [Infinity, Infinity, Infinity], high = [-Infinity, -Infinity, -Infinity];
  for (const { points } of meshes) {
    for (let i = 0; i < points.length; i++) {
      low[i % 3] = Math.min(low[i % 3], points[i]);
      high[i % 3] = Math.max(high[i % 3], points[i]);
    }
  }
  return { middle: low.map((value, axis) => (value + high[axis]) / 2), radius: Math.hypot(...low.map((value, axis) => high[axis] - value)) / 2 };
}
