// The lesions of the scan: which one boxes and corrections go to, what each is called, locked or not.

const TYPES = props.types; // [{name, title}]
let listed = ""; // what the list shows

const lesionsOpen = () => !one("#ich-lesions").hidden;

function showLesions() {
  const own = lesionHere();
  const button = one("[data-do=lesions]");
  one(".ich-lesion-name").textContent = own ? own.name : "Lesion 1";
  one(".ich-swatch", button).style.background = own && lesions.length > 1 ? own.colour : "var(--ich-model)";
  button.setAttribute("aria-expanded", String(lesionsOpen()));
  if (!lesionsOpen()) return;
  const want = JSON.stringify([lesions, lesion]);
  if (want === listed) return;
  listed = want;
  const focus = document.activeElement?.dataset?.focus;
  one(".ich-lesion-list").replaceChildren(...lesions.map(lesionRow));
  if (focus) one("[data-focus='" + focus + "']")?.focus();
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
  current.checked = id === lesion;
  current.addEventListener("change", () => { lesion = id; selected = -1; showAll(); });
  const title = part("name");
  title.value = name;
  title.addEventListener("change", () => change({ name: title.value }));
  const kind = part("type");
  kind.append(...TYPES.map((one) => new Option(one.title, one.name)));
  kind.value = type;
  kind.addEventListener("change", () => change({ type: kind.value }));
  for (const [what, on, values] of [["visible", visible, { visible: !visible }], ["locked", locked, { locked: !locked }]]) {
    const toggle = part(what);
    toggle.setAttribute("aria-pressed", String(on));
    toggle.addEventListener("click", () => change(values));
  }
  const remove = part("remove");
  remove.disabled = locked || lesions.length === 1;
  remove.addEventListener("click", () => { selected = -1; ask({ op: "lesion_remove", lesion: id }); });
  return row;
}

Object.assign(DO, {
  lesions: () => {
    if (!scan) return;
    one("#ich-lesions").hidden = lesionsOpen();
    showLesions();
    resize();
    (lesionsOpen() ? one("[data-focus='current-" + lesion + "']") : one("[data-do=lesions]"))?.focus();
  },
  lesion_add: () => { selected = -1; ask({ op: "lesion_add" }); },
});

one("#ich-lesions").addEventListener("keydown", (event) => {
  if (event.key === "Escape") done(event, DO.lesions);
});
