// From the fields of the form to the spec of a job.

import { checkedValues } from "./choices.js";
import { byId } from "./dom.js";
import { ruleTexts } from "./rules.js";

// Why the fields cannot be sent: {param, message}, or null.
export function complaint() {
  if (!byId("source").value && !byId("checkpoint").files.length) return { param: "checkpoint", message: "Choose a checkpoint, or a model that is hosted here." };
  for (const input of byId("compress-form").querySelectorAll("input[type=number]")) {
    const hidden = input.closest("[hidden]") !== null;
    if (!hidden && input.validity.badInput) return { param: input.closest("[data-param]").dataset.param, message: "This is not a number." };
  }
  const sizeless = goal() === "method" ? ruleTexts().findIndex(({ size }) => size === "") : -1;
  return sizeless < 0 ? null : { param: `spec.compress.${sizeless}.size`, message: "Give the size." };
}

export function spec() {
  const wish = { host: byId("host").checked };
  put(wish, "name", byId("name").value.trim());
  if (goal() === "budget") {
    wish.budget = {};
    put(wish.budget, "target_bytes", scaled("target-bytes", 1000, true));
    put(wish.budget, "max_wer_delta", scaled("budget-wer", 0.01));
    put(wish.budget, "target_latency", scaled("target-latency", 1));
  } else {
    put(wish, "method", byId("method").value);
    if (!byId("size").disabled) put(wish, "size", scaled("size", 0.01));
    if (!byId("rank-field").hidden) put(wish, "rank", scaled("rank", 1));
    put(wish, "compress", rules());
  }
  if (byId("fine-tune").checked) {
    wish.fine_tune = {};
    put(wish.fine_tune, "epochs", scaled("epochs", 1));
    put(wish.fine_tune, "learning_rate", scaled("learning-rate", 1));
  }
  for (const kind of ["calibration", "evaluation"]) {
    const corpora = checkedValues(byId(`${kind}-corpora`));
    if (corpora.length) wish[kind] = corpora;
  }
  put(wish, "limit", scaled("limit", 1));
  put(wish, "max_wer_delta", scaled("gate", 0.01));
  if (byId("allow-slower").checked) wish.allow_slower = true;
  return wish;
}

export const goal = () => byId("compress-form").elements.goal.value;

function rules() {
  const found = ruleTexts().map(({ pattern, method, size, rank }) => {
    const rule = { pattern, method };
    put(rule, "size", number(size, 0.01));
    put(rule, "rank", number(rank, 1));
    return rule;
  });
  return found.length ? found : null;
}

function put(wish, field, value) {
  if (value !== "" && value !== null) wish[field] = value;
}

const scaled = (id, factor, whole = false) => number(byId(id).value, factor, whole);

function number(text, factor, whole = false) {
  if (text === "" || text === null) return null;
  const value = Number(text) * factor;
  // Twelve digits: so that 0.1 % does not become 0.0009999999999999998.
  return whole ? Math.round(value) : Number(value.toPrecision(12));
}
