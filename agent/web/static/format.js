"use strict";
/** Numbers and times as people read them. Absent knowledge reads "unknown", never 0. */

import { el, setAttribute, setText } from "./dom.js";
import { now } from "./clock.js";

export const UNKNOWN = "unknown";

const known = (value) => typeof value === "number" && Number.isFinite(value);

/** A power with four figures, so that digits stand still while it changes: `20.63 kW`. */
export function power(watts) {
  if (watts === Infinity) return "unlimited";
  if (!known(watts)) return UNKNOWN;
  for (const [unit, factor] of [
    ["MW", 1e6],
    ["kW", 1e3],
  ]) {
    if (Math.abs(watts) >= factor) return `${figures(watts / factor)} ${unit}`;
  }
  return `${watts.toFixed(0)} W`;
}

/** A GPU's power, always in watts: `437 W`. */
export const watts = (value) => (known(value) ? `${value.toFixed(0)} W` : UNKNOWN);

/** An energy: `36.5 Wh`, `1.204 kWh`. */
export function energy(wattHours) {
  if (!known(wattHours)) return UNKNOWN;
  for (const [unit, factor] of [
    ["MWh", 1e6],
    ["kWh", 1e3],
  ]) {
    if (Math.abs(wattHours) >= factor) return `${figures(wattHours / factor)} ${unit}`;
  }
  return `${wattHours.toFixed(1)} Wh`;
}

/** A share in percent, rounded down: 99.96 % must not read as kept to the full. */
export function percent(share) {
  if (!known(share)) return UNKNOWN;
  const shown = Math.floor(share * 1000 + 1e-6) / 10;
  return `${shown === 100 ? "100" : shown.toFixed(1)} %`;
}

/** A duration as the status sentence words it: `20 s`, `47 min`, `1 h 5 min`. */
export function duration(seconds) {
  if (!known(seconds)) return UNKNOWN;
  if (Math.round(seconds) < 120) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 120) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours >= 48) return `${Math.round(hours / 24)} days`;
  return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
}

/** A time left, ticking: `1:43`, `2:05:09`, `3 days`. */
export function countdown(ms) {
  const seconds = Math.max(0, Math.ceil(ms / 1000));
  const hours = Math.floor(seconds / 3600);
  if (hours >= 48) return `${Math.round(hours / 24)} days`;
  const pad = (value) => String(value).padStart(2, "0");
  const minutes = Math.floor(seconds / 60) % 60;
  if (hours > 0) return `${hours}:${pad(minutes)}:${pad(seconds % 60)}`;
  return `${minutes}:${pad(seconds % 60)}`;
}

/** How many of something: `1 GPU`, `32 GPUs`. */
export const count = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;

const CLOCK = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });
const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
const YEAR = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium" });
const UTC_DAY = new Intl.DateTimeFormat("sv-SE", { timeZone: "UTC" });
const UTC_CLOCK = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium", timeZone: "UTC" });
const OFFSET = new Intl.DateTimeFormat("en-GB", { timeZoneName: "shortOffset" });

/** The viewer's time zone: `Europe/Berlin (UTC+1)`. */
export function zone() {
  const parts = OFFSET.formatToParts(now());
  const offset = parts.find((part) => part.type === "timeZoneName")?.value ?? "";
  return `${CLOCK.resolvedOptions().timeZone} (${offset.replace("GMT", "UTC")})`;
}

/** A local time, with its day unless that is today: `20:02:36`, `3 Nov 20:02:36`. */
export function localTime(ms) {
  const clock = CLOCK.format(ms);
  if (DAY.format(ms) === DAY.format(now()) && Math.abs(ms - now()) < 864e5) return clock;
  const sameYear = new Date(ms).getFullYear() === new Date(now()).getFullYear();
  return `${(sameYear ? DAY : YEAR).format(ms)} ${clock}`;
}

/** The same instant in UTC, for hovering: `2026-11-20 20:02:36 UTC`. */
export const utcTime = (ms) => `${UTC_DAY.format(ms)} ${UTC_CLOCK.format(ms)} UTC`;

/** A time element for an ISO 8601 instant: local time shown, UTC on hover. */
export function timeElement(iso) {
  const node = el("time");
  setTime(node, iso);
  return node;
}

/** Update a time element; null reads as `absent`. */
export function setTime(node, iso, absent = UNKNOWN) {
  const ms = iso === null ? NaN : Date.parse(iso);
  setAttribute(node, "datetime", Number.isNaN(ms) ? null : iso);
  setAttribute(node, "title", Number.isNaN(ms) ? null : utcTime(ms));
  setText(node, Number.isNaN(ms) ? absent : localTime(ms));
}

function figures(value) {
  return Math.abs(value) < 9999.5 ? value.toPrecision(4) : value.toFixed(0);
}
