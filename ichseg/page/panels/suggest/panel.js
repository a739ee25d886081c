// Proposals: listed strongest first, stepped through with the slice in view, accepted, dismissed or adjusted.

import { announce, announceAlso, enable, expand, make, one } from "../../viewer/dom.js";
import { draw, resize } from "../../viewer/draw.js";
import { handleAt, reshape } from "../../viewer/geometry.js";
import { showAll } from "../../viewer/hub.js";
import { goTo } from "../../viewer/navigate.js";
import { number, plural } from "../../viewer/numbers.js";
import { ask, isAsked } from "../../viewer/server.js";
import { state } from "../../viewer/state.js";
import { looksWanted, showLooks, takeLooks } from "./looks.js";
import { drawProposals } from "./paint.js";
import { extentText, isAccepted, nextOpen, suggesting, sureText } from "./proposals.js";
import { forgetLikely, likelyWanted, lookAgain, showLikely, takeLikely, tintStrip } from "./strip.js";

const REACH_PX = { touch: 20, mouse: 7 };
let shown = ""; // what the list shows
let lastKey = 0;

const accepted = (proposal) => isAccepted(proposal, state.lesions, state.slices);
const isOpen = (proposal) => !proposal.dismissed && !accepted(proposal);
const current = () => suggesting.list?.[suggesting.at];
const openOnes = () => (suggesting.list ?? []).filter(isOpen);

// Asking

function suggest() {
  if (!state.scan || state.lost || isAsked("suggest", "accept")) return;
  suggesting.open = true;
  if (suggesting.list) step();
  else ask({ op: "suggest" });
  showAll();
  resize();
}

function again() {
  if (!isAsked("suggest", "accept")) ask({ op: "suggest" });
}

function takeProposals({ found, model, text }) {
  suggesting.list = found.map((told) => ({
    key: ++lastKey, score: told.score, ml: told.ml, show: told.show, lesion: null, dismissed: false,
    slices: new Map(Object.entries(told.slices).map(([k, boxes]) => [Number(k), boxes])),
  }));
  Object.assign(suggesting, { open: true, model, text, at: -1, draft: null });
  lookAgain();
  if (found.length) step(plural(found.length, "proposal") + ". ");
  else announce(text);
}

function close() {
  suggesting.open = false;
  showAll();
  resize();
}

// Stepping through

function show(at, before = "") {
  suggesting.at = at;
  suggesting.draft = null;
  const proposal = current();
  if (!proposal) return;
  goTo(proposal.show);
  announce(before + "Proposal " + (at + 1) + " of " + suggesting.list.length + ": slice " + (proposal.show + 1) + ", " + described(proposal) + ". A accepts it, R dismisses it, S goes to the next.");
  showAll();
}

function step(before = "") {
  const at = nextOpen(suggesting.list, suggesting.at, isOpen);
  if (at >= 0) show(at, before);
  else {
    suggesting.at = -1;
    announce(before + "No proposal is open.");
    showAll();
  }
}

function accept(proposals, follow = false) {
  const open = proposals.filter(isOpen);
  if (!open.length || isAsked("suggest", "accept")) return;
  if (follow) for (const { key } of open) suggesting.following.add(key);
  ask({ op: "accept", proposals: open.map(({ key, slices }) => ({ key, slices: [...slices].map(([slice, boxes]) => ({ slice, boxes })) })) });
}

function acceptCurrent() {
  if (suggesting.open && current()) accept([current()]);
}

function dismiss(proposal) {
  proposal.dismissed = !proposal.dismissed;
  if (proposal.dismissed) step("Dismissed. ");
  else showAll();
}

function dismissCurrent() {
  if (suggesting.open && current() && isOpen(current())) dismiss(current());
}

function takeAccepted(pairs) {
  const lesions = new Map(pairs);
  for (const proposal of suggesting.list ?? []) {
    const lesion = lesions.get(proposal.key);
    if (lesion === undefined) continue;
    proposal.lesion = lesion;
    if (suggesting.following.delete(proposal.key)) ask({ op: "propagate", lesion });
  }
  announceAlso(plural(pairs.length, "proposal") + " accepted.");
  // The slice of one that was accepted stays in view while its masks are looked at; the next one is a key away.
  suggesting.at = -1;
}

// Adjusting

function boxAt(point, event) {
  const proposal = current();
  if (!suggesting.open || !proposal || !isOpen(proposal) || event.shiftKey || state.tool !== "box") return null;
  const boxes = proposal.slices.get(state.k) ?? [];
  for (const [index, box] of boxes.entries()) {
    const handle = handleAt(box, point, REACH_PX[event.pointerType] ?? REACH_PX.mouse);
    if (handle) return { proposal, index, box, handle };
  }
  return null;
}

function grab(from, _, event) {
  const hit = boxAt(from, event);
  if (!hit) return null;
  const { proposal, index, box, handle } = hit;
  return {
    kind: "proposal",
    move(point) {
      suggesting.draft = { index, box: reshape(box, handle, point.x - from.x, point.y - from.y, state.scan.shape) };
      draw();
    },
    end() {
      const { draft } = suggesting;
      suggesting.draft = null;
      if (!draft || String(draft.box) === String(box)) return;
      proposal.slices.set(state.k, proposal.slices.get(state.k).map((before, place) => (place === index ? draft.box : before)));
      proposal.ml = null;
      showAll();
    },
  };
}

// What is shown

function described({ score, ml, slices }) {
  return (ml === null ? "adjusted" : number(ml) + " mL") + ", " + sureText(score) + ", on " + extentText([...slices.keys()]);
}

function rowOf(proposal, index) {
  const row = one(".ich-suggest-template").content.firstElementChild.cloneNode(true);
  const kind = accepted(proposal) ? "accepted" : proposal.dismissed ? "dismissed" : "open";
  row.dataset.state = kind;
  const part = (what) => {
    const node = one("[data-part=" + what + "]", row);
    node.dataset.focus = what + "-" + proposal.key;
    return node;
  };
  const title = part("show");
  title.textContent = index + 1 + " · " + described(proposal) + (kind === "open" ? "" : " · " + kind);
  title.setAttribute("aria-current", String(index === suggesting.at));
  title.title = "--slice " + proposal.show + " --box " + proposal.slices.get(proposal.show)[0].join();
  title.addEventListener("click", () => show(index));
  const take = part("accept");
  take.setAttribute("aria-label", "Accept proposal " + (index + 1));
  take.disabled = kind !== "open";
  take.addEventListener("click", () => accept([proposal]));
  const leave = part("dismiss");
  leave.setAttribute("aria-label", (kind === "dismissed" ? "Take up proposal " : "Dismiss proposal ") + (index + 1));
  leave.textContent = kind === "dismissed" ? "Take up" : "Dismiss";
  leave.disabled = kind === "accepted";
  leave.addEventListener("click", () => dismiss(proposal));
  return row;
}

function refocus(node) {
  // What can no longer be pressed gives the focus to its row's own button.
  (node?.disabled ? one("[data-part=show]", node.closest("li")) : node)?.focus();
}

function showList() {
  const { list, at, text, model } = suggesting;
  const want = JSON.stringify([at, text, (list ?? []).map((proposal) => [proposal.key, proposal.ml, proposal.dismissed, accepted(proposal)])]);
  if (want === shown) return;
  shown = want;
  const focus = /** @type {HTMLElement} */ (document.activeElement)?.dataset?.focus;
  one(".ich-suggest-list").replaceChildren(...(list ?? []).map(rowOf));
  if (focus) refocus(one(".ich-suggest-list [data-focus='" + focus + "']"));
  const says = one(".ich-suggest-says");
  says.textContent = list ? text : "Looking for blood…";
  if (list?.length) says.append(make("span", " Millilitres are those of " + model + "; a proposal's type is not told."));
}

function showPanel() {
  const isShown = suggesting.open && !state.lost;
  one("#ich-suggest").hidden = !isShown;
  enable("suggest", !state.lost);
  expand("suggest", isShown);
  showLikely();
  showLooks();
  if (!isShown) return;
  showList();
  const some = openOnes().length > 0;
  enable("accept_all", some);
  enable("accept_follow", some);
}

/** @type {import("../../viewer/hub.js").Part} */
export const panel = {
  actions: {
    suggest,
    suggest_again: again,
    suggest_close: close,
    accept_all: () => accept(openOnes()),
    accept_follow: () => accept(openOnes(), true),
  },
  keys: { s: suggest, a: acceptCurrent, r: dismissCurrent },
  slow: ["suggest", "accept"],
  opened() {
    Object.assign(suggesting, { open: false, list: null, at: -1, text: "", draft: null });
    suggesting.following.clear();
    shown = "";
    forgetLikely();
  },
  take(reply) {
    if (reply.proposals) takeProposals(reply.proposals);
    if (reply.accepted) takeAccepted(reply.accepted);
    if ((reply.error || reply.cancelled) && !suggesting.list) suggesting.open = false;
  },
  abandon() { suggesting.draft = null; },
  grab,
  cursor: (point, _, event) => (boxAt(point, event) ? "move" : null),
  draw: (context, _, place) => { drawProposals(context, place, isOpen); },
  drawStrip: tintStrip,
  wants: () => likelyWanted() || looksWanted(),
  request: () => ({ likely: likelyWanted(), looks: looksWanted() }),
  takeAside({ likely, looks }, now) {
    if (likely) takeLikely(likely);
    if (looks && now) takeLooks(looks);
  },
  show: showPanel,
  slice: showPanel,
};
