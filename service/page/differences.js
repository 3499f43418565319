// How far an answer is from the reference, in words.

import { percent, plural } from "./format.js";

export const differing = ({ differences }) => differences.substituted + differences.deleted + differences.inserted;

export function differingText(answer) {
  const count = differing(answer);
  if (count === 0) return "same words";
  const { ratio } = answer.differences;
  return `${plural(count, "word")} differ${count === 1 ? "s" : ""}${ratio === null ? "" : ` (${percent(ratio, 0)})`}`;
}

// Neighbouring edits as one, which reads better than word by word: {same, said, wanted}, texts.
export function runs(edits) {
  const found = [];
  for (const { kind, reference, hypothesis } of edits) {
    const same = kind === "same";
    if (found.at(-1)?.same !== same) found.push({ same, said: [], wanted: [] });
    if (hypothesis !== null) found.at(-1).said.push(hypothesis);
    if (reference !== null) found.at(-1).wanted.push(reference);
  }
  return found.map(({ same, said, wanted }) => ({ same, said: said.join(" "), wanted: wanted.join(" ") }));
}
