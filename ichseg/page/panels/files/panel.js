// Downloads, and what a person calls a scan in them.

import { all, one, root } from "../../viewer/dom.js";
import { saveKept } from "../../viewer/kept.js";
import { serverPath } from "../../viewer/line.js";
import { ask } from "../../viewer/server.js";
import { marked, otherScan, shown, state } from "../../viewer/state.js";
import { listenToMenu, showMenu, toggleMenu } from "./menu.js";

function download(kind) {
  const { scan, labels, models, k, lost } = state;
  if (lost && kind === "record") {
    saveKept();
    return;
  }
  const other_label = labels.get(otherScan()?.case) ?? "";
  const opacity = shown.fill ? shown.opacity : 0;
  ask({ op: "export", kind, label: labels.get(scan.token) ?? "", other_label, model: models[0], slice: k, width: shown.width, level: shown.level, opacity });
}

function save({ path, name, beside = [] }) {
  const link = document.createElement("a");
  link.href = serverPath("/file=" + path);
  link.download = name;
  link.click();
  beside.forEach(save);
}

function show() {
  // While the scan is lost all but the session is the server's work.
  const { lost } = state;
  const some = marked().length > 0;
  for (const button of all("[data-save]")) {
    const { save: kind } = button.dataset;
    button.disabled = lost ? kind !== "record" || !some : kind !== "picture" && !some;
  }
  showMenu(some && !lost);
}

function describe() {
  const { scan, labels } = state;
  const label = one(".ich-label");
  label.value = labels.get(scan.token) ?? "";
  label.placeholder = scan.record.scan.sha256.slice(0, 8);
  one("[data-save=mask]").title = scan.even
    ? "The left pane's mask as NIfTI on the scan's own grid"
    : "The left pane's mask as a zip of PNG slices: NIfTI cannot hold uneven slices";
  one(".ich-seg-first").hidden = !scan.dicom || (!scan.tilted && scan.even);
}

/** @type {import("../../viewer/hub.js").Part} */
export const panel = {
  actions: { more: toggleMenu },
  slow: ["export"],
  start() {
    root.addEventListener("click", (event) => {
      const kind = /** @type {Element} */ (event.target).closest("button")?.dataset.save;
      if (kind) download(kind);
    });
    one(".ich-label").addEventListener("change", (event) => state.labels.set(state.scan.token, event.target.value.trim()));
    listenToMenu();
  },
  opened: describe,
  take(reply) {
    if (reply.download) save(reply.download);
  },
  show,
};
