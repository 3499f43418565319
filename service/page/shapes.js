// A colour and a shape for each method, so that neither is the only cue.

import { svg } from "./dom.js";

// Outlines around the origin, about as heavy as each other.
const OUTLINES = [
  "M0-7A7 7 0 1 1 0 7A7 7 0 1 1 0-7Z",
  "M-6.200-6.200H6.200V6.200H-6.200Z",
  "M0-8.200L7.600 5.800H-7.600Z",
  "M0-8.800L8.800 0L0 8.800L-8.800 0Z",
  "M0 8.200L-7.600-5.800H7.600Z",
  "M-2.600-7.500H2.600V-2.600H7.500V2.600H2.600V7.500H-2.600V2.600H-7.500V-2.600H-2.600Z",
  "M-3.800-7H3.800L7.600 0L3.800 7H-3.800L-7.600 0Z",
];
const COLOURS = 7;

// The methods that come first have the plainest shapes; what is left goes round again, in other pairs.
const FIRST = ["dense", "deepthin", "int8", "low-rank", "deepthin-codebook", "int4", "deep-compression"];

function styleOf(method, methods) {
  const order = [...FIRST, ...methods.filter((each) => !FIRST.includes(each)).toSorted()];
  const index = Math.max(order.indexOf(method), 0);
  return { outline: OUTLINES[index % OUTLINES.length], tint: (index + Math.floor(index / OUTLINES.length)) % COLOURS };
}

export function mark(method, methods) {
  const { outline, tint } = styleOf(method, methods);
  return svg("path", { d: outline, class: `tint-${tint}` });
}

export const sample = (method, methods) => svg("svg", { viewBox: "-10 -10 20 20", "aria-hidden": "true" }, mark(method, methods));
