"use strict";
/** The agent's view, once a second, over server-sent events; reconnects by itself. */

const FIRST_WAIT_MS = 1000;
const LONGEST_WAIT_MS = 30_000;
/** An open connection that says nothing for this long is taken for dead: sockets do not tell. */
const SILENCE_MS = 15_000;

/**
 * @typedef {"connecting" | "open" | "lost"} Connection
 * @typedef {object} Listener
 * @property {(view: object) => void} onView
 * @property {() => void} onOpen after every connect: what was missed meanwhile can be fetched
 * @property {() => void} onLost once for each loss, not for each attempt
 */

export class Stream {
  /** @type {Connection} */
  connection = "connecting";
  /** When the connection was lost, by the viewer's clock. */
  lostAt = 0;

  #url;
  #listener;
  #source = null;
  #waitMs = FIRST_WAIT_MS;
  #retry = 0;
  #heardAt = 0;

  /**
   * @param {string} url
   * @param {Listener} listener
   */
  constructor(url, listener) {
    this.#url = url;
    this.#listener = listener;
  }

  /** Connect now, whatever the back-off. */
  connect() {
    this.#drop();
    const source = new EventSource(this.#url);
    this.#source = source;
    this.#heardAt = Date.now();
    source.addEventListener("open", () => {
      this.connection = "open";
      this.#heardAt = Date.now();
      this.#listener.onOpen();
    });
    source.addEventListener("state", (message) => this.#hear(message.data));
    source.addEventListener("error", () => this.#lose());
  }

  /** To be called every second: notices a connection that died without a word. */
  watch() {
    if (this.#source !== null && Date.now() - this.#heardAt > SILENCE_MS) this.#lose();
  }

  #hear(data) {
    this.#heardAt = Date.now();
    let view;
    try {
      view = JSON.parse(data);
    } catch {
      return; // no view: the page says that it is not live once the last one is too old
    }
    this.#waitMs = FIRST_WAIT_MS;
    this.#listener.onView(view);
  }

  #lose() {
    this.#drop();
    if (this.connection !== "lost") {
      this.connection = "lost";
      this.lostAt = Date.now();
      this.#listener.onLost();
    }
    // Many pages must not come back in the same instant after the agent was restarted.
    this.#retry = setTimeout(() => this.connect(), this.#waitMs * (0.5 + Math.random() / 2));
    this.#waitMs = Math.min(LONGEST_WAIT_MS, this.#waitMs * 2);
  }

  #drop() {
    clearTimeout(this.#retry);
    this.#source?.close();
    this.#source = null;
  }
}
