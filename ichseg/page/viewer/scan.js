// The scan: fetched once, described.

async function fetchScan(description, reply) {
  busy({ text: "Loading the scan", part: 0 });
  try {
    const voxels = description.voxels
      ? await fetchVoxels(serverPath("/file=" + description.voxels), description.shape)
      : voxelsOf.get(reply.case);
    adopt(description, voxels, reply);
  } catch (error) {
    complain(
      { text: "The scan could not be fetched from the server; check the connection and try again." },
      () => fetchScan(description, reply), "Try again",
    );
  }
  busy(null);
}

async function fetchVoxels(url, [depth, rows, columns]) {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(answer.statusText);
  const size = Number(answer.headers.get("content-length")) || 0;
  let got = 0;
  const counted = new TransformStream({
    transform(chunk, controller) {
      got += chunk.length;
      if (size) busy({ text: "Loading the scan", part: got / size });
      controller.enqueue(chunk);
    },
  });
  const plain = answer.body.pipeThrough(counted).pipeThrough(new DecompressionStream("gzip"));
  const hu = new Int16Array(await new Response(plain).arrayBuffer());
  if (hu.length !== depth * rows * columns) throw new Error("truncated");
  for (let row = 0; row < hu.length; row += columns) {
    for (let i = row + 1; i < row + columns; i++) hu[i] += hu[i - 1]; // rows come as differences
  }
  return hu;
}

function adopt(description, hu, reply) {
  findAgain();
  scan = { ...description, token: reply.case, hu };
  voxelsOf.set(scan.token, hu);
  slices = new Map();
  models = reply.models;
  k = places.get(scan.token) ?? Math.floor(scan.shape[0] / 2);
  forgetComparison();
  lesion = lesions[0]?.id ?? 1;
  selected = -1;
  draft = null;
  Object.assign(view, { zoom: 1, x: 0.5, y: 0.5 });
  base.width = scan.shape[2];
  base.height = scan.shape[1];
  painted = "";
  slider.max = scan.shape[0];
  root.dataset.state = "ready";
  root.dataset.case = scan.token;
  for (const [key, state] of Object.entries(reply.slices)) keepSlice(Number(key), state);
  if (reply.truth !== undefined) takeTruth(reply.truth);
  if (!reply.error) hush();
  describe();
  resize();
  showAll();
  noteOpened();
  ask({ op: "fetched" });
  live.textContent = (roles.followup ? ROLE_TITLES[role] + " loaded: " : "Scan loaded: ") + scan.name + ", " + scan.shape[0] + " slices.";
  panes[0].canvas.focus({ preventScroll: true });
  showKept();
}

const sentence = (note) => note[0].toUpperCase() + note.slice(1).replace(/[.]?$/, ".");
const listOf = (sentences) => sentences.map((text) => make("li", sentence(text)));

function showWarnings() {
  // What is in doubt of this scan's millilitres; of the other scan's the follow-up says it beside the growth.
  const strip = one(".ich-warnings");
  strip.hidden = !scan.warnings.length;
  one("ul", strip).replaceChildren(...listOf(scan.warnings));
  if (scan.warnings.length) root.dataset.doubtful = "true";
  else delete root.dataset.doubtful;
}

function doubts(sentences) {
  // They stand beside a number again; a screen reader has heard them once.
  const list = make("ul", "", { className: "ich-doubts" });
  list.append(...listOf(sentences));
  list.hidden = !sentences.length;
  return list;
}

function showTilt() {
  // An affine of slices that are stacked aslant is sheared; of uneven ones there is none.
  one("[data-save=mask]").title = scan.even
    ? "The left pane's mask as NIfTI on the scan's own grid"
    : "The left pane's mask as a zip of PNG slices: NIfTI cannot hold uneven slices";
  const note = one(".ich-tilted"), odd = scan.tilted || !scan.even;
  note.hidden = !odd;
  one(".ich-seg-first").hidden = !odd || !scan.dicom;
  const what = scan.tilted ? "stacked aslant" : "unevenly spaced";
  const why = scan.even
    ? "programs built on ITK (ITK-SNAP, 3D Slicer, elastix) refuse a NIfTI file of such slices, or show it at another angle"
    : "NIfTI cannot hold slices that are unevenly spaced";
  const first = scan.dicom ? "Take the DICOM-SEG, which holds every slice where it is" : "Take the copy where another program needs one";
  one("span", note).textContent = "The slices are " + what + ". " + first + ": " + why + ". For programs that need a NIfTI file there is a resampled copy of scan and mask; its millilitres differ a little.";
}

function describe() {
  const [depth, rows, columns] = scan.shape;
  const [dz, dy, dx] = scan.spacing.map((mm) => String(Number(mm.toFixed(2))));
  one(".ich-scan").textContent = scan.name;
  one(".ich-grid").textContent = columns + " × " + rows + " × " + depth + ", " + dx + " × " + dy + " × " + dz + " mm";
  showWarnings();
  one(".ich-notes").textContent = scan.notes.map(sentence).join(" ");
  showTilt();
  one(".ich-label").value = labels.get(scan.token) ?? "";
  one(".ich-label").placeholder = scan.record.scan.sha256.slice(0, 8);
  showOtherSeries();
}
