// The view Transcribe.

import { json } from "./api.js";
import { canAnswer, catalogue, onModels } from "./catalogue.js";
import { fillSelect } from "./choices.js";
import { clipForm, currentClip, needClip, onClip } from "./clip.js";
import { byId, facts, h } from "./dom.js";
import { bytes, factor, percent, plural, seconds } from "./format.js";
import { clearProblem, showProblem } from "./problem.js";
import { transcript, wordsTable } from "./transcript.js";

let turn = 0;

export function startTranscribe() {
  onModels(showChoices);
  onClip(() => showEmpty("Press Transcribe to read it here."));
  byId("model").addEventListener("change", describe);
  byId("transcribe-form").addEventListener("submit", (event) => {
    event.preventDefault();
    run();
  });
}

export function chooseModel(name) {
  byId("model").value = name;
  byId("model").dataset.chosen = "yes";
  describe();
}

function showChoices({ models, default: preferred }) {
  const options = models
    .filter((model) => canAnswer(model) || model.state === "loading")
    .map((model) => [model.name, `${model.name}${model.default ? " (default)" : ""}${model.state === "loading" ? ", loading…" : ""}`]);
  fillSelect(byId("model"), options.length ? options : [["", "No model is ready"]], preferred);
  describe();
}

function describe() {
  const model = catalogue().models.find((each) => each.name === byId("model").value);
  byId("model-hint").textContent = model?.description ? `${model.description}. ${bytes(model.disk_bytes)} of weights.` : "\u00a0";
}

async function run() {
  if (currentClip() === null) return needClip();
  const problem = byId("transcribe-problem");
  const box = byId("transcript");
  clearProblem(problem);
  turn += 1;
  const mine = turn;
  box.setAttribute("aria-busy", "true");
  showEmpty("Listening…");
  try {
    const answer = await json(`/transcribe?model=${encodeURIComponent(byId("model").value || "default")}`, { method: "POST", body: clipForm() });
    if (mine === turn) show(answer);
  } catch (error) {
    if (mine !== turn) return undefined;
    showEmpty("No transcript.");
    showProblem(problem, error, run);
  } finally {
    if (mine === turn) box.setAttribute("aria-busy", "false");
  }
  return undefined;
}

function show(answer) {
  byId("transcript").replaceChildren(...transcript(answer));
  const confident = answer.words.filter((word) => typeof word.confidence === "number");
  const mean = confident.length ? confident.reduce((sum, word) => sum + word.confidence, 0) / confident.length : null;
  facts(byId("transcript-facts"), [
    ["Model", answer.model],
    ["Method", answer.method],
    ["Recording", seconds(answer.duration_seconds)],
    ["Answer after", seconds(answer.processing_seconds)],
    ["RTF", factor(answer.real_time_factor)],
    ["Confidence", mean === null ? "–" : percent(mean, 0)],
    ["Length", plural(answer.text.split(/\s+/).filter(Boolean).length, "word")],
  ]);
  byId("words").hidden = answer.words.length === 0;
  byId("words-table").replaceChildren(wordsTable(answer.words));
}

function showEmpty(text) {
  byId("transcript").replaceChildren(h("p", { class: "empty" }, text));
  byId("transcript-facts").replaceChildren();
  byId("words").hidden = true;
}
