"use strict";
/** Whether all is well: problems first, then the links to the grid, then the agent itself. */

import { byId, el, keyed, setAttribute, setText } from "./dom.js";
import { msOf, now } from "./clock.js";
import { UNKNOWN, count, duration, setTime } from "./format.js";
import { table } from "./tables.js";

/** A control cycle that takes as long as its period comes late. */
const LONG_CYCLE_S = 1;
/** Of problems, gravest first. */
const RANKS = ["critical", "warning", "info"];

function standing(link) {
  if (link.left !== null) return [`left by ${link.left.by}: ${link.left.why}`, "good"];
  if (link.lost_since !== null) return ["lost", "warning"];
  if (!link.registered) return ["not registered", "warning"];
  return ["registered", "good"];
}

function showStanding(cell, link) {
  if (!cell.firstChild)
    cell.append(
      el("span", { class: "state" }),
      el("span", { class: "quiet" }, " since ", el("time")),
    );
  const [text, kind] = standing(link);
  const [state, since] = cell.children;
  setText(state, text);
  setAttribute(state, "data-state", kind);
  since.hidden = link.lost_since === null;
  setTime(since.lastChild, link.lost_since);
}

function showContact(cell, link) {
  const at = msOf(link.last_contact);
  setText(cell, at === null ? "never" : `${duration(Math.max(0, now() - at) / 1000)} ago`);
}

/** The one time element of a cell. */
function timeIn(cell) {
  if (!cell.firstChild) cell.append(el("time"));
  return cell.firstChild;
}

const COLUMNS = [
  { label: "VEN", show: (cell, link) => setText(cell, link.ven) },
  { label: "State", show: showStanding },
  { label: "Last contact", numeric: true, show: showContact },
  {
    label: "Polls every",
    numeric: true,
    show: (cell, link) => setText(cell, duration(link.poll_s)),
  },
  { label: "Rejected", numeric: true, show: (cell, link) => setText(cell, String(link.rejected)) },
  {
    label: "Reports waiting",
    numeric: true,
    show: (cell, link) => setText(cell, String(link.reports_waiting)),
  },
  { label: "Certificate until", show: (cell, link) => setTime(timeIn(cell), link.certificate_expires) },
  { label: "VTN", wide: true, show: (cell, link) => setText(cell, `${link.profile}, ${link.url}`) },
  { label: "Trouble", wide: true, show: (cell, link) => setText(cell, link.trouble || "none") },
];

export class Health {
  #links = [];
  #table = table("Links to VTNs", COLUMNS, (link) => link.ven);
  #problems = keyed(byId("problems"), (problem) => problem.key, problemElement);
  #vitals = keyed(byId("vitals"), ({ label }) => label, vitalElement);

  constructor() {
    byId("links").append(this.#table.node);
  }

  /** Take in a new view. */
  show(view) {
    this.#links = view.links;
    const rank = (problem) => RANKS.indexOf(problem.severity);
    this.#problems([...view.problems].sort((one, other) => rank(one) - rank(other)));
    const links = view.links.length ? "" : " No VTN is configured: standing limits only.";
    setText(
      byId("health-summary"),
      (view.problems.length
        ? `${count(view.problems.length, "problem")}.`
        : "No problem is known.") + links,
    );
    this.#table.node.hidden = view.links.length === 0;
    this.#vitals(vitals(view));
    this.tick();
  }

  /** Ages grow by themselves; called every second. */
  tick() {
    this.#table.update(this.#links);
  }
}

function vitals(view) {
  const { quality } = view.power;
  const long = view.cycle_s >= LONG_CYCLE_S;
  return [
    { label: "Meter", value: quality, severity: quality === "good" ? null : "warning" },
    { label: "Last cycle took", value: cycle(view.cycle_s), severity: long ? "warning" : null },
    { label: "Setpoints in the ledger", value: String(view.setpoints), severity: null },
  ];
}

const cycle = (seconds) =>
  typeof seconds === "number" ? `${(seconds * 1000).toFixed(0)} ms` : UNKNOWN;

function vitalElement({ label }) {
  const value = el("dd");
  const node = el("div", {}, el("dt", {}, label), value);
  return {
    node,
    update: (vital) => {
      setText(value, vital.value);
      setAttribute(node, "data-severity", vital.severity);
    },
  };
}

function problemElement() {
  const severity = el("span", { class: "badge" });
  const text = el("span", { class: "foreign" });
  const since = el("time");
  return {
    node: el("li", {}, severity, " ", text, " ", el("span", { class: "quiet" }, "since ", since)),
    update: (problem) => {
      setText(severity, problem.severity);
      setAttribute(severity, "data-severity", problem.severity);
      setText(text, problem.text);
      setTime(since, problem.since);
    },
  };
}
