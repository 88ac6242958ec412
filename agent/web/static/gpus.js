"use strict";
/** The GPUs: one tile each, grouped by host, updated in place so that hundreds cost little. */

import { byId, el, keyed, setAttribute, setProperty, setText } from "./dom.js";
import { UNKNOWN, count, power, watts } from "./format.js";
import { table } from "./tables.js";

/** Beyond this many, tiles are bars only and their figures are in the detail and the table. */
const MOST_WITH_FIGURES = 128;
const HINT =
  "Each bar is a GPU's draw in W below its limit (the line); ≤ is a cap of ours, ≠ one not taken. " +
  "Point at one, or move there with the arrow keys, for its details.";

/** Limits closer than this are the same; as in the agent's ledger. */
const SAME_LIMIT_W = 1;

/** What is to be said of a GPU in one or two words; empty when it is as it would be without us. */
export function stateOf(gpu) {
  if (gpu.health !== "ok") return gpu.health;
  if (gpu.cap_w === null) return "";
  return gpu.cap_taken ? "capped" : "cap not taken";
}

/** Shorter words where a tile has no room for the long ones. */
const TILE_WORDS = { capped: (cap) => `≤${cap}`, "cap not taken": (cap) => `≠${cap}` };

const nameOf = (gpu) => `${gpu.host} / ${gpu.index}`;

/** Whether something below the limit that was asked for binds, such as a board controller. */
const isHeldLower = (gpu) =>
  gpu.enforced_w !== null && gpu.limit_w !== null && gpu.enforced_w < gpu.limit_w - SAME_LIMIT_W;

function capOf(gpu) {
  if (gpu.cap_w === null) return "none";
  return `${watts(gpu.cap_w)}, was ${watts(gpu.original_w)}`;
}

function describe(gpu) {
  const lower = isHeldLower(gpu) ? `, ${watts(gpu.enforced_w)} enforced by the machine` : "";
  const parts = [
    `${nameOf(gpu)}: draws ${watts(gpu.power_w)} of limit ${watts(gpu.limit_w)}${lower}`,
    `cap ${capOf(gpu)}`,
    gpu.workload === null ? "no workload" : `workload ${gpu.workload}`,
    stateOf(gpu),
    gpu.reason,
    gpu.detail,
    gpu.name,
    gpu.uuid,
  ];
  return parts.filter((part) => part).join(" · ");
}

const COLUMNS = [
  { label: "GPU", show: (cell, gpu) => setText(cell, nameOf(gpu)) },
  { label: "State", show: (cell, gpu) => setText(cell, stateOf(gpu) || "normal") },
  { label: "Workload", show: (cell, gpu) => setText(cell, gpu.workload ?? "none") },
  { label: "Draw", numeric: true, show: (cell, gpu) => setText(cell, watts(gpu.power_w)) },
  {
    label: "Limit",
    numeric: true,
    show: (cell, gpu) =>
      setText(
        cell,
        watts(gpu.limit_w) + (isHeldLower(gpu) ? ` (${watts(gpu.enforced_w)} enforced)` : ""),
      ),
  },
  { label: "Cap", numeric: true, show: (cell, gpu) => setText(cell, capOf(gpu)) },
  {
    label: "Reason",
    wide: true,
    show: (cell, gpu) => setText(cell, [gpu.reason, gpu.detail].filter(Boolean).join("; ")),
  },
  { label: "UUID", wide: true, show: (cell, gpu) => setText(cell, gpu.uuid) },
];

export class Gpus {
  #root = byId("hosts");
  #table = table("GPUs", COLUMNS, (gpu) => gpu.uuid);
  #gpus = [];
  #looked = null;
  #hosts = keyed(this.#root, (host) => host.name, hostElement);

  constructor() {
    byId("gpu-list").lastElementChild.append(this.#table.node);
    byId("gpu-list").addEventListener("toggle", () => this.#list());
    this.#root.addEventListener("pointerover", (event) => this.#look(event.target));
    this.#root.addEventListener("pointerleave", () => this.#look(document.activeElement));
    this.#root.addEventListener("focusin", (event) => this.#look(event.target));
    this.#root.addEventListener("focusout", () => this.#look(null));
    this.#root.addEventListener("click", (event) => this.#look(event.target));
    this.#root.addEventListener("keydown", (event) => this.#move(event));
    setText(byId("gpu-detail"), HINT);
  }

  /** Take in a new view. */
  show(view) {
    this.#gpus = view.gpus;
    setText(byId("gpus-summary"), summary(view.gpus));
    byId("gpu-list").hidden = view.gpus.length === 0;
    setAttribute(this.#root, "data-dense", view.gpus.length > MOST_WITH_FIGURES ? "yes" : null);
    this.#hosts(byHost(view.gpus));
    // One stop for the tab key however many tiles there are; arrow keys move among them.
    const tiles = this.#tiles();
    if (tiles.length && !tiles.some((tile) => tile.tabIndex === 0)) tiles[0].tabIndex = 0;
    this.#describe();
    this.#list();
  }

  #list() {
    if (byId("gpu-list").open) this.#table.update(this.#gpus);
  }

  #tiles() {
    return [...this.#root.querySelectorAll(".tile")];
  }

  #look(target) {
    this.#looked = target?.closest?.(".tile")?.dataset.uuid ?? null;
    this.#describe();
  }

  #describe() {
    const gpu = this.#gpus.find((one) => one.uuid === this.#looked);
    setText(byId("gpu-detail"), gpu ? describe(gpu) : this.#gpus.length ? HINT : "");
    setAttribute(byId("gpu-detail"), "data-shown", gpu ? "yes" : null);
  }

  #move(event) {
    const tiles = this.#tiles();
    const from = tiles.indexOf(document.activeElement);
    const steps = { ArrowRight: from + 1, ArrowLeft: from - 1, Home: 0, End: tiles.length - 1 };
    const rowOf = (tile) => tile.getBoundingClientRect();
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      steps[event.key] = neighbour(tiles.map(rowOf), from, event.key === "ArrowDown");
    }
    const next = tiles[steps[event.key]];
    if (next === undefined || from < 0) return;
    event.preventDefault();
    tiles[from].tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  }
}

/** The nearest box in the next row of tiles, down or up. */
function neighbour(boxes, from, down) {
  const sign = down ? 1 : -1;
  let best = -1;
  let least = Infinity;
  boxes.forEach((box, i) => {
    const below = sign * (box.top - boxes[from].top);
    const distance = below * 4 + Math.abs(box.left - boxes[from].left);
    if (below > 1 && distance < least) [best, least] = [i, distance];
  });
  return best;
}

function byHost(gpus) {
  const hosts = new Map();
  for (const gpu of gpus) {
    if (!hosts.has(gpu.host)) hosts.set(gpu.host, { name: gpu.host, gpus: [] });
    hosts.get(gpu.host).gpus.push(gpu);
  }
  return [...hosts.values()];
}

/** Sum of what draws are known, and how many are not. */
function drawOf(gpus) {
  const draws = gpus.map((gpu) => gpu.power_w).filter((draw) => draw !== null);
  if (!draws.length) return UNKNOWN;
  const missing = gpus.length - draws.length;
  return (
    power(draws.reduce((sum, draw) => sum + draw, 0)) + (missing ? ` and ${missing} unknown` : "")
  );
}

function summary(gpus) {
  if (!gpus.length) return "No GPU has been found.";
  const number = (state) => gpus.filter((gpu) => stateOf(gpu) === state).length;
  const hosts = new Set(gpus.map((gpu) => gpu.host)).size;
  const missing = number("cap not taken");
  const states = [
    [number("capped"), "capped"],
    [missing, missing === 1 ? "cap not taken" : "caps not taken"],
    [number("stale"), "stale"],
    [number("lost"), "lost"],
  ];
  const said = states.filter(([many]) => many).map(([many, state]) => `${many} ${state}`);
  return [
    `${count(gpus.length, "GPU")} on ${count(hosts, "host")}`,
    `drawing ${drawOf(gpus)}`,
    ...(said.length ? said : ["none capped"]),
  ].join(" · ");
}

function hostElement(host) {
  const title = el("h3", { class: "foreign" });
  setText(title, host.name);
  const draw = el("span", { class: "quiet" });
  const grid = el("div", { class: "tiles" });
  const tiles = keyed(grid, (gpu) => gpu.uuid, tileElement);
  const node = el(
    "section",
    { class: "host", "aria-label": `Host ${host.name}` },
    el("div", { class: "host-head" }, title, draw),
    grid,
  );
  return {
    node,
    update: ({ gpus }) => {
      setProperty(grid, "--columns", String(Math.min(8, Math.max(4, gpus.length))));
      setText(draw, drawOf(gpus));
      tiles(gpus);
    },
  };
}

function tileElement(gpu) {
  const bar = el(
    "span",
    { class: "bar" },
    el("span", { class: "fill" }),
    el("span", { class: "mark" }),
  );
  const draw = el("span", { class: "tile-draw" });
  const state = el("span", { class: "tile-state" });
  const node = el(
    "button",
    { type: "button", class: "tile", "data-uuid": gpu.uuid, tabindex: "-1" },
    bar,
    draw,
    state,
  );
  const share = (value, max) => (value === null || !(max > 0) ? 0 : Math.min(1, value / max));
  return {
    node,
    update: (now) => {
      const word = stateOf(now);
      setAttribute(node, "data-state", word || "normal");
      setAttribute(node, "aria-label", describe(now));
      setProperty(bar, "--draw", share(now.power_w, now.max_limit_w).toFixed(2));
      setProperty(
        bar,
        "--limit",
        share(now.limit_w ?? now.max_limit_w, now.max_limit_w).toFixed(2),
      );
      setText(draw, now.power_w === null ? "?" : now.power_w.toFixed(0));
      setText(state, TILE_WORDS[word]?.(now.cap_w.toFixed(0)) ?? word);
    },
  };
}
