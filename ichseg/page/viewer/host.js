// What Gradio hands to the page. `start` sets it, before any part is told anything.

export const host = {
  /** @type {any} the component's properties: to Python goes `value`, from Python come `reply` and `better` */
  props: null,
  /** @type {(event: string) => void} tells Python of an event: "edit", "work", "aside" or "look" */
  trigger: () => {},
  /** @type {(property: string, action: () => void) => void} calls back when Python has set a property */
  watch: () => {},
};
