// The buttons that any part gave an action for, and how masks are shown.

import { one, press, root } from "./dom.js";
import { draw } from "./draw.js";
import { actions, join, showAll } from "./hub.js";
import { shown } from "./state.js";

function showMasks(how) {
  Object.assign(shown, how);
  showAll();
}

const toggleMasks = () => showMasks({ masks: !shown.masks });
const fill = () => showMasks({ fill: true, masks: true });
const outline = () => showMasks({ fill: false, masks: true });

// Gradio's own description of what programs call; its button is in the foot of the page, which is not shown.
const programs = () => /** @type {HTMLElement | null} */ (document.querySelector("footer .show-api"))?.click();

join({
  actions: { help: () => one(".ich-help").showModal(), programs, mask: toggleMasks, fill, outline },
  keys: { m: toggleMasks, f: () => (shown.fill ? outline() : fill()) },
  start() {
    root.addEventListener("click", (event) => {
      const pressed = /** @type {Element} */ (event.target).closest("button");
      actions[pressed?.dataset.do]?.();
    });
    one(".ich-opacity").addEventListener("input", (event) => { shown.opacity = event.target.value / 100; draw(); });
  },
  show() {
    press("mask", shown.masks);
    press("fill", shown.fill);
    press("outline", !shown.fill);
    one(".ich-opacity").hidden = !shown.fill;
  },
});
