// The lesions of the scan: which one boxes and corrections go to, what each is called, locked or not.

import { button, enable, expand, focusViewer, one } from "../../viewer/dom.js";
import { resize } from "../../viewer/draw.js";
import { host } from "../../viewer/host.js";
import { showAll } from "../../viewer/hub.js";
import { done } from "../../viewer/keys.js";
import { number } from "../../viewer/numbers.js";
import { ask } from "../../viewer/server.js";
import { lesionHere, state } from "../../viewer/state.js";

let listed = ""; // what the list shows
/** @type {HTMLElement | null} what had the focus before the list */
let cameFrom = null;

const isOpen = () => !one("#ich-lesions").hidden;

function show() {
  const own = lesionHere();
  one(".ich-lesion-name").textContent = own ? own.name : "Lesion 1";
  one(".ich-swatch", button("lesions")).style.background = own?.colour ?? "transparent";
  enable("lesions", !state.lost);
  expand("lesions", isOpen());
  if (!isOpen()) return;
  const want = JSON.stringify([state.lesions, state.lesion]);
  if (want === listed) return;
  const active = /** @type {HTMLInputElement} */ (document.activeElement), focus = active?.dataset?.focus;
  const isName = Boolean(focus?.startsWith("name-"));
  if (isName && active.value !== active.defaultValue) return; // a name is being typed: an answer does not take it away
  listed = want;
  const selected = isName ? [active.selectionStart, active.selectionEnd] : null;
  one(".ich-lesion-list").replaceChildren(...state.lesions.map(lesionRow));
  const again = focus ? one("[data-focus='" + focus + "']") : null;
  again?.focus();
  if (again && selected) again.setSelectionRange(...selected);
}

function lesionRow({ id, name, type, colour, locked, visible, ml }) {
  const row = one(".ich-lesion-template").content.firstElementChild.cloneNode(true);
  const part = (what) => {
    const node = one("[data-part=" + what + "]", row);
    node.dataset.focus = what + "-" + id;
    node.setAttribute("aria-label", node.getAttribute("aria-label").replace("…", name));
    return node;
  };
  const change = (values) => ask({ op: "lesion_set", lesion: id, ...values });
  one(".ich-swatch", row).style.background = colour;
  one(".ich-lesion-ml", row).textContent = number(ml) + " mL";
  const current = part("current");
  current.checked = id === state.lesion;
  current.addEventListener("change", () => { state.lesion = id; state.selected = -1; showAll(); });
  const title = part("name");
  title.defaultValue = name;
  title.addEventListener("change", () => { title.defaultValue = title.value; change({ name: title.value }); });
  const kind = part("type");
  kind.append(...host.props.types.map((known) => new Option(known.title, known.name)));
  kind.value = type;
  kind.addEventListener("change", () => change({ type: kind.value }));
  for (const [what, on, values] of [["visible", visible, { visible: !visible }], ["locked", locked, { locked: !locked }]]) {
    const set = part(what);
    set.setAttribute("aria-pressed", String(on));
    set.addEventListener("click", () => change(values));
  }
  const remove = part("remove");
  remove.disabled = locked || state.lesions.length === 1;
  remove.addEventListener("click", () => { state.selected = -1; ask({ op: "lesion_remove", lesion: id }); });
  return row;
}

function toggle() {
  if (!state.scan) return;
  one("#ich-lesions").hidden = isOpen();
  show();
  resize();
  if (isOpen()) {
    cameFrom = /** @type {HTMLElement} */ (document.activeElement);
    one("[data-focus='current-" + state.lesion + "']")?.focus();
  } else if (cameFrom?.matches(".ich-stage canvas")) focusViewer();
  else button("lesions").focus();
}

/** @type {import("../../viewer/hub.js").Part} */
export const panel = {
  actions: {
    lesions: toggle,
    lesion_add() { state.selected = -1; ask({ op: "lesion_add" }); },
  },
  keys: { l: toggle },
  start() {
    one("#ich-lesions").addEventListener("keydown", (event) => {
      if (event.key === "Escape") done(event, toggle);
    });
  },
  show,
};
