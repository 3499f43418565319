// The view Models: the plot, the table, and what can be done to a model.

import { save, send } from "./api.js";
import { canAnswer, catalogue, onModels, refreshModels } from "./catalogue.js";
import { fillSelect } from "./choices.js";
import { ask } from "./confirm.js";
import { byId, h, table } from "./dom.js";
import { bytes, percent, points } from "./format.js";
import { drawPareto } from "./pareto.js";
import { clearProblem, showProblem } from "./problem.js";

const KINDS = { ready: "good", loading: "accent", failed: "bad", quarantined: "warn" };
let order = { column: null, descending: false };

export function startModels() {
  onModels(show);
  byId("plot-bytes").addEventListener("change", drawPlot);
  byId("plot-corpus").addEventListener("change", drawPlot);
  byId("roll-back").addEventListener("click", () => change("/models/default/rollback"));
  new ResizeObserver(drawPlot).observe(byId("plot"));
}

// Makes a model the default; a quarantined one only if the user insists. Tells whether it was done.
export async function promote(model, problem = byId("models-problem")) {
  const path = `/models/${encodeURIComponent(model.name)}/promote`;
  if (model.state !== "quarantined") return change(path, problem);
  const reason = model.reason ? ` ${model.reason}.` : "";
  if (!(await ask(`Use ${model.name} all the same?`, `It was set aside:${reason} It would answer everybody who names no model.`))) return false;
  return change(`${path}?accept_quarantined=true`, problem);
}

async function remove(model) {
  const text = "It answers no more, and its files are deleted. This cannot be undone.";
  if (await ask(`Delete ${model.name}?`, text, "Delete")) await change(`/models/${encodeURIComponent(model.name)}`, byId("models-problem"), "DELETE");
}

async function change(path, problem = byId("models-problem"), method = "POST") {
  clearProblem(problem);
  try {
    await send(path, { method });
    return true;
  } catch (error) {
    showProblem(problem, error, () => change(path, problem, method));
    return false;
  } finally {
    await refreshModels();
  }
}

function show({ models, error, asked }) {
  const problem = byId("models-problem");
  if (error) showProblem(problem, error, refreshModels);
  else if (asked) clearProblem(problem);
  fillSelect(byId("plot-corpus"), corpora().map((corpus) => [corpus, corpus]));
  drawPlot();
  drawTable(models);
}

const corpora = () => [...new Set(catalogue().models.flatMap((model) => Object.keys(model.wer ?? {})))].toSorted();

function drawPlot() {
  const field = byId("plot-bytes").value;
  const corpus = byId("plot-corpus").value;
  const rows = [];
  const missing = [];
  for (const model of catalogue().models) {
    const wer = model.wer?.[corpus];
    if (typeof wer === "number" && model[field]) rows.push({ name: model.name, method: model.method, size: model[field], wer });
    else missing.push(model.name);
  }
  if (byId("plot").clientWidth === 0) return;
  drawPareto(byId("plot"), rows, {
    sizeTitle: `Bytes ${byId("plot-bytes").selectedOptions[0].textContent}`,
    werTitle: "Word error rate",
    pick: (text) => { byId("plot-detail").textContent = text; },
  });
  byId("plot-missing").textContent = missing.length && rows.length ? `Not shown, for want of a figure: ${missing.join(", ")}.` : "";
}

function columns() {
  return [
    { id: "name", title: "Model", heads: true, value: (model) => model.name, cell: title },
    { id: "method", title: "Method", value: (model) => model.method ?? "", cell: (model) => model.method ?? "–" },
    ...[["disk_bytes", "On disk"], ["resident_bytes", "In memory"], ["transport_bytes", "Download"]].map(([field, text]) => (
      { id: field, title: text, number: true, value: (model) => model[field], cell: (model) => bytes(model[field]) })),
    ...corpora().slice(0, 4).map((corpus) => (
      { id: corpus, title: `WER, ${corpus}`, number: true, value: (model) => model.wer?.[corpus], cell: (model) => errors(model, corpus) })),
    { id: "state", title: "State", value: (model) => model.state, cell: state },
    { title: "", cell: actions },
  ];
}

function drawTable(models) {
  const box = byId("models-table");
  const shown = columns().map((column) => (column.id ? { ...column, head: sorter(column), sort: sorting(column) } : column));
  shown.at(-1).head = h("span", { class: "sr" }, "Actions");
  const chosen = shown.find((column) => column.id === order.column);
  const rows = chosen ? models.toSorted((one, other) => compare(chosen.value(one), chosen.value(other))) : models;
  const focused = document.activeElement?.dataset?.key;
  box.replaceChildren(models.length ? table("All models", shown, rows) : h("p", { class: "empty" }, "No models are hosted here."));
  // What had the focus may be gone, as a model that was deleted.
  if (focused) (box.querySelector(`[data-key="${CSS.escape(focused)}"]`) ?? box).focus();
}

function compare(one, other) {
  // What is not known comes last either way.
  if (one === undefined || one === null) return 1;
  if (other === undefined || other === null) return -1;
  const sign = order.descending ? -1 : 1;
  return sign * (typeof one === "number" ? one - other : one.localeCompare(other));
}

function sorter(column) {
  const sort = () => {
    order = { column: column.id, descending: order.column === column.id && !order.descending };
    drawTable(catalogue().models);
  };
  return h("button", { type: "button", "data-key": `sort-${column.id}`, onclick: sort }, column.title);
}

const sorting = (column) => (order.column !== column.id ? null : order.descending ? "descending" : "ascending");

function title(model) {
  return h("span", { class: "name" }, model.name);
}

function errors(model, corpus) {
  const delta = model.wer_delta?.[corpus];
  return [percent(model.wer?.[corpus]), model.parent && typeof delta === "number" ? h("span", { class: "hint" }, ` (${points(delta)})`) : null];
}

function state(model) {
  const answers = model.default && canAnswer(model);
  const badge = h("span", { class: "badge", "data-kind": answers ? "accent" : KINDS[model.state] ?? null }, answers ? "default" : model.state);
  return model.reason ? [badge, h("div", { class: "state-reason" }, model.reason)] : badge;
}

function actions(model) {
  const button = (text, label, onclick) => h("button", { type: "button", class: "small", "data-key": `${text}-${model.name}`, "aria-label": `${label} ${model.name}`, onclick }, text);
  const usable = !model.default && (canAnswer(model) || ["stored", "quarantined"].includes(model.state)) && model.family !== "network";
  return h("div", { class: "row" },
    model.family ? button(".zip", "Download the package of", () => download(model, "package", "zip")) : null,
    model.family ? button(".dtz", "Download the small stream of", () => download(model, "transport", "dtz")) : null,
    usable ? button("Make default", "Make default:", () => promote(model)) : null,
    model.removable ? button("Delete", "Delete", () => remove(model)) : null);
}

async function download(model, format, ending) {
  clearProblem(byId("models-problem"));
  try {
    await save(`/models/${encodeURIComponent(model.name)}/download?format=${format}`, `${model.name}.${ending}`);
  } catch (error) {
    showProblem(byId("models-problem"), error);
  }
}
