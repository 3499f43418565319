// Server-sent events through fetch, which unlike EventSource can carry a key and sees why it was refused.

import { send } from "./api.js";

const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 15_000;

// Calls `take(kind, data)` for every event until the stream has ended for good; connects again, behind the last event
// seen, as often as the connection breaks. `waiting(error)` is called each time it has to.
export async function follow(path, { take, waiting, signal }) {
  let last = null;
  let pause = FIRST_PAUSE_MS;
  while (!signal.aborted) {
    let delay = pause;
    try {
      const response = await send(path, { signal, headers: last === null ? {} : { "Last-Event-ID": last } });
      if (response.status === 204) return;
      for await (const event of events(response.body)) {
        pause = FIRST_PAUSE_MS;
        if (event.id !== null) last = event.id;
        if (event.data) take(event.kind, JSON.parse(event.data));
      }
      delay = FIRST_PAUSE_MS;
    } catch (error) {
      if (signal.aborted) return;
      if (error.status >= 400 && error.status < 500) throw error;
      waiting(error);
      delay = error.retryAfter ? 1000 * error.retryAfter : pause;
      pause = Math.min(2 * pause, LONGEST_PAUSE_MS);
    }
    await sleep(delay, signal);
  }
}

async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      text += value;
      const blocks = text.split("\n\n");
      text = blocks.pop();
      for (const block of blocks) yield parsed(block);
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function parsed(block) {
  const event = { id: null, kind: "message", data: "" };
  for (const line of block.split("\n")) {
    const colon = line.indexOf(":");
    const field = line.slice(0, colon);
    const value = line.slice(colon + 1).trimStart();
    if (field === "id") event.id = value;
    else if (field === "event") event.kind = value;
    else if (field === "data") event.data += value;
  }
  return event;
}

function sleep(milliseconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => { clearTimeout(timer); resolve(); }, { once: true });
  });
}
