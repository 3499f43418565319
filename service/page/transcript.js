// Words with their confidence: underlined by it for the eye, in a table for everyone.

import { h, table } from "./dom.js";
import { percent } from "./format.js";

const LEVELS = [
  ["sure", 0.8, "80 % sure or more"],
  ["less", 0.5, "50 to 80 %"],
  ["unsure", 0, "less than 50 %"],
];

export function transcript(answer) {
  if (!answer.text) return [h("p", { class: "empty" }, "Nothing was said, as far as the model can tell.")];
  const known = answer.words.length > 0 && answer.words.every((word) => typeof word.confidence === "number");
  if (!known) return [h("p", {}, answer.text)];
  return [h("p", {}, answer.words.flatMap((word) => [marked(word), " "])), legend()];
}

export function wordsTable(words) {
  return table("Every word with its times and confidence", [
    { title: "Word", heads: true, cell: (word) => word.text },
    { title: "From, s", number: true, cell: (word) => time(word.start) },
    { title: "To, s", number: true, cell: (word) => time(word.end) },
    { title: "Confidence", number: true, cell: (word) => percent(word.confidence, 0) },
    { title: "", cell: (word) => h("meter", { min: 0, max: 1, value: word.confidence ?? 0, "aria-hidden": "true" }) },
  ], words);
}

const time = (seconds) => (typeof seconds === "number" ? seconds.toFixed(2) : "–");

function marked(word) {
  const [level] = LEVELS.find(([, least]) => word.confidence >= least);
  // Only doubt is worth interrupting the sentence for.
  const aside = level === "sure" ? null : h("span", { class: "sr" }, ` (${percent(word.confidence, 0)} sure)`);
  return h("span", { class: "word", "data-sure": level, title: `${percent(word.confidence, 0)} sure, ${time(word.start)} to ${time(word.end)} s` }, word.text, aside);
}

function legend() {
  return h("p", { class: "key", "aria-hidden": "true" }, LEVELS.map(([level, , text]) => h("span", {}, h("span", { class: "word", "data-sure": level }, text))));
}
