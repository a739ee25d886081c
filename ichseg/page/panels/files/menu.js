// The further downloads, in a menu that keyboard and pointer open alike.

import { all, button, expand, one } from "../../viewer/dom.js";
import { state } from "../../viewer/state.js";

const menu = () => one(".ich-more");
const items = () => all("[role=menuitem]", menu());

function open(on) {
  menu().hidden = !on;
  expand("more", on);
}

export function toggleMenu() {
  open(menu().hidden);
  if (!menu().hidden) items()[0].focus();
}

/** @param {boolean} there whether there is anything to download */
export function showMenu(there) {
  const { dicom, even } = state.scan;
  button("more").disabled = !there;
  if (!there) open(false);
  // A DICOM-SEG refers to DICOM images: of another scan there is none, and the item says so.
  offer(one(".ich-more-dicom"), "dcm", dicom, "refers to the scan; without the patient's name and number", "of a DICOM scan only; this one is NIfTI");
  offer(one(".ich-more-sr"), "sr.dcm", dicom, "the measures, with the DICOM-SEG that they refer to", "of a DICOM scan only; this one is NIfTI");
  offer(one(".ich-more-nrrd"), "seg.nrrd", even, ".seg.nrrd, with names and colours", "of evenly spaced slices only; take the DICOM-SEG");
}

function offer(item, kind, there, what, hindrance) {
  item.setAttribute("aria-disabled", String(!there));
  one("small", item).textContent = there ? what : hindrance;
  if (there) item.dataset.save = kind;
  else delete item.dataset.save;
}

function onKey(event) {
  const every = items(), here = every.indexOf(document.activeElement);
  const to = { ArrowDown: here + 1, ArrowUp: here - 1, Home: 0, End: every.length - 1 }[event.key];
  if (event.key === "Tab") {
    open(false);
    return;
  }
  event.stopPropagation(); // no key of the menu is the viewer's
  if (event.key === "Enter" || event.key === " ") return;
  event.preventDefault();
  if (to !== undefined) every[(to + every.length) % every.length].focus();
  else if (event.key === "Escape") {
    open(false);
    button("more").focus();
  }
}

export function listenToMenu() {
  menu().addEventListener("click", (event) => {
    const item = event.target.closest("[role=menuitem]");
    if (!item || item.getAttribute("aria-disabled") === "true") return;
    open(false);
    button("more").focus();
  });
  menu().addEventListener("keydown", onKey);
  document.addEventListener("pointerdown", (event) => {
    if (!menu().hidden && !/** @type {Element} */ (event.target).closest(".ich-more, [data-do=more]")) open(false);
  });
}
