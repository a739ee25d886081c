// The lease: for how long the server keeps what this page has open. It is renewed while the page is there, and given back
// when it is closed. A connection that breaks ends nothing.

import { join, tell } from "./hub.js";
import { isAway, serverPath } from "./line.js";
import { state } from "./state.js";

/** @type {string | null} what the server issued with the first scan */
let lease = null;
/** @type {any} */
let renewing = 0;

async function renew() {
  const asked = lease;
  if (!asked || isAway()) return;
  try {
    const body = JSON.stringify({ lease: asked });
    const answer = await fetch(serverPath("/lease"), { method: "POST", body, cache: "no-store" });
    const { held } = await answer.json();
    if (held || asked !== lease || !state.scan) return;
    lease = null;
    tell("gone", "This page was away for so long that the server let its scan go");
  } catch {
    // It does not answer, or a proxy does in its place: the page learns that elsewhere.
  }
}

function giveBack(event) {
  if (event.persisted || !lease) return; // the browser may show the page again as it is
  navigator.sendBeacon(serverPath("/lease"), JSON.stringify({ lease, closed: true }));
}

join({
  start() {
    document.addEventListener("visibilitychange", () => { if (!document.hidden) renew(); });
    window.addEventListener("online", renew);
    window.addEventListener("pagehide", giveBack);
  },
  take(reply) {
    if (!reply.lease || reply.lease === lease) return;
    lease = reply.lease;
    clearInterval(renewing);
    renewing = setInterval(renew, 1000 * reply.renew_seconds);
  },
  gone() { lease = null; },
  back({ another }) {
    if (another) lease = null;
    else renew();
  },
});
