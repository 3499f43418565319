// One job as a card that is changed in place, so that neither the focus nor the page jumps.

import { json, save } from "./api.js";
import { canAnswer, catalogue, refreshModels } from "./catalogue.js";
import { h, say } from "./dom.js";
import { moment, seconds } from "./format.js";
import { promote } from "./models.js";
import { clearProblem, sentence, showProblem } from "./problem.js";
import { report } from "./report.js";

const KINDS = { queued: null, running: "accent", succeeded: "good", failed: "bad", cancelled: null, quarantined: "warn" };
const ACTIVE = ["queued", "running"];
const WITH_RESULT = ["succeeded", "quarantined"];

export class JobCard {
  constructor(job, refresh) {
    this.job = job;
    this.announced = null;
    this.refresh = refresh;
    this.badge = h("span", { class: "badge" });
    this.bar = h("progress", { max: 100, value: 0, "aria-label": `Progress of ${job.model}` });
    this.doing = h("p", { class: "doing hint figure" });
    this.problem = h("div", { class: "notice", "data-kind": "bad", role: "alert", hidden: true });
    this.actions = h("div", { class: "row" });
    this.report = h("div", { class: "report" });
    this.details = h("details", { hidden: true, ontoggle: () => this.loadReport() }, h("summary", {}, "Report"), this.report);
    this.element = h("li", { class: "card job", "data-id": job.id },
      h("header", {}, h("h3", { class: "name" }, job.model), h("span", { class: "badge" }, wish(job)), this.badge, h("span", { class: "aside" }, moment(job.created))),
      this.bar, this.doing, this.problem, this.actions, this.details);
  }

  update(job) {
    const fresher = ACTIVE.includes(job.state) && job.percentage < this.job.percentage;
    this.job = fresher ? { ...job, ...pick(this.job, ["stage", "layer", "percentage", "message"]) } : job;
    this.show();
  }

  // An event of the job.
  progress(kind, data) {
    this.job = { ...this.job, ...(kind === "state" ? { state: data.state, reason: data.reason ?? null } : { state: "running", ...pick(data, ["stage", "layer", "percentage", "message"]) }) };
    this.show();
  }

  lost() {
    say(this.doing, "The connection was lost; trying again…");
  }

  show() {
    const { job } = this;
    const active = ACTIVE.includes(job.state);
    this.badge.textContent = job.cancelling ? "cancelling" : job.state;
    if (KINDS[job.state]) this.badge.dataset.kind = KINDS[job.state];
    else delete this.badge.dataset.kind;
    this.bar.value = job.state === "succeeded" ? 100 : job.percentage;
    this.bar.hidden = !active;
    say(this.doing, doing(job));
    this.details.hidden = !WITH_RESULT.includes(job.state);
    this.showActions();
  }

  showActions() {
    const { job } = this;
    const model = catalogue().models.find((each) => each.name === job.model);
    const wanted = [];
    if (ACTIVE.includes(job.state) && !job.cancelling) wanted.push(["Cancel", () => this.act(() => json(`/jobs/${job.id}`, { method: "DELETE" }))]);
    if (WITH_RESULT.includes(job.state) && model?.family) {
      if (canAnswer(model)) wanted.push(["Try it", () => this.element.dispatchEvent(new CustomEvent("try-model", { bubbles: true, detail: model.name }))]);
      if (model.default) wanted.push(["Roll back", () => this.act(() => json("/models/default/rollback", { method: "POST" }))]);
      else if (model.family !== "network") wanted.push(["Make default", () => promote(model, this.problem)]);
      wanted.push(["Download", () => this.act(() => save(`/models/${model.name}/download`, `${model.name}.zip`))]);
      wanted.push(["Download the stream", () => this.act(() => save(`/models/${model.name}/download?format=transport`, `${model.name}.dtz`))]);
    }
    const names = wanted.map(([name]) => name).join();
    if (this.actions.dataset.names === names) return;
    const focused = this.actions.contains(document.activeElement);
    this.actions.dataset.names = names;
    this.actions.replaceChildren(...wanted.map(([name, onclick]) => h("button", { type: "button", class: "small", "aria-label": `${name}: ${job.model}`, onclick }, name)));
    if (focused) (this.actions.querySelector("button") ?? this.details.querySelector("summary")).focus();
  }

  async act(action) {
    clearProblem(this.problem);
    try {
      await action();
    } catch (error) {
      showProblem(this.problem, error, () => this.act(action));
    }
    await Promise.all([this.refresh(), refreshModels()]);
  }

  async loadReport() {
    if (!this.details.open || this.report.childElementCount) return;
    try {
      this.report.replaceChildren(...report(await json(`/jobs/${this.job.id}/report`)));
    } catch (error) {
      showProblem(this.problem, error, () => this.loadReport());
    }
  }
}

function wish({ spec, method }) {
  if (spec.budget) return "budget";
  return spec.size ? `${method}, ${Number((100 * spec.size).toPrecision(3))} %` : method;
}

function doing(job) {
  if (job.state === "queued") return "Waiting for its turn.";
  if (job.state === "running") {
    const where = [job.stage, job.layer].filter(Boolean).join(", ");
    return `${Math.round(job.percentage)} % · ${where || "starting"}${job.message ? ` · ${job.message}` : ""}`;
  }
  const took = job.started && job.finished ? `Took ${seconds((new Date(job.finished) - new Date(job.started)) / 1000)}. ` : "";
  // The event that ends a job tells its state alone; what became of the result comes with the list of jobs.
  const known = job.state === "succeeded" && job.finished;
  const ending = job.reason ? sentence(job.reason) : known ? (job.hosted ? "Hosted." : "Kept for download.") : "";
  return took + ending;
}

const pick = (object, names) => Object.fromEntries(names.filter((name) => name in object).map((name) => [name, object[name]]));
