// The page's markup: finding and making parts of it.

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
export const enable = (name, enabled) => { button(name).disabled = !enabled; };
export const press = (name, on) => button(name).setAttribute("aria-pressed", String(Boolean(on)));
export const expand = (name, open) => button(name).setAttribute("aria-expanded", String(Boolean(open)));

/** What a screen reader says. */
export const announce = (text) => { one(".ich-hidden").textContent = text; };

/** A colour of the style sheet. */
export const ink = (name) => getComputedStyle(root).getPropertyValue(name).trim();
/** The colours of the panes: the first two, then those that the comparison adds. */
export const colours = [ink("--ich-model"), ink("--ich-baseline"), "#d0a2ff", "#8be28b", "#ff8fa3", "#f4e285", "#7fd1c7", "#ffa870", "#b0c4ff", "#e0e0e0"];
export const colourOfPane = (index) => colours[index % colours.length];

/** @type {any[]} the panes on the page, from left to right (panes.js makes them) */
export const panes = [];

export const listOf = (notes) => notes.map((text) => make("li", sentence(text)));

/** What is in doubt of a number, beside it; a screen reader has heard it once. */
export function doubts(notes) {
  const list = make("ul", "", { className: "ich-caution ich-doubts" });
  list.append(...listOf(notes));
  list.hidden = !notes.length;
  return list;
}

/** Have `action` take the files that a person chooses with a file input. */
export function onFiles(selector, action) {
  one(selector).addEventListener("change", (event) => {
    const files = [...event.target.files];
    event.target.value = ""; // the same file may be chosen again
    if (files.length) action(files);
  });
}
