// Meshes in WebGL 2: one program, drawn opaque or seen through.

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

/** @param {WebGL2RenderingContext} gl */
export function makeProgram(gl) {
  const program = gl.createProgram();
  /** @type {[number, string][]} */
  const shaders = [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]];
  for (const [kind, text] of shaders) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, text);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  return program;
}

/** @param {WebGL2RenderingContext} gl */
export function uploadMesh(gl, { points, normals, indices, colour, clear }) {
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
  gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, indices, gl.STATIC_DRAW);
  gl.bindVertexArray(null);
  return { array, buffers: [...buffers, order], count: indices.length, colour, clear };
}

export function freeMesh(gl, { array, buffers }) {
  gl.deleteVertexArray(array);
  for (const buffer of buffers) gl.deleteBuffer(buffer);
}

/** @param {WebGL2RenderingContext} gl */
export function paintMeshes(gl, program, meshes, { view, lens }) {
  gl.viewport(0, 0, gl.canvas.width, gl.canvas.height);
  gl.clearColor(0, 0, 0, 1);
  gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
  gl.useProgram(program);
  gl.enable(gl.DEPTH_TEST);
  gl.enable(gl.BLEND);
  gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
  const place = (name) => gl.getUniformLocation(program, name);
  gl.uniformMatrix4fv(place("view"), false, view);
  gl.uniformMatrix4fv(place("lens"), false, lens);
  for (const { array, count, colour, clear } of meshes) {
    gl.depthMask(!clear);
    gl.uniform4fv(place("colour"), colour);
    gl.uniform1i(place("clear"), Number(clear));
    gl.bindVertexArray(array);
    gl.drawElements(gl.TRIANGLES, count, gl.UNSIGNED_INT, 0);
  }
  gl.depthMask(true);
}
