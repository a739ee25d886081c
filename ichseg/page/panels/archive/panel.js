// The image archive: a study that is asked for by its UID or accession number, and results that are sent back to it.

import { all, button, enable, one } from "../../viewer/dom.js";
import { resize } from "../../viewer/draw.js";
import { busy, hush } from "../../viewer/messages.js";
import { ask, isAsked } from "../../viewer/server.js";
import { marked, state } from "../../viewer/state.js";
import { confirmLoss, replaceScan } from "../../viewer/upload.js";

const drawer = () => one(".ich-archive");

function open(on) {
  drawer().hidden = !on;
  for (const each of all("[data-do=archive]")) each.setAttribute("aria-expanded", String(on));
  showRoles();
  resize();
  if (on) one(".ich-study").focus();
}

/** Both are offered where there is a baseline to follow up. */
function showRoles() {
  one(".ich-archive-followup").hidden = !state.scan || Boolean(state.lost);
}

function fetchStudy(event) {
  event.preventDefault();
  const wanted = one(".ich-study").value.trim();
  if (!wanted) return;
  const role = event.submitter?.value === "followup" ? "followup" : "baseline";
  const go = () => {
    hush();
    busy({ text: "Asking the archive" });
    ask({ op: "archive", wanted, role });
  };
  if (role === "followup") confirmLoss(state.roles.followup?.marked ?? 0, "the follow-up", go);
  else replaceScan(go);
}

function send() {
  hush();
  busy({ text: "Measuring" });
  ask({ op: "send" });
}

/** @type {import("../../viewer/hub.js").Part} */
export const panel = {
  actions: {
    archive: () => open(drawer().hidden),
    archive_close: () => open(false),
    send,
  },
  slow: ["send"],
  start() {
    one("form", drawer()).addEventListener("submit", fetchStudy);
  },
  opened() {
    open(false);
    one(".ich-study").value = ""; // nobody who comes later reads whose study it was
  },
  show() {
    button("send").hidden = !state.scan?.archive;
    enable("send", marked().length > 0 && !state.lost && !isAsked("send"));
    showRoles();
  },
};
