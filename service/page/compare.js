// The view Compare: one recording through several models.

import { json } from "./api.js";
import { onModels, usable } from "./catalogue.js";
import { checkedValues, fillChecks, fillSelect } from "./choices.js";
import { clipForm, currentClip, needClip, onClip } from "./clip.js";
import { differing, differingText, runs } from "./differences.js";
import { byId, h, table } from "./dom.js";
import { bytes, factor, seconds } from "./format.js";
import { clearProblem, showProblem } from "./problem.js";

let turn = 0;

export function startCompare() {
  onModels(showChoices);
  onClip(() => showEmpty("Press Compare to hear it through the models that you chose."));
  byId("compare-models").addEventListener("change", offerReferences);
  byId("compare-form").addEventListener("submit", (event) => {
    event.preventDefault();
    run();
  });
}

function showChoices({ default: preferred }) {
  const models = usable();
  const favourite = models.find((model) => model.name === preferred);
  // At first: the default, its parent and the smallest of its relatives.
  const family = models.filter((model) => favourite && (model.parent ?? model.name) === (favourite.parent ?? favourite.name));
  const smallest = family.toSorted((one, other) => one.disk_bytes - other.disk_bytes)[0];
  const chosen = [favourite?.parent, preferred, smallest?.name].filter(Boolean);
  fillChecks(byId("compare-models"), "compare", models.map((model) => [model.name, model.name, bytes(model.disk_bytes)]), chosen);
  offerReferences();
}

function offerReferences() {
  const names = checkedValues(byId("compare-models"));
  const dense = usable().find((model) => names.includes(model.name) && model.method === "dense");
  const options = names.map((name) => [name, name]);
  fillSelect(byId("reference"), options.length ? options : [["", "Choose models first"]], dense?.name);
}

async function run() {
  const problem = byId("compare-problem");
  clearProblem(problem);
  const models = checkedValues(byId("compare-models"));
  if (models.length === 0) return showProblem(problem, new Error("Choose the models to compare."));
  if (currentClip() === null) return needClip();
  turn += 1;
  const mine = turn;
  const box = byId("comparison");
  box.setAttribute("aria-busy", "true");
  showEmpty("Listening…");
  const query = new URLSearchParams({ models: models.join(","), reference: byId("reference").value });
  try {
    const comparison = await json(`/compare?${query}`, { method: "POST", body: clipForm() });
    if (mine === turn) box.replaceChildren(...shown(comparison));
  } catch (error) {
    if (mine !== turn) return undefined;
    showEmpty("No comparison.");
    showProblem(problem, error, run);
  } finally {
    if (mine === turn) box.setAttribute("aria-busy", "false");
  }
  return undefined;
}

function shown({ reference, answers: all }) {
  // The reference first, so that the eye knows what the others differ from.
  const ordered = all.toSorted((one, other) => Number(other.model === reference) - Number(one.model === reference));
  return [answers(ordered, reference), figures(ordered, reference)];
}

function answers(ordered, reference) {
  return h("div", { class: "answers" }, ordered.map((answer) => h(
    "article", { class: "card answer", "aria-label": answer.model },
    h("header", {},
      h("h2", { class: "name" }, answer.model),
      h("div", { class: "badges" },
        h("span", { class: "badge" }, answer.method),
        answer.model === reference
          ? h("span", { class: "badge", "data-kind": "accent" }, "reference")
          : h("span", { class: "badge", "data-kind": differing(answer) ? "warn" : "good" }, differingText(answer)))),
    h("p", { class: "text" }, body(answer, reference)),
    h("p", { class: "hint figure" }, `${bytes(answer.disk_bytes)} · ${seconds(answer.processing_seconds)} · RTF ${factor(answer.real_time_factor)}`),
  )));
}

function body(answer, reference) {
  if (answer.differences.edits.length === 0) return h("span", { class: "empty" }, "Nothing was said, as far as the model can tell.");
  if (answer.model === reference) return answer.text;
  return runs(answer.differences.edits).flatMap((run) => [marked(run), " "]);
}

function marked({ same, said, wanted }) {
  if (same) return said;
  const heard = said && h("ins", {}, wanted ? null : h("span", { class: "sr" }, "put in: "), said);
  const missed = wanted && h("del", {}, h("span", { class: "sr" }, said ? "instead of: " : "left out: "), wanted);
  return [heard || null, said && wanted ? " " : null, missed || null];
}

function figures(ordered, reference) {
  return h("section", { class: "card", "aria-label": "Figures" }, h("h2", {}, "Figures"), h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Figures of each model" }, table("Figures of each model", [
    { title: "Model", heads: true, cell: (answer) => h("span", { class: "name" }, answer.model) },
    { title: "On disk", number: true, cell: (answer) => bytes(answer.disk_bytes) },
    { title: "In memory", number: true, cell: (answer) => bytes(answer.resident_bytes) },
    { title: "Download", number: true, cell: (answer) => bytes(answer.transport_bytes) },
    { title: "Answer after", number: true, cell: (answer) => seconds(answer.processing_seconds) },
    { title: "RTF", number: true, cell: (answer) => factor(answer.real_time_factor) },
    { title: "Words that differ", number: true, cell: (answer) => (answer.model === reference ? "reference" : differingText(answer)) },
  ], ordered)));
}

function showEmpty(text) {
  byId("comparison").replaceChildren(h("p", { class: "empty card" }, text));
}
