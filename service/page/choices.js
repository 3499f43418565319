// Lists of models to choose from. What the user chose stays when a list is drawn again; until then the proposal counts.

import { h } from "./dom.js";

export function fillSelect(select, options, proposal = null) {
  const text = JSON.stringify([options, proposal]);
  if (select.dataset.options === text) return;
  watch(select);
  select.dataset.options = text;
  const wanted = select.dataset.chosen ? select.value : proposal ?? select.value;
  select.replaceChildren(...options.map(([value, label]) => h("option", { value }, label)));
  if (options.some(([value]) => value === wanted)) select.value = wanted;
}

export function fillChecks(box, name, options, proposal) {
  const text = JSON.stringify([options, proposal]);
  if (box.dataset.options === text) return;
  watch(box);
  box.dataset.options = text;
  const wanted = new Set(box.dataset.chosen ? checkedValues(box) : proposal);
  box.replaceChildren(...options.map(([value, label, note]) => h(
    "label", {},
    h("input", { type: "checkbox", name, value, checked: wanted.has(value) }),
    h("span", {}, label, note ? h("span", { class: "hint" }, ` ${note}`) : null),
  )));
}

export const checkedValues = (box) => [...box.querySelectorAll("input:checked")].map((input) => input.value);

function watch(element) {
  if (element.dataset.options === undefined) element.addEventListener("change", () => { element.dataset.chosen = "yes"; });
}
