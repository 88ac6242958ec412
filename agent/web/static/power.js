"use strict";
/** The figures beside the chart; each that is drawn there carries its line as a key. */

import { byId, el, setAttribute, setText } from "./dom.js";
import { shownEvent } from "./event.js";
import { UNKNOWN, percent, power } from "./format.js";

const FIGURES = [
  ["Power now", "power", now],
  ["Ceiling", "ceiling", ceiling],
  ["Baseline", "baseline", baseline],
  ["Delivered", "", delivered],
  ["Unrestrained", "", unrestrained],
  ["Shortfall", "", shortfall],
];

/** @typedef {{value: string, note: string, severity?: string}} Figure */

export class Figures {
  #rows = FIGURES.map(([label, line, figure]) => {
    const value = el("span", { class: "figure" });
    const note = el("span", { class: "note quiet foreign" });
    const term = el("dt", line ? { class: "key", "data-line": line } : {}, label);
    const node = el("div", {}, term, el("dd", {}, value, note));
    byId("figures").append(node);
    return { node, value, note, figure };
  });

  /** Take in a new view. */
  show(view) {
    for (const { node, value, note, figure } of this.#rows) {
      const shown = figure(view);
      setText(value, shown.value);
      setText(note, shown.note);
      setAttribute(node, "data-severity", shown.severity ?? null);
    }
  }
}

const QUALITY = {
  good: "metered",
  estimated: "estimated: no usable meter reading",
  bad: "meter unreadable",
};

/** @returns {Figure} */
function now({ power: p }) {
  const severity = p.quality === "good" ? null : "warning";
  return { value: power(p.now_w), note: QUALITY[p.quality] ?? p.quality, severity };
}

/** @returns {Figure} */
function ceiling({ power: p }) {
  if (p.ceiling_w === null) return { value: "none", note: "nothing limits the site" };
  if (p.now_w === null) return { value: power(p.ceiling_w), note: p.ceiling_source };
  const room = p.ceiling_w - p.now_w;
  const word = room < 0 ? `${power(-room)} over it` : `${power(room)} below it`;
  return {
    value: power(p.ceiling_w),
    note: `${p.ceiling_source}; now ${word}`,
    severity: room < 0 ? "warning" : null,
  };
}

/** @returns {Figure} */
function baseline({ power: p, event }) {
  if (p.baseline_w !== null)
    return { value: power(p.baseline_w), note: p.baseline_method ?? UNKNOWN };
  if (event === null) return { value: "none", note: "frozen when an event begins to act" };
  return { value: "not yet", note: `frozen when ${event.event_id} begins to act` };
}

/** @returns {Figure} */
function delivered(view) {
  const event = shownEvent(view);
  const figures = event?.performance;
  if (!figures)
    return { value: "none", note: event ? "counted while holding" : "no event is under way" };
  const kept = `${percent(figures.compliant_share)} of the time at or below the limit`;
  return {
    value: power(figures.delivered_w),
    note: `of ${power(figures.committed_w)} committed for ${event.event_id}, mean while holding; ${kept}`,
  };
}

/** @returns {Figure} */
function unrestrained({ power: p }) {
  const goal = p.goal_w === null ? "" : `; aiming at ${power(p.goal_w)}`;
  const governor = p.governor ? `; local governor: ${p.governor}` : "";
  return { value: power(p.expected_w), note: `expected with nothing restrained${goal}${governor}` };
}

/** @returns {Figure} */
function shortfall({ power: p }) {
  if (!(p.shortfall_w > 0)) return { value: "none", note: "" };
  return { value: power(p.shortfall_w), note: p.short_because.join("; "), severity: "critical" };
}
