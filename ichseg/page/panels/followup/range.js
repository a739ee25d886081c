// The range of the growth from other boxes: computed in passing while the panel is open, unless a person stops it.

import { button, one } from "../../viewer/dom.js";

const range = {
  /** what it is of */
  key: "",
  /** @type {number | null} the share that is done; null where there is no more to do */
  share: 0,
  text: "",
  /** what a person wants no range of */
  stopped: "",
};

/** Whether more of the range of a growth is to be computed. */
export const isWanted = (key) => range.stopped !== key && (range.key !== key || range.share !== null);

export function take({ growth_range: found }, key) {
  if (found) Object.assign(range, { key, share: found.share, text: found.text });
}

/** Stop computing it, or go on. */
export function toggle(key) {
  range.stopped = range.stopped === key ? "" : key;
}

/** Show it below the growth; `key`: of what, empty where there is no growth. */
export function show(key) {
  const line = one(".ich-growth-range"), stop = button("growth_range");
  line.hidden = !key;
  const ours = range.key === key, done = ours && range.share === null, stopped = range.stopped === key;
  line.dataset.ready = String(done);
  stop.hidden = done;
  stop.textContent = stopped ? "Compute" : "Stop";
  const percent = Math.round(100 * ((ours && range.share) || 0)) + " %";
  one("span", line).textContent = done
    ? range.text
    : stopped
      ? "The range of the growth from other boxes was stopped at " + percent + "."
      : "The range of the growth from other boxes is being computed: " + percent + ".";
}
