// Colours that can be read. Pure functions of #rrggbb.

const TEXT_CONTRAST = 4.5; // what small text needs (WCAG 2.2, 1.4.3)

const partsOf = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

function luminance(parts) {
  const [red, green, blue] = parts.map((part) => (part <= 10 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

/** The contrast of two colours, 1 to 21 (WCAG 2.2). */
export function contrast(one, other) {
  const [low, high] = [luminance(partsOf(one)), luminance(partsOf(other))].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
}

/** A colour, darkened until it can be read on a bright ground; as it is where it can be already. */
export function darkened(colour, ground) {
  let shown = colour;
  for (let part = 0.95; contrast(shown, ground) < TEXT_CONTRAST && part > 0; part -= 0.05) {
    shown = "#" + partsOf(colour).map((value) => Math.round(value * part).toString(16).padStart(2, "0")).join("");
  }
  return shown;
}
