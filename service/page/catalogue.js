// The models that the service has, asked for again while some load.

import { json } from "./api.js";

const LOADING_MS = 1500;
const STEADY_MS = 15_000;

let known = { default: null, models: [], error: null, asked: false };
let timer = 0;
let asking = null;
let again = null;
const readers = new Set();

export const catalogue = () => known;
// A model that was unloaded to save memory is loaded again when it is asked.
export const canAnswer = (model) => model.state === "ready" || model.state === "unloaded";
export const usable = () => known.models.filter(canAnswer);

// Calls `reader(catalogue)` now and at every change.
export function onModels(reader) {
  readers.add(reader);
  reader(known);
}

// An answer that is on its way may be older than what the caller knows of: then the service is asked once more.
export function refreshModels() {
  if (!asking) {
    asking = ask().finally(() => { asking = null; });
    return asking;
  }
  again ??= asking.then(() => { again = null; return refreshModels(); });
  return again;
}

async function ask() {
  clearTimeout(timer);
  let next;
  try {
    next = { ...(await json("/models")), error: null, asked: true };
  } catch (error) {
    next = { ...known, error, asked: true };
  }
  const changed = JSON.stringify(next) !== JSON.stringify(known) || next.error !== known.error;
  known = next;
  if (changed) readers.forEach((reader) => reader(known));
  const soon = known.error !== null || known.models.some((model) => model.state === "loading");
  timer = setTimeout(() => { if (!document.hidden) refreshModels(); }, soon ? LOADING_MS : STEADY_MS);
}

document.addEventListener("visibilitychange", () => { if (!document.hidden) refreshModels(); });
