// The line to the server. What is sent waits while nobody answers, and the page learns when another server does.
//
// Gradio takes one request that fails for the end of the page: it sends no more, and reloads once the server is back,
// with all that was drawn. So no failure of the line reaches it: its requests wait here, and go out again.

import { root } from "./dom.js";
import { join, tell } from "./hub.js";
import { isBusy } from "./messages.js";
import { state } from "./state.js";
import { QueueNews } from "./stream.js";

const PULSE_MS = 1000; // between two questions whether a server that was away is back
const PULSE_PATIENCE_MS = 4000;
const IDLE_MS = 15000; // between two questions while nothing else is asked
const UNDER_WAY_MS = 3000; // while a person waits: a server that is gone may leave the line open, and say nothing
const BETWEEN = new Set([502, 503, 504]); // what a proxy says in the place of a server that is away
const API = new URL("../../..", import.meta.url).href; // where Gradio's own routes are, whatever the prefix of the page
const browserFetch = window.fetch.bind(window);
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
let serving = null; // the number of the process that answers
/** @type {Promise<boolean> | null} while none answers: that one does */
let coming = null;

/** The address of one of Gradio's routes, "/file=..." say. */
export const serverPath = (path) => API + path.slice(1);

export const isAway = () => root.dataset.server === "away";

async function askServer() {
  // The number of the process that answers; null where none does.
  try {
    const answer = await browserFetch(serverPath("/app_id"), { cache: "no-store", signal: AbortSignal.timeout(PULSE_PATIENCE_MS) });
    return answer.ok ? (await answer.json()).app_id : null;
  } catch {
    return null;
  }
}

/** Resolves once a server answers, with whether none did; all who wait, wait for the same. */
export function serverBack() {
  coming ??= waitForServer();
  return coming;
}

async function waitForServer() {
  let id = await askServer();
  while (id === null) {
    if (!isAway()) {
      root.dataset.server = "away";
      tell("away");
    }
    await pause(PULSE_MS);
    id = await askServer();
  }
  coming = null;
  const wasAway = isAway();
  delete root.dataset.server;
  const another = serving !== null && id !== serving;
  serving = id;
  if (another || wasAway) tell("back", { another, wasAway });
  return wasAway;
}

async function persist(input, init) {
  // A request that may be sent twice: Python does no operation again.
  for (;;) {
    try {
      const answer = await browserFetch(input, init);
      if (!BETWEEN.has(answer.status) || answer.headers.get("content-type")?.includes("json")) return answer;
    } catch (error) {
      if (error.name === "AbortError") throw error;
    }
    await serverBack();
    await pause(PULSE_MS / 4);
  }
}

async function steadyStream(request) {
  // A stream of answers that ends in order where it breaks: what was under way is then asked again.
  const end = new TextEncoder().encode('data: {"msg":"close_stream"}\n\n');
  const broken = () => serverBack().then(() => tell("broken"));
  let answer = null;
  try {
    answer = await browserFetch(request);
  } catch (error) {
    if (error.name === "AbortError") throw error;
  }
  const reader = answer?.ok ? answer.body.getReader() : null;
  const decoder = new TextDecoder();
  const news = new QueueNews();
  let complete = false;
  const body = new ReadableStream({
    async pull(controller) {
      let part = { done: true, value: undefined };
      try {
        part = await reader.read();
      } catch {
        // It broke, or there is none: it is at its end.
      }
      if (request.signal.aborted) return;
      const text = part.done ? "" : decoder.decode(part.value, { stream: true });
      complete ||= text.includes('"close_stream"');
      const place = news.read(text);
      if (place !== undefined) tell("queued", place);
      // A server that stops says so in its last message.
      if (!part.done && !text.includes('"unexpected_error"')) {
        controller.enqueue(part.value);
        return;
      }
      if (!complete) controller.enqueue(end);
      controller.close();
      if (!complete) broken();
    },
    cancel: (reason) => reader?.cancel(reason),
  });
  return new Response(body, { headers: { "content-type": "text/event-stream" } });
}

function fetchSteadily(input, init) {
  const path = String(input.url ?? input);
  const post = (init?.method ?? input.method) === "POST";
  if (post && (path.startsWith(serverPath("/run/")) || path.startsWith(serverPath("/queue/join")))) return persist(input, init);
  if (input instanceof Request && path.startsWith(serverPath("/queue/data"))) return steadyStream(input);
  return browserFetch(input, init);
}

let asked = 0; // when the server was last asked, in ms

function listenForServer() {
  const waits = isBusy() || Number(root.dataset.pending) > 0;
  const due = performance.now() - asked >= (waits ? UNDER_WAY_MS : IDLE_MS) - UNDER_WAY_MS / 2;
  if (document.hidden || !due || !(waits || (state.scan && !state.lost))) return;
  asked = performance.now();
  serverBack();
}

join({
  start() {
    window.fetch = fetchSteadily;
    serverBack();
    setInterval(listenForServer, UNDER_WAY_MS);
    document.addEventListener("visibilitychange", listenForServer);
  },
});
