// Gradio runs this as a function body once the markup stands, with `element`, `trigger`, `props` and `watch`. It fetches
// the modules, at whatever address the page has, and hands them over. Gradio looks for the events here, in quotes.
"use strict";

const events = ["edit", "work", "aside", "look"];
const config = window.gradio_config || {};
const root = (config.root || new URL(".", document.baseURI).href).replace(/[/]$/, "");
const address = (name) => root + (config.api_prefix || "/gradio_api") + props.scripts.path + "/" + name;

for (const name of props.scripts.files) {
  // All at once: the browser would find them one import after the other.
  document.head.append(Object.assign(document.createElement("link"), { rel: "modulepreload", href: address(name) }));
}
import(address("viewer/start.js"))
  .then(({ start }) => start({ props, watch, trigger: (event) => events.includes(event) && trigger(event) }))
  .catch((error) => {
    const alert = element.querySelector(".ich-alert");
    alert.querySelector("p").textContent = "The page could not be fetched in full from the server; reload it.";
    alert.hidden = false;
    console.error(error);
  });
