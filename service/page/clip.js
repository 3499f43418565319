// The recording that Transcribe and Compare work on: spoken, chosen, dropped, or the sample.

import { send } from "./api.js";
import { byId, say } from "./dom.js";
import { bytes, clock } from "./format.js";
import { clearProblem, showProblem } from "./problem.js";
import { obstacle, startRecording } from "./recorder.js";

let clip = null;
let recording = null;
let starting = false;
const readers = new Set();

export const currentClip = () => clip;
export const onClip = (reader) => readers.add(reader);

// The recording as a form that /transcribe and /compare take.
export function clipForm() {
  const form = new FormData();
  form.append("file", clip.blob, clip.name);
  return form;
}

export function needClip() {
  showProblem(byId("clip-problem"), new Error("First record something, choose a file, or use the sample."));
  byId("record").focus();
}

export function startClip() {
  byId("record").addEventListener("click", () => (recording ? finish() : begin()));
  byId("file").addEventListener("change", (event) => {
    const [file] = event.target.files;
    if (file) take(file, file.name);
    event.target.value = "";
  });
  byId("sample").addEventListener("click", useSample);
  acceptDrops(byId("drop"));
}

function take(blob, name) {
  clearProblem(byId("clip-problem"));
  if (blob.size === 0) {
    showProblem(byId("clip-problem"), new Error(`${name} is empty.`));
    return;
  }
  if (clip) URL.revokeObjectURL(clip.url);
  clip = { blob, name, url: URL.createObjectURL(blob) };
  say(byId("clip-name"), `${name}, ${bytes(blob.size)}`);
  byId("player").src = clip.url;
  byId("player").hidden = false;
  readers.forEach((reader) => reader(clip));
}

async function begin() {
  const box = byId("clip-problem");
  clearProblem(box);
  const reason = obstacle();
  if (reason !== null) return showProblem(box, new Error(reason));
  if (starting) return undefined;
  starting = true;
  try {
    recording = await startRecording(showLevel);
  } catch (error) {
    return showProblem(box, error);
  } finally {
    starting = false;
  }
  return showRecording(true);
}

async function finish() {
  const { stop } = recording;
  recording = null;
  showRecording(false);
  const blob = await stop();
  take(blob, `Recording of ${new Date().toLocaleTimeString([], { timeStyle: "short" })}.webm`);
}

function showRecording(on) {
  byId("record").setAttribute("aria-pressed", String(on));
  say(byId("record-label"), on ? "Stop" : "Record");
  byId("level-row").toggleAttribute("data-on", on);
  if (!on) showLevel(0, 0);
}

function showLevel(level, seconds) {
  byId("level").value = level;
  say(byId("timer"), clock(seconds));
}

async function useSample() {
  try {
    take(await (await send("/page/sample.ogg")).blob(), "sample.ogg, read by a synthetic voice");
  } catch (error) {
    showProblem(byId("clip-problem"), error, useSample);
  }
}

function acceptDrops(area) {
  // Anywhere else, a dropped file would take the place of the page.
  for (const kind of ["dragover", "drop"]) window.addEventListener(kind, (event) => event.preventDefault());
  area.addEventListener("dragover", () => area.toggleAttribute("data-over", true));
  area.addEventListener("dragleave", () => area.toggleAttribute("data-over", false));
  area.addEventListener("drop", (event) => {
    area.toggleAttribute("data-over", false);
    const [file] = event.dataTransfer.files;
    if (file) take(file, file.name);
  });
}
