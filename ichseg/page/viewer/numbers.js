// Numbers and counts as people read them.

/** Millilitres; a dash where there is no number. */
export const number = (ml) => (Number.isFinite(ml) ? ml.toFixed(ml < 10 ? 2 : 1) : "–");

/** A length in mm, or any other number with so many digits; a dash where there is none. */
export const mm = (value, digits = 1) => (value === null || value === undefined ? "–" : value.toFixed(digits));

/** A change, with its sign. */
export const signed = (value, digits) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(digits);

/** A part of one, as Dice is. */
export const share = (value) => mm(value, 3);

/** From the least to the most, in mL. */
export const span = ({ low_ml: low, high_ml: high }) => number(low) + " to " + number(high);

export const plural = (count, one) => count + " " + one + (count === 1 ? "" : one.endsWith("x") ? "es" : "s");

/** A slice as people count it, and as the command line takes it. */
export const sliceName = (k) => "slice " + (k + 1) + ", --slice " + k;

export const megabytes = (bytes) => Math.ceil(bytes / 2 ** 20);

export const capital = (text) => text[0].toUpperCase() + text.slice(1);

/** A note as a sentence. */
export const sentence = (note) => capital(note).replace(/[.]?$/, ".");
