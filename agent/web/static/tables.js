"use strict";
/** Tables that are updated in place and turn into cards where the page is narrow. */

import { el, keyed, setAttribute } from "./dom.js";

/**
 * @template T
 * @typedef {object} Column
 * @property {string} label
 * @property {boolean} [numeric] right aligned
 * @property {boolean} [wide] takes a line of its own in a card
 * @property {(cell: HTMLElement, item: T) => void} show fills the cell, each time the item changes
 */

let made = 0;

/**
 * A labelled table with one row per item, and a detail row under it where `detail` is given.
 *
 * The roles repeat what the elements are, because cards are laid out by other means than a table's
 * and browsers then drop the table's meaning.
 * @template T
 * @param {string} caption
 * @param {Column<T>[]} columns
 * @param {(item: T) => string} keyOf
 * @param {{name: string, show: (cell: HTMLElement, item: T) => void}} [detail]
 * @returns {{node: HTMLElement, update: (items: T[]) => void}}
 */
export function table(caption, columns, keyOf, detail) {
  const heads = columns.map((column) =>
    el("th", { ...look(column), scope: "col", role: "columnheader" }, column.label),
  );
  if (detail) heads.push(el("th", { scope: "col", role: "columnheader" }, unseen("Detail")));
  const head = el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, ...heads));
  const node = el("table", { role: "table" }, el("caption", { class: "unseen" }, caption), head);
  return { node, update: keyed(node, keyOf, () => rows(columns, detail)) };
}

function rows(columns, detail) {
  const cells = columns.map((column, i) =>
    el(i ? "td" : "th", {
      ...look(column),
      ...(i ? { role: "cell" } : { role: "rowheader", scope: "row" }),
      "data-label": column.label,
    }),
  );
  const row = el("tr", { role: "row" }, ...cells);
  const group = el("tbody", { role: "rowgroup" }, row);
  const opened = detail ? detailRow(row, group, columns.length + 1, detail) : null;
  return {
    node: group,
    update: (item) => {
      columns.forEach((column, i) => column.show(cells[i], item));
      opened?.(item);
    },
  };
}

/** A second row that a button in the first one shows; filled only while it is. */
function detailRow(row, group, span, detail) {
  const id = `detail-${(made += 1)}`;
  const button = el("button", { type: "button", "aria-controls": id });
  const cell = el("td", { role: "cell", colspan: String(span) });
  const hidden = el("tr", { role: "row", id, class: "detail" }, cell);
  let latest = null;
  const show = () => {
    setAttribute(button, "aria-expanded", String(!hidden.hidden));
    button.replaceChildren(
      hidden.hidden ? "More" : "Less",
      unseen(` about ${detail.name(latest)}`),
    );
    if (!hidden.hidden) detail.show(cell, latest);
  };
  button.addEventListener("click", () => {
    hidden.hidden = !hidden.hidden;
    show();
  });
  hidden.hidden = true;
  row.append(el("td", { role: "cell", class: "opener" }, button));
  group.append(hidden);
  return (item) => {
    const first = latest === null;
    latest = item;
    if (first) show();
    else if (!hidden.hidden) detail.show(cell, item);
  };
}

const look = (column) =>
  column.numeric ? { class: "number" } : column.wide ? { class: "wide" } : {};

const unseen = (text) => el("span", { class: "unseen" }, text);
