// How far an answer is from the reference, in words.

import { percent, plural } from "./format.js";

export const differing = ({ differences }) => differences.substituted + differences.deleted + differences.inserted;

export function differingText(answer) {
  const count = differing(answer);
  if (count === 0) return "same words";
  const { ratio } = answer.differences;
  return `${plural(count, "word")} differ${count === 1 ? "s" : ""}${ratio === null ? "" : ` (${percent(ratio, 0)})`}`;
}
