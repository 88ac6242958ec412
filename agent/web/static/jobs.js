"use strict";
/** The jobs, with what their owners agreed to give up and what they give now. */

import { byId, el, setAttribute, setText, showIf } from "./dom.js";
import { count, power, setTime, watts } from "./format.js";
import { table } from "./tables.js";

/** A pause is a command first and a fact later: a job may run on after it was told to pause. */
function stateOf(job) {
  if (job.paused_by_us) {
    return job.state === "paused"
      ? ["paused by flexload", "ours"]
      : [`told to pause, still ${job.state}`, "ours"];
  }
  if (job.state === "paused") return ["paused by somebody else", "theirs"];
  return job.cap_w === null ? [job.state, job.state] : [`${job.state}, capped`, "capped"];
}

function showState(cell, job) {
  if (!cell.firstChild)
    cell.append(
      el("span", { class: "state" }),
      " ",
      el("span", { class: "quiet" }, "since ", el("time")),
    );
  const [text, kind] = stateOf(job);
  const [state, since] = cell.children;
  setText(state, text);
  setAttribute(state, "data-state", kind);
  // Since when it is capped is another matter.
  since.hidden = job.since === null || kind === "capped";
  setTime(since.lastChild, job.since);
}

const tierOf = (job) => {
  const pause = job.may_pause ? ", may pause" : "";
  return `${job.tier === 0 && !job.may_pause ? "0, protected" : job.tier}${pause}`;
};

const COLUMNS = [
  { label: "Job", show: (cell, job) => setText(cell, job.name) },
  { label: "Class", show: (cell, job) => setText(cell, job.class) },
  { label: "Tier", show: (cell, job) => setText(cell, tierOf(job)) },
  { label: "State", wide: true, show: showState },
  { label: "GPUs", numeric: true, show: (cell, job) => setText(cell, String(job.gpus)) },
  {
    label: "Power",
    numeric: true,
    show: (cell, job) => setText(cell, job.gpus ? power(job.power_w) : "no GPU"),
  },
  {
    label: "Cap a GPU",
    numeric: true,
    show: (cell, job) => setText(cell, job.cap_w === null ? "none" : watts(job.cap_w)),
  },
  { label: "Reason", wide: true, show: (cell, job) => setText(cell, job.reason) },
];

export class Jobs {
  #table = table("Jobs", COLUMNS, (job) => job.id);

  constructor() {
    byId("jobs-list").append(this.#table.node);
  }

  /** Take in a new view. */
  show(view) {
    const jobs = view.workloads;
    const ours = jobs.filter((job) => job.paused_by_us).length;
    const capped = jobs.filter((job) => !job.paused_by_us && job.cap_w !== null).length;
    showIf(
      byId("jobs-summary"),
      jobs.length
        ? `${count(jobs.length, "job")} · ${capped} capped · ${ours} paused by flexload`
        : "No job is known.",
    );
    this.#table.node.hidden = jobs.length === 0;
    this.#table.update(jobs);
  }
}
