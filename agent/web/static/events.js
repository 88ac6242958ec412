"use strict";
/**
 * Events, newest first, with what was delivered against what was committed: those that every view
 * carries, or all that are kept. What one holds in detail is fetched when it is opened.
 */

import { Book, keyOf } from "./book.js";
import { byId, el, keyed, setText, showIf } from "./dom.js";
import { UNKNOWN, count, duration, energy, percent, power, setTime } from "./format.js";
import { commandElement, eventCommand } from "./command.js";
import { askOf, isOver, openTo } from "./event.js";
import { table } from "./tables.js";

const fromPerformance =
  (say, absent = "not yet") =>
  (cell, event) =>
    setText(cell, event.performance ? say(event.performance) : isOver(event) ? "none" : absent);

function showId(cell, event) {
  if (!cell.firstChild)
    cell.append(
      el("span"),
      " ",
      el("span", { class: "badge", "data-severity": "warning" }, "Test"),
    );
  setText(cell.firstChild, event.ambiguous ? `${event.event_id} of ${event.ven}` : event.event_id);
  cell.lastChild.hidden = !event.test;
}

function showOpt(cell, event) {
  if (!cell.firstChild) cell.append(el("span"), " ", el("span", { class: "quiet" }));
  setText(cell.firstChild, event.opt);
  setText(cell.lastChild, `by ${event.opt_by}: ${event.opt_why}`);
}

function showWindow(cell, event) {
  if (!cell.firstChild) cell.append(el("time"), " to ", el("time"));
  setTime(cell.firstChild, event.ramp_from);
  setTime(cell.lastChild, event.done_at, "called off");
}

const COLUMNS = [
  { label: "Event", show: showId },
  { label: "Phase", show: (cell, event) => setText(cell, event.phase ?? UNKNOWN) },
  { label: "Program", show: (cell, event) => setText(cell, event.program) },
  { label: "Asked", show: (cell, event) => setText(cell, askOf(event)) },
  { label: "Opt", wide: true, show: showOpt },
  { label: "From, to", wide: true, show: showWindow },
  { label: "Delivered", numeric: true, show: fromPerformance((p) => power(p.delivered_w)) },
  { label: "Committed", numeric: true, show: fromPerformance((p) => power(p.committed_w)) },
  { label: "Compliance", numeric: true, show: fromPerformance((p) => percent(p.compliant_share)) },
  { label: "Worst over", numeric: true, show: fromPerformance(worst) },
];

function worst({ worst_over_w: over_w }) {
  return over_w > 0 ? power(over_w) : `none, ${power(-over_w)} below`;
}

/** The facts of one event: [label, value, whether it is a time]. */
function facts(event) {
  const times = [
    ["Received", "received_at"],
    ["Starts", "starts_at"],
    ["Ramps down", "ramp_from"],
    ["Holds", "hold_from"],
    ["Lets go", "hold_until"],
    ["Back to normal", "done_at"],
  ];
  const p = event.performance;
  return [
    ["VEN", event.ven],
    ["Revision", String(event.revision)],
    ...times.map(([label, key]) => [label, event[key], true]),
    ["Baseline", event.baseline_w === null ? "not frozen" : power(event.baseline_w)],
    ["Held", p ? duration(p.held_s) : "not yet"],
    ["Energy shed", p ? energy(p.energy_shed_wh) : "not yet"],
    ["Comment", event.comment || "none"],
  ];
}

function factElement([label]) {
  const value = el("dd", { class: "foreign" });
  return {
    node: el("div", {}, el("dt", {}, label), value),
    update: ([, text, isTime]) => {
      if (!isTime) return setText(value, text);
      if (!value.firstElementChild) value.append(el("time"));
      return setTime(value.firstElementChild, text, "when called off");
    },
  };
}

const valueOf = (value, unit) =>
  unit === "W" ? power(value) : `${value}${unit === "1" ? "" : ` ${unit}`}`;

const signalText = ({ name, unit, values }, i) =>
  `${i + 1}. ${name}: ${values.map((value) => valueOf(value, unit)).join(", ") || "no value"}`;

function itemElement() {
  const node = el("li", { class: "foreign" });
  return { node, update: (text) => setText(node, text) };
}

/** The inside of a detail row, made when it is first opened. */
function makeDetail(cell) {
  const [list, signals, asks] = [el("dl", { class: "facts" }), el("ul"), el("ol")];
  const command = el("p", { class: "commands" });
  cell.append(
    list,
    el("h4", {}, "Signals"),
    signals,
    el("h4", {}, "Asks of this site"),
    asks,
    command,
  );
  const parts = {
    facts: keyed(list, ([label]) => label, factElement),
    signals: keyed(signals, (text) => text, itemElement),
    asks: keyed(asks, (ask) => ask.from, askElement),
  };
  let shown = null;
  return (event, whole, { site }) => {
    parts.facts(facts(event));
    parts.signals(whole?.signals.map(signalText) ?? ["loading"]);
    parts.asks(whole?.asks ?? []);
    const action = openTo(event);
    const text = action && eventCommand(action, event, event.ambiguous, site.socket);
    if (text !== shown) command.replaceChildren(...(text ? [commandElement(text)] : []));
    shown = text;
  };
}

function askElement() {
  const [at, text] = [el("time"), el("span")];
  return {
    node: el("li", {}, "from ", at, ": ", text),
    update: (ask) => {
      setTime(at, ask.from);
      setText(text, ask.text);
    },
  };
}

export class Events {
  #view = null;
  #book = new Book(() => this.#update());
  #details = new WeakMap();
  #table = table("Events, newest first", COLUMNS, keyOf, {
    name: (event) => `event ${event.event_id}`,
    show: (cell, event) => {
      if (!this.#details.has(cell)) this.#details.set(cell, makeDetail(cell));
      this.#details.get(cell)(event, this.#book.whole(event), this.#view);
    },
  });

  constructor() {
    byId("events-list").append(this.#table.node);
    byId("events-all").addEventListener("click", () => this.#book.open());
  }

  /** Take in a new view. */
  show(view) {
    this.#view = view;
    this.#book.refresh();
    this.#update();
  }

  #update() {
    const { events, events_known: known } = this.#view;
    setText(
      byId("events-summary"),
      known ? count(known, "event") : "The grid has not called any event.",
    );
    this.#table.node.hidden = known === 0;
    this.#table.update(this.#book.withOlder(events));
    const failed = this.#book.failed ? ": they could not be loaded, try again" : "";
    showIf(
      byId("events-all"),
      known > events.length && !this.#book.isOpen && `Show all ${known} events${failed}`,
    );
  }
}
