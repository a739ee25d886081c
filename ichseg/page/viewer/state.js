// The viewer. Gradio runs this once as a function body, with `element`, `trigger`, `props` and `watch`.
// The scan is fetched once and windowed here; Python is asked only for masks, files and numbers.
"use strict";

const one = (selector, within = element) => within.querySelector(selector);
const all = (selector, within = element) => [...within.querySelectorAll(selector)];
const make = (tag, text, attributes = {}) => Object.assign(document.createElement(tag), { textContent: text, ...attributes });
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

const root = one(".ich");
const slider = one(".ich-slider");
const strip = one(".ich-strip");
const live = one(".ich-hidden");
const panes = []; // what makePane made, from left to right
const ink = (name) => getComputedStyle(root).getPropertyValue(name).trim();
// Of the panes: the first two, then those that the comparison adds.
const colours = [ink("--ich-model"), ink("--ich-baseline"), "#d0a2ff", "#8be28b", "#ff8fa3", "#f4e285", "#7fd1c7", "#ffa870", "#b0c4ff", "#e0e0e0"];

let scan = null; // {token, hu: Int16Array, shape: [z, y, x], spacing: [z, y, x], name}
let k = 0; // the slice on screen, from 0
let models = []; // the methods of the panes, left and right
let lesions = []; // [{id, name, type, colour, locked, visible, blood, ml, stops}]; ml and stops are the left pane's
let lesion = 1; // the one that boxes and corrections go to
// k -> {n, boxes: {lesion: [[x0, y0, x1, y1]]}, masks: {model: {lesion: Mask}}, ml: {model: mL}, origin: {lesion: from}, rough: [model]}
let slices = new Map();
let totals = {};
let runs = {}; // model -> the back end that computes it, for people
let history = { undo: false, redo: false };
let edge = true; // whether the edge at half height is drawn on what boxes give
let trouble = {}; // model -> what went wrong with it
const shown = { width: 80, level: 40, masks: true, fill: false, opacity: 0.35 };
const view = { zoom: 1, x: 0.5, y: 0.5 }; // the centre of the view in fractions of the slice
let selected = -1; // a box of this slice and lesion
let draft = null; // a box being made or changed: {box, index (-1 for a new one), keys}
let pointer = null; // where the mouse is, in pixels of the slice

const here = () => slices.get(k) || { boxes: {}, masks: {}, ml: {}, origin: {} };
const boxesHere = () => here().boxes[lesion] ?? [];
const isMarked = ({ boxes, origin }) => Object.keys(boxes).length > 0 || Object.values(origin).some(Boolean);
const marked = () => [...slices.keys()].filter((slice) => isMarked(slices.get(slice)));
const lesionHere = () => lesions.find(({ id }) => id === lesion);
