"use strict";
/** The agent's clock. Countdowns and ages go by it, because the viewer's may be wrong. */

let aheadMs = 0;

/** Learn from an HTTP answer's Date header, which is cut to the second: right to half a second. */
export function learn(header) {
  const theirs = Date.parse(header ?? "");
  if (Number.isNaN(theirs)) return;
  const differenceMs = Date.now() - (theirs + 500);
  // Within its rounding the header cannot tell the clocks apart, so they are taken to agree.
  aheadMs = Math.abs(differenceMs) < 1000 ? 0 : differenceMs;
}

/** Now by the agent's clock, in milliseconds since the epoch. */
export const now = () => Date.now() - aheadMs;

/** An ISO 8601 time as milliseconds; null stays null. */
export const msOf = (iso) => (iso === null ? null : Date.parse(iso));
