// The list of jobs: asked for while any is active, and the one at work followed live.

import { json } from "./api.js";
import { onModels, refreshModels } from "./catalogue.js";
import { byId } from "./dom.js";
import { follow } from "./events.js";
import { JobCard } from "./job.js";
import { clearProblem, showProblem } from "./problem.js";

const POLL_MS = 3000;
const SHOWN = 50;
const cards = new Map();
let followed = null;
let timer = 0;
let shown = false;

const isActive = (job) => job.state === "queued" || job.state === "running";

onModels(() => cards.forEach((card) => card.showActions()));

export function showJobs(on) {
  shown = on;
  if (on) refreshJobs();
  else clearTimeout(timer);
}

export async function refreshJobs() {
  clearTimeout(timer);
  try {
    const { jobs } = await json(`/jobs?limit=${SHOWN}`);
    clearProblem(byId("jobs-problem"));
    draw(jobs);
    followFirst(jobs);
    if (shown && jobs.some(isActive)) timer = setTimeout(refreshJobs, POLL_MS);
  } catch (error) {
    showProblem(byId("jobs-problem"), error, refreshJobs);
    if (shown) timer = setTimeout(refreshJobs, 2 * POLL_MS);
  }
}

function draw(jobs) {
  const list = byId("jobs");
  byId("no-jobs").hidden = jobs.length > 0;
  for (const [id, card] of cards) {
    if (!jobs.some((job) => job.id === id)) {
      card.element.remove();
      cards.delete(id);
    }
  }
  jobs.forEach((job, index) => {
    let card = cards.get(job.id);
    if (!card) {
      card = new JobCard(job, refreshJobs);
      cards.set(job.id, card);
    }
    if (list.children[index] !== card.element) list.insertBefore(card.element, list.children[index] ?? null);
    card.update(job);
  });
}

// One stream is enough, as jobs run one at a time; browsers open only six connections to a service.
function followFirst(jobs) {
  const job = jobs.find((each) => each.state === "running") ?? jobs.findLast((each) => each.state === "queued");
  if (!job || followed?.id === job.id) return;
  followed?.controller.abort();
  const controller = new AbortController();
  followed = { id: job.id, controller };
  const card = cards.get(job.id);
  const take = (kind, data) => {
    card.progress(kind, data);
    if (kind === "state") announce(`${card.job.model}: ${data.state}`);
    else if (data.stage !== card.announced) {
      card.announced = data.stage;
      announce(`${card.job.model}: ${data.stage}, ${Math.round(data.percentage)} %`);
    }
  };
  follow(`/jobs/${job.id}/events`, { take, waiting: () => card.lost(), signal: controller.signal })
    .catch((error) => showProblem(byId("jobs-problem"), error, refreshJobs))
    .finally(() => {
      if (followed?.controller === controller) followed = null;
      if (!controller.signal.aborted) {
        refreshJobs();
        refreshModels();
      }
    });
}

function announce(text) {
  byId("job-news").textContent = text;
}
