"use strict";
/** Building and updating the page's elements. Data only ever becomes text, never markup. */

/** Characters that reorder what stands around them: a name must not change how a sentence reads. */
const REORDERING = /[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

const plain = (text) => text.replace(REORDERING, "\ufffd");

/**
 * An element with attributes and children; strings become text.
 * @param {string} tag
 * @param {Record<string, string>} [attributes]
 * @param {...(Node|string)} children
 */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children.map((child) => (typeof child === "string" ? plain(child) : child)));
  return node;
}

/** The page's element with this id. */
export const byId = (id) => document.getElementById(id);

/** Set a node's text, touching the document only when it changes. */
export function setText(node, text) {
  const seen = plain(text);
  if (node.textContent !== seen) node.textContent = seen;
}

/** Set an attribute, or remove it when the value is null, only when that changes it. */
export function setAttribute(node, name, value) {
  if (value === null) node.removeAttribute(name);
  else if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

/** Set a custom property through the object model, which the content policy allows. */
export function setProperty(node, name, value) {
  if (node.style.getPropertyValue(name) !== value) node.style.setProperty(name, value);
}

/** Show a text in a node that is hidden while there is none (anything falsy). */
export function showIf(node, text) {
  setText(node, text || "");
  node.hidden = !text;
}

/**
 * Keeps one child per item under `parent`, in the items' order, made once and updated in place.
 * What `parent` holds already stays before them.
 * @template T
 * @param {Element} parent
 * @param {(item: T) => string} keyOf
 * @param {(item: T) => {node: Element, update: (item: T) => void}} create
 * @returns {(items: T[]) => void}
 */
export function keyed(parent, keyOf, create) {
  /** @type {Map<string, {node: Element, update: (item: T) => void}>} */
  let known = new Map();
  const fixed = parent.lastElementChild;
  return (items) => {
    const kept = new Map();
    for (const item of items) {
      const key = keyOf(item);
      if (!kept.has(key)) kept.set(key, known.get(key) ?? create(item));
      kept.get(key).update(item);
    }
    for (const [key, child] of known) if (!kept.has(key)) child.node.remove();
    let position = fixed ? fixed.nextElementSibling : parent.firstElementChild;
    for (const { node } of kept.values()) {
      if (node === position) position = position.nextElementSibling;
      else parent.insertBefore(node, position);
    }
    known = kept;
  };
}
