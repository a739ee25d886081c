// A scan of the study that the page was started for: opened by the key in the page's address, its correction saved.

import { enable, one } from "../../viewer/dom.js";
import { tell } from "../../viewer/hub.js";
import { recordOf } from "../../viewer/kept_marks.js";
import { busy } from "../../viewer/messages.js";
import { ask, isAsked, queue } from "../../viewer/server.js";
import { state } from "../../viewer/state.js";

function openLinked() {
  const key = new URLSearchParams(location.search).get("scan");
  if (!key) return;
  busy({ text: "Opening the scan" });
  ask({ op: "study_open", key });
}

function describe() {
  const { study } = state.scan;
  one(".ich-study").hidden = !study;
  if (study) one(".ich-study p").textContent = "Scan " + study.number + " of the study. Correct what is wrong, then save.";
}

/** @type {import("../../viewer/hub.js").Part} */
export const panel = {
  actions: { study_save: () => ask({ op: "study_save" }) },
  slow: ["study_open", "study_save"],
  start: openLinked,
  opened: describe,
  take({ corrected }) {
    if (corrected && !queue.ops.length) tell("downloaded", recordOf(state)); // it is in a file now
  },
  show: () => enable("study_save", !state.lost && !isAsked("study_save")),
};
