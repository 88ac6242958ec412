"use strict";
/** The chart's samples of one stretch of time: a bounded number, whatever the stretch. */

const MOST_POINTS = 3600;
/** Samples further apart than this many steps have a gap between them, not a line. */
const GAP_STEPS = 4;

/** @typedef {{at: number, power: number|null, ceiling: number|null}} Sample times in ms, W */

export class Series {
  /** @type {Sample[]} */
  #samples = [];
  #spanMs;

  /** @param {number} spanMs how far back to keep */
  constructor(spanMs) {
    this.#spanMs = spanMs;
  }

  get spanMs() {
    return this.#spanMs;
  }

  /** Time between two kept samples: the agent's second, or longer where there would be too many. */
  get stepMs() {
    return Math.max(1000, this.#spanMs / MOST_POINTS);
  }

  /** Keep another stretch from now on; what lies within is kept until history replaces it. */
  restart(spanMs) {
    this.#spanMs = spanMs;
  }

  /** Take over history as the API gives it; live samples after its end stay. */
  replace(history) {
    const old = history.at.map((seconds, i) => ({
      at: seconds * 1000,
      power: history.power_w[i],
      ceiling: history.ceiling_w[i],
    }));
    const end = old.length ? old[old.length - 1].at : -Infinity;
    this.#samples = [...old, ...this.#samples.filter((sample) => sample.at > end)];
  }

  /** Add a live sample, unless the last kept one is nearer than a step. */
  append(sample) {
    const last = this.#samples[this.#samples.length - 1];
    // Half a step of grace: cycles jitter, and one a few ms early is not a sample too many.
    if (last && sample.at - last.at < this.stepMs - 500) return;
    this.#samples.push(sample);
    const from = sample.at - this.#spanMs;
    if (this.#samples[0].at < from) {
      const first = this.#samples.findIndex((kept) => kept.at >= from);
      this.#samples.splice(0, first);
    }
  }

  /** When the first kept sample was, ms; null when there is none. */
  get firstAt() {
    return this.#samples.length ? this.#samples[0].at : null;
  }

  /**
   * Columns for drawing from `fromMs` on; a gap becomes a sample without values.
   * @returns {{at: number[], power: (number|null)[], ceiling: (number|null)[]}}
   */
  columns(fromMs) {
    const columns = { at: [], power: [], ceiling: [] };
    const put = (at, power, ceiling) => {
      columns.at.push(at);
      columns.power.push(power);
      columns.ceiling.push(ceiling);
    };
    let before = Infinity;
    for (const { at, power, ceiling } of this.#samples) {
      if (at < fromMs) continue;
      if (at - before > GAP_STEPS * this.stepMs) put(before + this.stepMs, null, null);
      put(at, power, ceiling);
      before = at;
    }
    return columns;
  }
}
