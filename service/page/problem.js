// An error in words, in its place; one that passes by itself says when, and can be tried again.

import { h } from "./dom.js";

const timers = new WeakMap();

export function clearProblem(box) {
  clearInterval(timers.get(box));
  box.hidden = true;
  box.replaceChildren();
}

export function showProblem(box, error, retry = null) {
  clearProblem(box);
  const text = h("span", {}, sentence(error.message));
  box.append(text);
  if (retry !== null && (error.status === 503 || error.status === 0)) {
    const button = h("button", { type: "button", class: "small", onclick: () => { clearProblem(box); retry(); } }, "Try again");
    box.append(button);
    if (error.retryAfter) countDown(box, button, error.retryAfter);
  }
  box.hidden = false;
}

function countDown(box, button, seconds) {
  let left = seconds;
  const tell = () => { button.textContent = left > 0 ? `Try again in ${left} s` : "Try again"; };
  tell();
  timers.set(box, setInterval(() => {
    left -= 1;
    tell();
    if (left <= 0) clearInterval(timers.get(box));
  }, 1000));
}

export function sentence(text) {
  const trimmed = text.trim();
  return trimmed.charAt(0).toUpperCase() + trimmed.slice(1) + (/[.!?]$/.test(trimmed) ? "" : ".");
}
