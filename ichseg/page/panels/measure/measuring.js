// What is measured: the left pane's method, by Python, once the page is at rest.

export const measuring = {
  open: false,
  /** @type {any} as Python sends it; null where there is none yet */
  record: null,
  /** why there is none */
  why: "",
  /** @type {number | null} what part of the range from other boxes is computed; null once it all is */
  range: null,
  /** the answer to an operation that the record is of */
  at: -1,
  /** @type {string | null} the scan that all this is of */
  token: null,
};
