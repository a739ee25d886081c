// The further downloads, in a menu that keyboard and pointer open alike.

const more = one(".ich-more");
const moreButton = one("[data-do=more]");
const moreItems = () => all("[role=menuitem]", more);

function openMore(open) {
  more.hidden = !open;
  moreButton.setAttribute("aria-expanded", String(open));
}

function showMore() {
  moreButton.disabled = !marked().length;
  if (moreButton.disabled) openMore(false);
  // A DICOM-SEG refers to DICOM images: of another scan there is none, and the item says so.
  offer(one(".ich-more-dicom"), "dcm", scan.dicom, "refers to the scan; without the patient's name and number", "of a DICOM scan only; this one is NIfTI");
  offer(one(".ich-more-nrrd"), "seg.nrrd", scan.even, ".seg.nrrd, with names and colours", "of evenly spaced slices only; take the DICOM-SEG");
}

function offer(item, kind, there, what, hindrance) {
  item.setAttribute("aria-disabled", String(!there));
  one("small", item).textContent = there ? what : hindrance;
  if (there) item.dataset.save = kind;
  else delete item.dataset.save;
}

DO.more = () => {
  openMore(more.hidden);
  if (!more.hidden) moreItems()[0].focus();
};

more.addEventListener("click", (event) => {
  const item = event.target.closest("[role=menuitem]");
  if (!item || item.getAttribute("aria-disabled") === "true") return;
  openMore(false);
  moreButton.focus();
});
more.addEventListener("keydown", (event) => {
  const items = moreItems(), here = items.indexOf(document.activeElement);
  const to = { ArrowDown: here + 1, ArrowUp: here - 1, Home: 0, End: items.length - 1 }[event.key];
  if (to !== undefined) items[(to + items.length) % items.length].focus();
  else if (event.key === "Escape") {
    openMore(false);
    moreButton.focus();
  } else if (event.key === "Tab") return openMore(false);
  else if (event.key === "Enter" || event.key === " ") return event.stopPropagation();
  event.preventDefault();
  event.stopPropagation(); // no key of the menu is the viewer's
});
document.addEventListener("pointerdown", (event) => { if (!more.hidden && !event.target.closest(".ich-more, [data-do=more]")) openMore(false); });
