// What a job did: the whole beside the parent, and every layer.

import { h, table } from "./dom.js";
import { bytes, factor, percent, plural, points, seconds } from "./format.js";

export function report(found) {
  const search = found.search ? h("p", {}, "A search chose the methods and sizes.") : null;
  return [search, whole(found), layers(found)].filter(Boolean);
}

function whole(found) {
  const rows = [
    ...sizes(found),
    ...Object.entries(found.quality ?? {}).map(([corpus, quality]) => {
      const before = found.parent_quality?.[corpus]?.wer;
      return [`Word errors, ${corpus}`, percent(before), percent(quality.wer), points(before === undefined ? null : quality.wer - before)];
    }),
    ...times(found),
  ];
  if (found.agreement) rows.push(["Frames that agree", "", percent(found.agreement.frames), `on ${plural(found.agreement.runs, "input")}, ${found.agreement.inputs}`]);
  if (rows.length === 0) return null;
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "The whole" }, table("The whole, beside the parent", [
    { title: "", heads: true, cell: ([name]) => name },
    { title: "Parent", number: true, cell: ([, before]) => before },
    { title: "Result", number: true, cell: ([, , after]) => after },
    { title: "Difference", number: true, cell: ([, , , note]) => note },
  ], rows, { class: "figures" }));
}

function sizes({ bytes: result, parent }) {
  if (!result || !parent) return [];
  const shrunk = (before, after) => `${(before / after).toPrecision(3)} times smaller`;
  return [
    ["Weights on disk", bytes(parent.initialisers), bytes(result.initialisers), shrunk(parent.initialisers, result.initialisers)],
    ["Weights in memory", bytes(parent.resident), bytes(result.resident), shrunk(parent.resident, result.resident)],
    ["Stream for download", "", bytes(result.transport), ""],
  ];
}

function times({ speed }) {
  if (!speed) return [];
  return [["Time of the network", seconds(speed.parent_seconds), seconds(speed.seconds), `${factor(speed.ratio)} times the parent's`]];
}

function layers({ layers: rows }) {
  if (!rows?.length) return h("p", { class: "empty" }, "The report names no layers.");
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Layers" }, h("h3", {}, "Layers"), table("Every layer", [
    { title: "Layer", heads: true, cell: (layer) => h("span", { class: "name" }, layer.name) },
    { title: "Method", cell: (layer) => layer.method },
    { title: "Inputs × outputs", number: true, cell: (layer) => `${layer.Q} × ${layer.R}` },
    { title: "Dense", number: true, cell: (layer) => bytes(layer.dense) },
    { title: "On disk", number: true, cell: (layer) => bytes(layer.disk) },
    { title: "Size", number: true, cell: (layer) => percent(layer.relative_size) },
    { title: "Error of the weight", number: true, cell: (layer) => percent(layer.relative_error) },
    { title: "Error of the output", number: true, cell: (layer) => percent(layer.output_error) },
    { title: "Time", number: true, cell: (layer) => seconds(layer.seconds) },
  ], rows));
}
