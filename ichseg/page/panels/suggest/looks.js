// What the boxes of the slice on screen look like, where that is no blood.

import { announceAlso, one } from "../../viewer/dom.js";
import { isAsked } from "../../viewer/server.js";
import { here, state } from "../../viewer/state.js";

const looking = {
  /** what the answer that is here was asked for */
  asked: "",
  text: "",
};

function key() {
  // What it depends on: the slice, its boxes, and what the left pane's method made of them.
  const { boxes, masks, ml } = here();
  const { models } = state;
  return Object.keys(boxes).length && masks[models[0]] ? JSON.stringify([state.scan.token, state.k, boxes, ml[models[0]], models[0]]) : "";
}

export const looksWanted = () => Boolean(state.scan && !isAsked("boxes", "complete") && key() && looking.asked !== key());

export function takeLooks({ slice, told }) {
  if (slice !== state.k) return;
  const before = looking.text;
  looking.asked = key();
  looking.text = told.map(({ text }) => text).join(" ");
  if (looking.text && looking.text !== before) announceAlso(looking.text);
}

export function showLooks() {
  const line = one(".ich-looks");
  const text = looking.asked === key() ? looking.text : "";
  line.hidden = !text;
  line.textContent = text && text + " The mask stays; undo or delete the box if it is no blood.";
}
