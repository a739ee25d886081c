// Where the page's script begins: it takes what Gradio gives, brings in the core and the panels, and starts them.

import { root } from "./dom.js";
import { host } from "./host.js";
import { join, tell } from "./hub.js";
import { state } from "./state.js";
import "./messages.js";
import "./line.js";
import "./server.js";
import "./lease.js";
import "./waiting.js";
import "./draw.js";
import "./volume.js";
import "./navigate.js";
import "./strip.js";
import "./pointer.js";
import "./panes.js";
import "./keys.js";
import "./controls.js";
import "./kept.js";
import "./leaving.js";
import "./aside.js";

/** Start the page. `props.scripts.panels` names the panels in their order; each has a folder beside this one. */
export async function start({ props, trigger, watch }) {
  Object.assign(host, { props, trigger, watch });
  state.choices = props.choices;
  const panels = await Promise.all(props.scripts.panels.map((name) => import("../panels/" + name + "/panel.js")));
  for (const { panel } of panels) join(panel);
  tell("start");
  Object.assign(root.dataset, { pending: 0, rough: 0, live: "true" });
}
