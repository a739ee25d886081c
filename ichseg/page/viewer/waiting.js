// What a person is told who waits while others are served: the place in Gradio's queue, or, on the lane without one, how
// many wait.

import { announce } from "./dom.js";
import { join, tell } from "./hub.js";
import { serverPath } from "./line.js";
import { standInLine } from "./messages.js";
import { isLong, queue } from "./server.js";
import { queueSentence, waitSentence } from "./said.js";
import { standing } from "./state.js";

const GLANCE_MS = 400; // a place in the queue that is held for less is not worth saying
const MOMENT_MS = 1500, AGAIN_MS = 2000; // an answer is waited for after the first; asked again after the second
/** @type {any} */
let timer = 0;
/** @type {any} */
let glance = 0;
let inLine = false;

function say(text) {
  if (text === standing.text) return;
  if (!standing.text) announce(text); // once: the number changes often
  standing.text = text;
  tell("showState");
}

function expect(ms = MOMENT_MS) {
  clearTimeout(timer);
  if (queue.ops.length && !isLong()) timer = setTimeout(askHowMany, ms);
}

async function askHowMany() {
  const [first] = queue.ops;
  try {
    const answer = await fetch(serverPath("/waiting"), { cache: "no-store" });
    const waiting = await answer.json();
    if (first && first === queue.ops[0]) say(waitSentence(waiting));
  } catch {
    // It does not answer: that is said elsewhere.
  }
  expect(AGAIN_MS);
}

function forget() {
  clearTimeout(timer);
  say("");
  takePlace(null);
}

function takePlace(place) {
  clearTimeout(glance);
  if (!place) {
    if (inLine) standInLine("");
    inLine = false;
    return;
  }
  const show = () => {
    if (!inLine) announce(queueSentence(place));
    inLine = true;
    standInLine(queueSentence(place));
  };
  if (inLine) show();
  else glance = setTimeout(show, GLANCE_MS);
}

join({
  asked: () => { if (!queue.ops.length) setTimeout(expect); },
  take() {
    say("");
    expect();
  },
  queued: takePlace,
  away: forget,
  gone: forget,
  back: () => expect(),
});
