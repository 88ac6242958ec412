"use strict";
/** The event to speak of: its phases with their times, and the time to the next change. */

import { byId, el, keyed, setAttribute, setProperty, setText, showIf } from "./dom.js";
import { msOf, now } from "./clock.js";
import { count, countdown, duration, setTime } from "./format.js";
import { commandElement, eventCommand } from "./command.js";

const OVER = ["completed", "cancelled", "opted out"];
/** How long an event that is over stays on top. */
const AFTERGLOW_MS = 30 * 60_000;

const STEPS = [
  { phase: "notified", from: "received_at", until: "ramp_from" },
  { phase: "pending", from: null, until: "ramp_from" },
  { phase: "ramping down", from: "ramp_from", until: "hold_from" },
  { phase: "holding", from: "hold_from", until: "hold_until" },
  { phase: "ramping up", from: "hold_until", until: "done_at" },
  { phase: "completed", from: "done_at", until: null },
];

export const isOver = (event) => OVER.includes(event.phase);

/** What an event asks first, in words. */
export const askOf = (event) => event.ask ?? "nothing that sheds";

/** Whether the operator can still leave the event or take it up again. */
export function openTo(event) {
  const ended = event.hold_until !== null && Date.parse(event.hold_until) <= now();
  if (event.phase === "opted out") return ended ? null : "opt-in";
  return isOver(event) || ended ? null : "opt-out";
}

/** The event to speak of: the agent's own choice, or one that is over while it is news. */
export function shownEvent(view) {
  const recent = (event) => (msOf(event.done_at) ?? Infinity) > now() - AFTERGLOW_MS;
  return view.event ?? view.events.find((event) => isOver(event) && recent(event)) ?? null;
}

export class EventPanel {
  #event = null;
  #shownCommand = null;
  #steps = keyed(byId("phases"), (step) => step.phase, stepElement);

  /** Take in a new view. */
  show(view) {
    const event = shownEvent(view);
    this.#event = event;
    byId("phases").hidden = event === null;
    byId("event-test").hidden = !event?.test;
    if (event === null) {
      setText(byId("event-title"), "No event");
      setText(byId("event-asks"), rest(view.events_known));
    } else {
      const others = view.events_live - (isOver(event) ? 0 : 1);
      const more = others ? ` · ${count(others, "more event")} to come: see Events` : "";
      setText(byId("event-title"), `Event ${event.event_id}`);
      setText(
        byId("event-asks"),
        `${event.program} ${isOver(event) ? "asked" : "asks"} ${askOf(event)}${more}`,
      );
    }
    showIf(byId("event-opt"), event && `· opt ${event.opt} by ${event.opt_by}: ${event.opt_why}`);
    this.#command(event, view);
    this.tick();
  }

  /** Move the countdown and the bar on; called every second. */
  tick() {
    const event = this.#event;
    const change = event === null ? null : nextChange(event);
    byId("countdown").hidden = change === null;
    if (event === null) return;
    this.#steps(STEPS.map((step) => ({ ...step, event })));
    if (change === null) return;
    setText(byId("countdown-label"), change.label);
    setText(byId("countdown-left"), change.text);
    setAttribute(byId("countdown-left"), "aria-label", `${change.label} ${change.spoken}`);
  }

  #command(event, { site }) {
    const action = event && openTo(event);
    const text = action && eventCommand(action, event, event.ambiguous, site.socket);
    if (text === this.#shownCommand) return;
    this.#shownCommand = text;
    const node = byId("event-command");
    node.hidden = !text;
    const lead = action === "opt-in" ? "To take it up again: " : "To leave it: ";
    node.replaceChildren(...(text ? [lead, commandElement(text)] : []));
  }
}

function rest(known) {
  if (!known) return "The grid has not called any event.";
  return `None is under way or to come. ${count(known, "earlier event")}: see Events.`;
}

function stepElement() {
  const name = el("span", { class: "step-name" });
  const time = el("time", { class: "quiet" });
  const note = el("span", { class: "unseen" });
  const node = el("li", {}, el("span", { class: "step-bar" }), name, time, note);
  return { node, update: (step) => showStep(step, node, name, time, note) };
}

function showStep({ phase, from, until, event }, node, name, time, note) {
  const position = STEPS.findIndex((step) => step.phase === phase);
  const ended = isOver(event);
  const at = ended ? STEPS.length - 1 : STEPS.findIndex((step) => step.phase === event.phase);
  const last = position === STEPS.length - 1;
  const skipped = ended && !last && position > 1 && !acted(event);
  let state = position < at ? "past" : position === at ? "now" : "ahead";
  if (skipped) state = "skipped";
  setAttribute(node, "data-state", state);
  setAttribute(node, "aria-current", state === "now" ? "step" : null);
  setText(name, last && ended ? event.phase : phase);
  if (skipped) setTime(time, null, "did not happen");
  else
    setTime(
      time,
      from && event[from],
      from === "hold_until" || from === "done_at" ? "when called off" : "",
    );
  setText(note, state === "past" ? "done" : "");
  setProperty(node, "--done", state === "now" && !ended ? progress(event, from, until) : "1");
}

const acted = (event) =>
  event.performance !== null ||
  (event.phase === "completed" && event.hold_until !== event.ramp_from);

function progress(event, from, until) {
  const [start, end] = [from && msOf(event[from]), until && msOf(event[until])];
  if (start === null || end === null || end <= start) return "1";
  return Math.min(1, Math.max(0, (now() - start) / (end - start))).toFixed(3);
}

/** What comes next and when: {label, text, spoken}; null when nothing does. */
function nextChange(event) {
  if (isOver(event)) return null;
  const letGo = msOf(event.hold_until) ?? Infinity;
  const changes = [
    [
      Date.parse(event.ramp_from),
      event.ramp_from === event.hold_from ? "begins in" : "ramps down in",
    ],
    [Date.parse(event.hold_from), "full delivery in"],
    ...event.asks.map((ask) => [Date.parse(ask.from), `${ask.text} in`]),
  ].filter(([at]) => at < letGo);
  changes.push([letGo, "ends in"]);
  changes.push([msOf(event.done_at) ?? Infinity, "back to normal in"]);
  const next = changes.filter(([at]) => at > now()).sort(([one], [other]) => one - other)[0];
  if (next === undefined) return null;
  if (next[0] === Infinity) return { label: "until called off", text: "", spoken: "" };
  const leftMs = next[0] - now();
  return { label: next[1], text: countdown(leftMs), spoken: duration(leftMs / 1000) };
}
