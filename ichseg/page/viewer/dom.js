// The page's markup: finding and making parts of it.

import { darkened } from "./colours.js";
import { sentence } from "./numbers.js";

/** The viewer; the modules are fetched once it stands. */
export const root = /** @type {HTMLElement} */ (document.querySelector(".ich"));

/** @returns {any} the first element that a selector of our own markup finds */
export const one = (selector, within = root) => within.querySelector(selector);
/** @returns {any[]} */
export const all = (selector, within = root) => [...within.querySelectorAll(selector)];
/** @returns {any} a new element */
export const make = (tag, text, attributes = {}) => Object.assign(document.createElement(tag), { textContent: text, ...attributes });

/** The button that does `name`. */
export const button = (name, within = root) => one("[data-do=" + name + "]", within);
export function enable(name, enabled) {
  const it = button(name);
  const had = it === document.activeElement;
  it.disabled = !enabled;
  if (had && !enabled) focusViewer(); // nobody is left at a button that can no longer be pressed
}
export const press = (name, on) => button(name).setAttribute("aria-pressed", String(Boolean(on)));
export const expand = (name, open) => button(name).setAttribute("aria-expanded", String(Boolean(open)));

let saying = false; // whether something was said a moment ago, in answer to the same event

/** What a screen reader says. */
export function announce(text) {
  one(".ich-hidden").textContent = text;
  saying = true;
  setTimeout(() => { saying = false; });
}

/** What a screen reader says after what it was told of the same event. */
export const announceAlso = (text) => announce(saying ? one(".ich-hidden").textContent + " " + text : text);

/** A colour of the style sheet. */
export const ink = (name) => getComputedStyle(root).getPropertyValue(name).trim();
/** A method's or a lesion's colour as it can be read on the page's ground. */
export const inkOf = (colour) => darkened(colour, ink("--ich-surface"));

/** @type {any[]} the panes on the page, from left to right (panes.js makes them) */
export const panes = [];

/** Whether the keys go to the slices: a pane has the focus, or the slider. */
export const viewerHasFocus = () => Boolean(document.activeElement?.closest(".ich-stage canvas, .ich-slider"));
export const focusViewer = () => panes[0]?.canvas.focus({ preventScroll: true });

export const listOf = (notes) => notes.map((text) => make("li", sentence(text)));

/** What is in doubt of a number, beside it; a screen reader has heard it once. */
export function doubts(notes) {
  const list = make("ul", "", { className: "ich-caution ich-doubts" });
  list.append(...listOf(notes));
  list.hidden = !notes.length;
  return list;
}

/** Keep a switch until the browser's tab is closed, or as long as the page where a browser keeps nothing. */
export function remember(name, on) {
  try {
    sessionStorage.setItem(name, String(on));
  } catch {
    // a person's setting: then it is as it was when the page is loaded again
  }
}

export function recall(name) {
  try {
    return sessionStorage.getItem(name) === "true";
  } catch {
    return false;
  }
}

/** Have `action` take the files that a person chooses with a file input. */
export function onFiles(selector, action) {
  one(selector).addEventListener("change", (event) => {
    const files = [...event.target.files];
    event.target.value = ""; // the same file may be chosen again
    if (files.length) action(files);
  });
}
