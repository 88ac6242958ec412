"use strict";
/** Commands for the operator to type: the page itself changes nothing. */

import { el } from "./dom.js";

/** Control and format characters: what they would do in a terminal cannot be seen beforehand. */
const UNTYPABLE = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\p{Zl}\p{Zp}]/u;
const PLAIN = /^[A-Za-z0-9_.,:@%+=/][A-Za-z0-9_.,:@%+=/-]*$/;

/**
 * A command on one of the site's events, or null when the event's id cannot be typed safely.
 *
 * Ids come from the network and this line is pasted into a shell, so each is one quoted word.
 * @param {"opt-in"|"opt-out"} action
 * @param {{event_id: string, ven: string}} event
 * @param {boolean} ambiguous whether several VENs know the id
 * @param {string|null} socket the agent's control socket, where it must be named
 */
export function eventCommand(action, event, ambiguous, socket) {
  if (UNTYPABLE.test(event.event_id + event.ven)) return null;
  const ven = ambiguous ? ` --ven ${quoted(event.ven)}` : "";
  if (event.event_id.startsWith("-")) {
    return `${siteCommand(`${action}${ven} --reason "..."`, socket)} -- ${quoted(event.event_id)}`;
  }
  return siteCommand(`${action} ${quoted(event.event_id)}${ven} --reason "..."`, socket);
}

/** A command to this site's agent. */
export const siteCommand = (words, socket) =>
  `flexload ${words}${socket ? ` --socket ${quoted(socket)}` : ""}`;

/** One word for a POSIX shell. */
export const quoted = (word) => (PLAIN.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);

/** A command with a button that copies it. */
export function commandElement(text) {
  const code = el("code", {}, text);
  const button = el("button", { type: "button", class: "copy", "aria-live": "polite" }, "Copy");
  button.addEventListener("click", async () => {
    button.textContent = (await copied(code)) ? "Copied" : "Selected: press Ctrl+C";
    setTimeout(() => {
      button.textContent = "Copy";
    }, 2000);
  });
  return el("span", { class: "command" }, code, " ", button);
}

async function copied(code) {
  try {
    await navigator.clipboard.writeText(code.textContent);
    return true;
  } catch {
    getSelection().selectAllChildren(code);
    return false;
  }
}
