"use strict";
/** Power over time against its ceiling and baseline, drawn by plotly with our colours. */

import { byId, el, setAttribute, setText } from "./dom.js";
import { learn, msOf, now } from "./clock.js";
import { power } from "./format.js";
import { Series } from "./series.js";

const MINUTE_MS = 60_000;
const RANGES = [
  ["10 min", 10 * MINUTE_MS],
  ["1 h", 60 * MINUTE_MS],
  ["6 h", 360 * MINUTE_MS],
];
/** The chart is at least this wide in time, so that a young agent's line grows into it. */
const LEAST_SPAN_MS = 2 * MINUTE_MS;
/** Noise on a level line is not blown up beyond this share of the level. */
const LEAST_SHARE = 0.2;
const CONFIG = { displayModeBar: false, displaylogo: false };

export class PowerChart {
  #node = byId("plot");
  #note = byId("chart-note");
  #series = new Series(RANGES[0][1]);
  #view = null;
  /** @type {"absent" | "loading" | "here" | "failed"} */
  #library = "absent";
  #queued = false;

  constructor() {
    const buttons = RANGES.map(([label, spanMs]) => {
      const button = el("button", { type: "button" }, label);
      button.addEventListener("click", () => this.#choose(spanMs, buttons));
      return button;
    });
    byId("ranges").append(...buttons);
    this.#press(buttons);
    new ResizeObserver(() => this.draw()).observe(this.#node);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  /** Take in a new view. */
  show(view) {
    this.#view = view;
    const { now_w, ceiling_w, ceiling_source } = view.power;
    // As in the history: the site's own largest import is no ceiling to draw, it would flatten all else.
    const ceiling = ceiling_source?.startsWith("site limit ") ? null : ceiling_w;
    this.#series.append({ at: msOf(view.at), power: now_w, ceiling });
    this.draw();
  }

  /** Fetch what was before, or what was missed while the connection was lost. */
  async fill() {
    const spanMs = this.#series.spanMs;
    if (this.#library === "failed") this.#library = "absent";
    try {
      const answer = await fetch(`/api/v1/history?minutes=${spanMs / MINUTE_MS}`);
      learn(answer.headers.get("Date"));
      if (!answer.ok) return;
      const history = await answer.json();
      if (spanMs !== this.#series.spanMs) return; // another range was chosen meanwhile
      this.#series.replace(history);
    } catch {
      return; // the stream notices the same loss, says so and comes back here
    }
    this.draw();
  }

  /** Draw soon; many calls in one frame draw once, and a hidden page draws nothing. */
  draw() {
    if (this.#queued || this.#view === null) return;
    this.#queued = true;
    requestAnimationFrame(() => {
      this.#queued = false;
      if (this.#library === "here") this.#plot();
      else if (this.#library === "absent") this.#load();
    });
  }

  /** Load the library once, and again after a failure when the agent is back. */
  async #load() {
    this.#library = "loading";
    try {
      await script("/static/plotly.min.js");
      this.#library = "here";
      this.#note.hidden = true;
      this.draw();
    } catch {
      this.#library = "failed";
      setText(this.#note, "The chart library could not be loaded. The figures are complete.");
    }
  }

  #choose(spanMs, buttons) {
    this.#series.restart(spanMs);
    this.#press(buttons);
    this.fill();
  }

  #press(buttons) {
    RANGES.forEach(([, spanMs], i) => {
      buttons[i].setAttribute("aria-pressed", String(spanMs === this.#series.spanMs));
    });
  }

  #plot() {
    const [from, to] = this.#span();
    const columns = this.#series.columns(from);
    const base = baselines(this.#view.events, from, to);
    const { now_w, ceiling_w, binding, ahead: corners } = this.#view.power;
    const beyond = corners.findIndex((corner) => Date.parse(corner.at) > to);
    const ahead = beyond < 0 ? corners : corners.slice(0, beyond + 1);
    const limits = ahead.map((corner) => corner.limit_w);
    const values = [...columns.power, ...columns.ceiling, ...base.power, ...limits].filter(
      (w) => w !== null,
    );
    const [unit, factor] = Math.max(0, ...values) >= 1e6 ? ["MW", 1e6] : ["kW", 1e3];
    const scaled = (list) => list.map((w) => (w === null ? null : w / factor));
    const style = colours(this.#node);
    const times = columns.at.map(shown);
    const line = (name, column, x, look) => ({
      name,
      x,
      y: scaled(column),
      mode: "lines",
      line: look,
      hovertemplate: `%{y:.2f} ${unit}`,
      connectgaps: false,
    });
    const traces = [
      line("Baseline", base.power, base.at.map(shown), {
        color: style.baseline,
        width: 2,
        dash: "dot",
      }),
      line("Ceiling", columns.ceiling, times, { color: style.ceiling, width: 2, dash: "dash" }),
      line("Power", columns.power, times, { color: style.power, width: 2.5 }),
      {
        ...line(
          "Ceiling to come",
          limits,
          ahead.map((corner) => shown(Date.parse(corner.at))),
          { color: style.ceiling, width: 2, dash: "dash" },
        ),
        opacity: 0.5,
      },
    ];
    const layout = {
      ...frame(style, this.#node),
      xaxis: {
        ...axis(style),
        type: "date",
        range: [shown(from), shown(to)],
        nticks: ticks(this.#node),
        ticklabeloverflow: "allow",
        tickformat: to - from > 30 * MINUTE_MS ? "%H:%M" : "%H:%M:%S",
        hoverformat: "%H:%M:%S",
      },
      yaxis: {
        ...axis(style),
        range: bounds(values.map((w) => w / factor)),
        ticksuffix: ` ${unit}`,
        nticks: 7,
      },
      shapes: [...windows(this.#view.events, from, to, style), present(style)],
    };
    const limit = binding ? `, ceiling ${power(ceiling_w)}` : "";
    setAttribute(
      byId("chart"),
      "aria-label",
      `Chart of the site's power, now ${power(now_w)}${limit}`,
    );
    return globalThis.Plotly.react(this.#node, traces, layout, CONFIG);
  }

  /** From the first sample within the range to the end of a running event, if that is near. */
  #span() {
    const present = now();
    const spanMs = this.#series.spanMs;
    const from = Math.max(present - spanMs, this.#series.firstAt ?? present);
    const event = this.#view.event;
    let ahead = spanMs / 50;
    if (event !== null && Date.parse(event.ramp_from) - present < spanMs / 2) {
      const until = msOf(event.done_at) ?? Infinity;
      ahead = Math.max(ahead, Math.min(until - present + spanMs / 50, spanMs / 2));
    }
    return [from, Math.max(present + ahead, from + LEAST_SPAN_MS)];
  }
}

/** Load a plain script. */
function script(address) {
  return new Promise((resolve, reject) => {
    const node = el("script", { src: address });
    node.addEventListener("load", resolve);
    node.addEventListener("error", reject);
    document.head.append(node);
  });
}

/** Local time as plotly takes it at face value; what it makes of numbers differs by version. */
function shown(ms) {
  return new Date(ms - new Date(now()).getTimezoneOffset() * MINUTE_MS).toISOString().slice(0, -1);
}

/** Each event's baseline over its window. */
function baselines(events, from, to) {
  const column = { at: [], power: [] };
  for (const event of events) {
    const [start, end] = [Date.parse(event.ramp_from), msOf(event.done_at) ?? to];
    if (event.baseline_w === null || end < from || start > to || end <= start) continue;
    column.at.push(Math.max(start, from), Math.min(end, to), Math.min(end, to));
    column.power.push(event.baseline_w, event.baseline_w, null);
  }
  return column;
}

/** Every event's window as shaded stretches, the ramps lighter. */
function windows(events, from, to, style) {
  const shapes = [];
  const shade = (start, end, colour) => {
    const [x0, x1] = [Math.max(start, from), Math.min(end, to)];
    if (x1 <= x0) return;
    shapes.push({
      type: "rect",
      xref: "x",
      yref: "paper",
      x0: shown(x0),
      x1: shown(x1),
      y0: 0,
      y1: 1,
      fillcolor: colour,
      line: { width: 0 },
      layer: "below",
    });
  };
  for (const event of events) {
    if (event.phase === "opted out" && event.performance === null) continue;
    const letGo = msOf(event.hold_until) ?? to;
    const hold = Math.min(Date.parse(event.hold_from), letGo);
    shade(Math.min(Date.parse(event.ramp_from), letGo), hold, style.ramp);
    shade(hold, letGo, style.hold);
    if (Date.parse(event.ramp_from) < letGo) shade(letGo, msOf(event.done_at) ?? to, style.ramp);
  }
  return shapes;
}

const present = (style) => ({
  type: "line",
  xref: "x",
  yref: "paper",
  x0: shown(now()),
  x1: shown(now()),
  y0: 0,
  y1: 1,
  line: { color: style.muted, width: 1 },
  layer: "below",
});

/** A vertical range with room around the values. */
function bounds(values) {
  if (!values.length) return [0, 1];
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const span = Math.max(high - low, LEAST_SHARE * Math.abs(high), 0.001);
  const top = high + 0.12 * span;
  const bottom = Math.min(low - 0.12 * span, top - 1.24 * span);
  return [low >= 0 ? Math.max(0, bottom) : bottom, top];
}

function colours(node) {
  const style = getComputedStyle(node);
  const names = ["power", "ceiling", "baseline", "hold", "ramp", "ink", "muted", "line", "panel"];
  return Object.fromEntries(
    names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]),
  );
}

const ticks = (node) =>
  Math.max(3, Math.floor(node.clientWidth / (8 * parseFloat(getComputedStyle(node).fontSize))));

const axis = (style) => ({
  fixedrange: true,
  gridcolor: style.line,
  zeroline: false,
  automargin: true,
  tickfont: { color: style.muted },
});

function frame(style, node) {
  const { fontFamily, fontSize } = getComputedStyle(node);
  return {
    width: node.clientWidth,
    height: node.clientHeight,
    showlegend: false,
    hovermode: "x unified",
    dragmode: false,
    margin: { l: 8, r: 30, t: 8, b: 8 },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: fontFamily, size: 0.8 * parseFloat(fontSize), color: style.ink },
    hoverlabel: { bgcolor: style.panel, bordercolor: style.line, font: { color: style.ink } },
  };
}
