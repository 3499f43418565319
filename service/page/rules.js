// Rules for single weights: rows of the form, and what they say.

import { fillSelect } from "./choices.js";
import { byId, h } from "./dom.js";
import { hasOneSize, methodCalled, methodChoices } from "./methods.js";

// Gives the fields of each row ids of their own.
let made = 0;

export function startRules() {
  byId("add-rule").addEventListener("click", () => add().querySelector("input").focus());
}

// Puts in order what depends on the methods and on the other rules.
export function arrangeRules() {
  rows().forEach((row, index) => {
    fillSelect(part(row, "method"), methodChoices(), "int8");
    const method = methodCalled(part(row, "method").value);
    part(row, "size").disabled = method !== undefined && hasOneSize(method);
    part(row, "rank").closest(".field").hidden = !method?.ranked;
    row.querySelector("button").setAttribute("aria-label", `Remove rule ${index + 1}`);
    row.setAttribute("aria-label", `Rule ${index + 1}`);
    for (const field of row.querySelectorAll(".field")) field.dataset.param = `spec.compress.${index}.${field.dataset.part}`;
  });
}

// What the rows say, as text: [{pattern, method, size, rank}]; null for what does not matter.
export const ruleTexts = () => rows().map((row) => ({
  pattern: part(row, "pattern").value.trim(),
  method: part(row, "method").value,
  size: part(row, "size").disabled ? null : part(row, "size").value,
  rank: part(row, "rank").closest(".field").hidden ? null : part(row, "rank").value,
}));

const rows = () => [...byId("rules").children];
const part = (row, name) => row.querySelector(`[data-part="${name}"] :is(input, select)`);

function add() {
  made += 1;
  const field = (name, label, input) => {
    input.id = `rule-${made}-${name}`;
    return h("div", { class: "field slim", "data-part": name }, h("label", { for: input.id }, label), input);
  };
  const row = h("div", { class: "rule", role: "group" },
    field("pattern", "Names that fit", h("input", { autocomplete: "off", autocapitalize: "none", spellcheck: "false", maxlength: 256 })),
    field("method", "Method", h("select")),
    field("size", "Size, %", h("input", { type: "number", min: 0.01, max: 100, step: "any", value: 25, inputmode: "decimal" })),
    field("rank", "Rank", h("input", { type: "number", min: 1, max: 4096, step: 1, value: 1, inputmode: "numeric" })),
    h("button", { type: "button", class: "small", onclick: () => remove(row) }, "Remove"));
  byId("rules").append(row);
  arrangeRules();
  return row;
}

function remove(row) {
  const next = row.nextElementSibling ?? row.previousElementSibling;
  row.remove();
  arrangeRules();
  (next?.querySelector("button") ?? byId("add-rule")).focus();
}
