// Starts the page: views by the part of the address behind #, the state of the service, the key.

import { setKey } from "./api.js";
import { canAnswer, onModels, refreshModels } from "./catalogue.js";
import { startClip } from "./clip.js";
import { startCompare } from "./compare.js";
import { loadOptions, startCompress } from "./compress.js";
import { byId, say } from "./dom.js";
import { plural } from "./format.js";
import { showJobs } from "./jobs.js";
import { startModels } from "./models.js";
import { chooseModel, startTranscribe } from "./transcribe.js";

const VIEWS = ["transcribe", "compare", "models", "compress"];
const WITH_CLIP = ["transcribe", "compare"];

function showView(focus) {
  const name = VIEWS.find((view) => `#${view}` === location.hash) ?? VIEWS[0];
  for (const view of VIEWS) byId(`view-${view}`).hidden = view !== name;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const panel = byId("clip-panel");
  panel.hidden = !WITH_CLIP.includes(name);
  if (!panel.hidden) byId(`${name}-title`).after(panel);
  document.title = `${byId(`${name}-title`).textContent} · DeepThin`;
  showJobs(name === "compress");
  if (name === "compress") loadOptions();
  if (focus) byId("main").focus({ preventScroll: true });
}

function showState({ models, error, asked }) {
  const line = byId("service-state");
  const tell = (kind, text) => {
    line.dataset.kind = kind;
    say(line, text);
  };
  if (!asked) return;
  const loading = models.filter((model) => model.state === "loading").length;
  const ready = models.filter(canAnswer).length;
  if (error) tell("bad", error.status === 401 ? "A key is needed" : "Not reachable, trying again");
  else if (loading) tell("warn", `Loading: ${ready} of ${plural(ready + loading, "model")} ready`);
  else if (ready === 0) tell("bad", "No model is ready");
  else tell("good", `${plural(ready, "model")} ready`);
}

function startKey() {
  document.addEventListener("key-needed", () => { byId("key-form").hidden = false; });
  byId("key-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    setKey(byId("key").value.trim());
    byId("key-form").hidden = true;
    await refreshModels();
    showView(false);
  });
}

startKey();
startClip();
startTranscribe();
startCompare();
startModels();
startCompress();
onModels(showState);
refreshModels();
window.addEventListener("hashchange", () => showView(true));
document.addEventListener("try-model", (event) => {
  location.hash = "#transcribe";
  chooseModel(event.detail);
});
document.querySelector(".skip").addEventListener("click", (event) => {
  // The address names the view; the jump must not change it.
  event.preventDefault();
  byId("main").focus();
});
showView(false);
