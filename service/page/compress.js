// The form of a compression job.

import { json, send, upload } from "./api.js";
import { catalogue, onModels } from "./catalogue.js";
import { fillChecks, fillSelect } from "./choices.js";
import { byId, h, say } from "./dom.js";
import { bytes, percent } from "./format.js";
import { refreshJobs } from "./jobs.js";
import { anyMethods, hasOneSize, methodCalled, methodChoices, setMethods } from "./methods.js";
import { clearProblem, sentence, showProblem } from "./problem.js";
import { arrangeRules, startRules } from "./rules.js";
import { complaint, goal, spec } from "./spec.js";

let sending = false;

export function startCompress() {
  const form = byId("compress-form");
  onModels(showSources);
  startRules();
  form.addEventListener("change", arrange);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
  arrange();
}

// Asks what can be had here; once is enough.
export async function loadOptions() {
  if (anyMethods()) return;
  try {
    const options = await json("/compress");
    setMethods(options.methods);
    fillSelect(byId("method"), methodChoices(), "deepthin");
    offerFineTuning(options.fine_tuning);
    for (const kind of ["calibration", "evaluation"]) {
      const box = byId(`${kind}-corpora`);
      fillChecks(box, kind, options.corpora.map((name) => [name, name]), []);
      if (!options.corpora.length) box.replaceChildren(h("p", { class: "hint" }, "No corpora are installed here."));
    }
    arrange();
  } catch (error) {
    showProblem(byId("compress-problem"), error, loadOptions);
  }
}

function showSources() {
  const models = catalogue().models.filter((model) => model.family && model.method === "dense");
  fillSelect(byId("source"), [["", "Upload a file"], ...models.map(({ name }) => [name, `${name}, hosted here`])]);
  arrange();
}

function offerFineTuning(possible) {
  byId("fine-tune").disabled = !possible;
  if (!possible) byId("fine-tune-hint").textContent = "Not possible here: the service runs without PyTorch.";
}

function arrange() {
  const [file] = byId("checkpoint").files;
  byId("checkpoint-field").hidden = byId("source").value !== "";
  byId("config-field").hidden = byId("source").value !== "" || !file?.name.toLowerCase().endsWith(".safetensors");
  byId("goal-method").hidden = goal() !== "method";
  byId("goal-budget").hidden = goal() !== "budget";
  byId("rules-box").hidden = goal() !== "method";
  byId("fine-tune-fields").hidden = !byId("fine-tune").checked;
  arrangeRules();
  const method = methodCalled(byId("method").value);
  if (!method) return;
  const fixed = hasOneSize(method);
  byId("size").disabled = fixed;
  byId("rank-field").hidden = !method.ranked;
  byId("method-hint").textContent = `${sentence(method.summary)} ${fixed ? `One size: ${percent(method.largest)}.` : `From about ${percent(method.smallest, 2)}.`}`;
}

async function submit() {
  if (sending) return;
  clearFields();
  const wrong = complaint();
  if (wrong) return showFieldProblem(wrong);
  sending = true;
  showUpload(0, "Sending…");
  try {
    const replace = byId("replace").checked ? "?replace=true" : "";
    const job = await upload(`/compress${replace}`, await filled(), (sent, total) => showUpload(sent / total, `${bytes(sent)} of ${bytes(total)}`));
    showUpload(null, `Job for ${job.model} accepted`);
    await refreshJobs();
  } catch (error) {
    showUpload(null, "");
    showFieldProblem(error);
  } finally {
    sending = false;
  }
  return undefined;
}

async function filled() {
  const form = new FormData();
  form.append("spec", JSON.stringify(spec()));
  const source = byId("source").value;
  if (source) {
    // The service compresses what is posted: a model that it hosts goes there and back.
    const blob = await (await send(`/models/${encodeURIComponent(source)}/download`)).blob();
    form.append("checkpoint", blob, `${source}.zip`);
  } else {
    form.append("checkpoint", byId("checkpoint").files[0]);
    if (!byId("config-field").hidden && byId("config").files.length) form.append("config", byId("config").files[0]);
  }
  for (const kind of ["calibration", "evaluation"]) {
    if (byId(kind).files.length) form.append(kind, byId(kind).files[0]);
  }
  return form;
}

function showUpload(share, text) {
  byId("upload").hidden = share === null;
  if (share !== null) byId("upload").value = share;
  say(byId("upload-text"), text);
}

// Says what is wrong below the field that it is about, or above the button when it is about none.
function showFieldProblem(error) {
  const field = error.param ? fieldOf(error.param) : null;
  if (!field || error.status === 503) return showProblem(byId("compress-problem"), error, submit);
  const input = field.querySelector("input, select");
  const id = `${input.id || "field"}-problem`;
  field.append(h("p", { class: "problem", id }, sentence(error.message.replace(/^[a-z_.]+: /, ""))));
  field.closest("details")?.setAttribute("open", "");
  input.setAttribute("aria-invalid", "true");
  input.setAttribute("aria-describedby", id);
  input.focus();
  return undefined;
}

function fieldOf(param) {
  const shown = (name) => [...byId("compress-form").querySelectorAll(`[data-param="${CSS.escape(name)}"]`)].find((field) => field.closest("[hidden]") === null);
  for (let name = param; name; name = name.slice(0, Math.max(name.lastIndexOf("."), 0))) {
    const field = shown(name);
    if (field) return field;
  }
  return null;
}

function clearFields() {
  clearProblem(byId("compress-problem"));
  byId("compress-form").querySelectorAll(".problem").forEach((text) => text.remove());
  byId("compress-form").querySelectorAll("[aria-invalid]").forEach((input) => {
    input.removeAttribute("aria-invalid");
    input.removeAttribute("aria-describedby");
  });
}
