// What is compared, and how it is shown.

export const comparing = {
  open: false,
  /** whether the panes show where methods agree, in the place of their masks */
  agreement: false,
  /** what they are to agree with: "first" (the left pane's method) or "reference" */
  against: "first",
  /** whether the reference mask's outline is drawn */
  outline: true,
  /** @type {Map<number, import("../../viewer/masks.js").Mask> | null} the reference masks, by slice */
  reference: null,
  /** @type {any} as Python sends them; null where they are yet to come */
  scores: null,
  /** what the scores are of */
  scored: "",
  /** whether to ask which methods are here by now */
  askMethods: false,
};

export const againstReference = () => Boolean(comparing.against === "reference" && comparing.reference);
