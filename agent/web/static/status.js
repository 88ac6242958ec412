"use strict";
/** The top of the page: the status sentence, the page's own connection, and what must be seen. */

import { byId, setAttribute, setText, showIf } from "./dom.js";
import { msOf, now } from "./clock.js";
import { count, localTime, power, zone } from "./format.js";
import { commandElement, siteCommand } from "./command.js";

/** A view older than this is not live: the agent makes one every second. */
const LIVE_MS = 5000;

export class Status {
  #announced = "";
  #socket;

  /** Take in a new view. */
  show(view) {
    setText(byId("sentence"), view.sentence);
    setText(byId("site"), view.site.name);
    byId("demo").hidden = !view.site.demo;
    setText(
      byId("version"),
      `flexload ${view.site.version}, started ${localTime(msOf(view.started_at))}`,
    );
    this.#commands(view.site.socket);
    this.#banners(view);
    this.#announce(view);
    const grave = view.problems.filter((one) => one.severity !== "info").length;
    const critical = view.problems.filter((one) => one.severity === "critical").length;
    const trouble = byId("trouble");
    showIf(
      trouble,
      grave && count(grave, "problem") + (critical ? `, ${critical} critical` : ""),
    );
    setAttribute(trouble, "data-severity", critical ? "critical" : "warning");
  }

  /**
   * Say whether what is shown is live; called every second.
   * @param {import("./stream.js").Stream} stream
   * @param {object|null} view
   */
  tick(stream, view) {
    const state = connectionOf(stream, view);
    const live = state === "live";
    setAttribute(document.body, "data-live", live ? "yes" : "no");
    setText(byId("connection"), state);
    setText(byId("zone"), `Times in ${zone()}`);
    const as = view && `What you see is of ${localTime(msOf(view.at))}.`;
    showIf(byId("not-live"), !live && view !== null && `Not live: ${state}. ${as}`);
    const site = view ? ` · ${view.site.name}` : "";
    document.title = `${live ? headline(view) : "not live"}${site} · flexload`;
    if (view === null && state !== "connecting") setText(byId("sentence"), waiting(stream));
  }

  #commands(socket) {
    if (socket === this.#socket) return;
    this.#socket = socket;
    const stop = siteCommand('pause --reason "..."', socket);
    byId("pause-command").replaceChildren(commandElement(stop));
    byId("stopped-command").replaceChildren(commandElement(siteCommand("resume", socket)));
  }

  #banners(view) {
    const { stop, power: p } = view;
    byId("stopped").hidden = stop === null;
    if (stop !== null) {
      setText(
        byId("stopped-text"),
        `Local stop by ${stop.by} since ${localTime(msOf(stop.since))}: ` +
          `${stop.why || "no reason given"}. flexload reports, and acts on nothing.`,
      );
    }
    const why = p.short_because.join("; ") || "nothing left to give";
    showIf(byId("short"), p.shortfall_w > 0 && `${power(p.shortfall_w)} short: ${why}`);
    showIf(
      byId("limit"),
      p.binding &&
        `Limit in force: at most ${power(p.ceiling_w)}, ` +
          `${p.ceiling_source}; ${view.setpoints ? count(view.setpoints, "setpoint") : "no setpoint"} in force.`,
    );
  }

  /** Read the sentence out when it says something new, not when its numbers move. */
  #announce(view) {
    const event = view.event && [view.event.event_id, view.event.phase];
    const lost = view.links.filter((link) => link.lost_since !== null).map((link) => link.ven);
    const said = JSON.stringify([view.stop?.since, event, lost, view.power.shortfall_w > 0]);
    if (said === this.#announced) return;
    this.#announced = said;
    setText(byId("announcement"), view.sentence);
  }
}

function connectionOf(stream, view) {
  if (stream.connection === "lost") return `reconnecting since ${localTime(stream.lostAt)}`;
  if (stream.connection === "connecting") return "connecting";
  if (view === null) return "waiting for the first cycle";
  return now() - msOf(view.at) <= LIVE_MS
    ? "live"
    : `no new cycle since ${localTime(msOf(view.at))}`;
}

const waiting = (stream) =>
  stream.connection === "open"
    ? "The agent has not completed its first cycle yet."
    : "The agent cannot be reached.";

const headline = (view) => (view.stop ? "stopped" : (view.event?.phase ?? "normal"));
