"use strict";
/** The book of all events, whole: what is too much for every view is fetched when it is asked for. */

const ADDRESS = "/api/v1/events";
/** An open book is read anew this often; what views carry of it is newer anyway. */
const REFRESH_MS = 60_000;

/** What tells events apart: their ids are only unique within a VEN. */
export const keyOf = (event) => JSON.stringify([event.ven, event.event_id]);

const isSame = (one, other) =>
  one.revision === other.revision && one.starts_at === other.starts_at;

async function load(query = "") {
  const answer = await fetch(ADDRESS + query);
  if (!answer.ok) throw new Error(`events: ${answer.status}`);
  return (await answer.json()).events;
}

export class Book {
  /** Whether all events are to be seen, older ones too. */
  isOpen = false;
  /** Whether the last attempt to open it failed. */
  failed = false;

  #changed;
  #all = [];
  #readAt = 0;
  #whole = new Map();
  #asked = new Set();

  /** @param {() => void} changed called when something that was asked for has come */
  constructor(changed) {
    this.#changed = changed;
  }

  /** The events of a view, and when the book is open all others, newest first. */
  withOlder(events) {
    if (!this.isOpen) return events;
    const seen = new Set(events.map(keyOf));
    const older = this.#all.filter((event) => !seen.has(keyOf(event)));
    return [...events, ...older].sort((one, other) => other.starts_at.localeCompare(one.starts_at));
  }

  /** Fetch all events, and again every now and then. */
  async open() {
    this.#readAt = Date.now();
    try {
      this.#all = await load();
      this.isOpen = true;
      this.failed = false;
      for (const event of this.#all) this.#whole.set(keyOf(event), event);
    } catch {
      this.failed = !this.isOpen;
    }
    this.#changed();
  }

  /** To be called with every view: reads an open book anew when it is old. */
  refresh() {
    if (this.isOpen && Date.now() - this.#readAt > REFRESH_MS) this.open();
  }

  /** An event with all its signals and asks; undefined until they have come. */
  whole(event) {
    const known = this.#whole.get(keyOf(event));
    if (known !== undefined && isSame(known, event)) return known;
    this.#ask(event);
    return undefined;
  }

  async #ask({ event_id: id }) {
    if (this.#asked.has(id)) return;
    this.#asked.add(id);
    try {
      const events = await load(`?event_id=${encodeURIComponent(id)}`);
      for (const event of events) this.#whole.set(keyOf(event), event);
      this.#changed();
    } catch {
      // the next view asks again
    } finally {
      this.#asked.delete(id);
    }
  }
}
