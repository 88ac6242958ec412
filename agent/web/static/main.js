"use strict";
/** The page: one stream of views in, every part shows its share of the latest one. */

import { now } from "./clock.js";
import { PowerChart } from "./chart.js";
import { EventPanel } from "./event.js";
import { Events } from "./events.js";
import { Gpus } from "./gpus.js";
import { Health } from "./health.js";
import { Jobs } from "./jobs.js";
import { Figures } from "./power.js";
import { Status } from "./status.js";
import { Stream } from "./stream.js";

const status = new Status();
const event = new EventPanel();
const chart = new PowerChart();
const health = new Health();
const parts = [status, event, chart, new Figures(), new Gpus(), new Jobs(), new Events(), health];

let view = null;
let pending = false;

const stream = new Stream("/api/v1/stream", {
  onView: (latest) => {
    // A page that stays open over an upgrade of the agent must not render new views with old code.
    if (view !== null && latest.site.version !== view.site.version) return location.reload();
    view = latest;
    pending = true;
    return render();
  },
  onOpen: () => {
    chart.fill();
    tick();
  },
  onLost: tick,
});

/** Show the latest view. A hidden page only keeps the chart's samples and catches up when seen. */
function render() {
  if (!pending) return;
  if (document.hidden) {
    chart.show(view);
    return;
  }
  pending = false;
  for (const part of parts) part.show(view);
  tick();
}

function tick() {
  stream.watch();
  status.tick(stream, view);
  event.tick();
  health.tick();
}

/** Tick on the agent's full seconds, so that countdowns move evenly. */
function beat() {
  if (document.hidden) stream.watch();
  else tick();
  setTimeout(beat, 1000 - (now() % 1000) + 5);
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  if (stream.connection === "open")
    chart.fill(); // samples may be missing where it was frozen
  else stream.connect();
  render();
  tick();
});

stream.connect();
beat();
