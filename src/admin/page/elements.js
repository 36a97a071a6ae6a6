"use strict";
// How values become elements. Everything goes in as text: names come from whoever sends queries.

const byId = (id) => document.getElementById(id);

const element = (tag, classes = "", text = "") => {
  const made = document.createElement(tag);
  if (classes) made.className = classes;
  if (text !== "") made.textContent = text;
  return made;
};

/** Sets an element's text where it differs, so that a selection in it stays. */
const setText = (target, text) => {
  if (target.textContent !== text) target.textContent = text;
};

const setBadge = (target, { text, tone }) => {
  setText(target, text);
  target.className = `badge ${tone}`;
};

const badge = (text, tone = "mute") => ({ badge: text, tone });

/** A value as a node: text, a badge, or a button that asks for a name's route. */
const asNode = (value) => {
  if (typeof value !== "object") return document.createTextNode(String(value));
  if (value.badge !== undefined) return element("span", `badge ${value.tone}`, value.badge);
  const button = element("button", "ask code", value.ask);
  button.type = "button";
  button.dataset.ask = value.ask;
  return button;
};

/**
 * A table in a box. A column has a heading, classes, and says what a row shows in it: a value, or several in a list. On a
 * narrow screen a row is a card whose title is the column of class `main`. Gives a function that shows other rows.
 */
const makeTable = (id, caption, columns, none) => {
  const box = byId(id);
  box.tabIndex = 0;
  box.setAttribute("role", "region");
  box.setAttribute("aria-label", caption);
  const table = element("table");
  // A narrow screen shows rows as blocks, and then only these say what they are.
  table.setAttribute("role", "table");
  table.append(element("caption", "hidden", caption));
  const head = table.createTHead().insertRow();
  head.setAttribute("role", "row");
  for (const column of columns) {
    const cell = element("th", column.kind === "number" ? "number" : "", column.head);
    cell.scope = "col";
    cell.setAttribute("role", "columnheader");
    head.append(cell);
  }
  const body = table.createTBody();
  body.setAttribute("role", "rowgroup");
  const empty = element("p", "empty", "…");
  box.append(table, empty);

  const makeRow = () => {
    const row = body.insertRow();
    row.setAttribute("role", "row");
    for (const column of columns) {
      const cell = row.insertCell();
      cell.setAttribute("role", "cell");
      cell.dataset.head = column.head;
    }
    return row;
  };
  const showCell = (cell, column, value) => {
    const values = [value].flat().filter((part) => !(part === null || part === undefined || part === false || part === ""));
    const key = JSON.stringify(values);
    if (cell.shown === key) return;
    cell.shown = key;
    cell.className = `${column.kind ?? ""}${values.length ? "" : " blank"}`;
    cell.replaceChildren(...values.flatMap((part, at) => (at ? [" ", asNode(part)] : [asNode(part)])));
  };
  return (rows) => {
    empty.hidden = rows.length > 0;
    setText(empty, none);
    while (body.rows.length > rows.length) body.deleteRow(-1);
    rows.forEach((row, at) => {
      const cells = (body.rows[at] ?? makeRow()).cells;
      columns.forEach((column, position) => showCell(cells[position], column, column.show(row)));
    });
  };
};

const count = (number) => number.toLocaleString("en");
const counted = (number, thing) => `${count(number)} ${thing}${number === 1 ? "" : "s"}`;

const rate = (perSecond) => (perSecond === null ? "" : perSecond === 0 ? "0" : perSecond < 10 ? perSecond.toFixed(1) : count(Math.round(perSecond)));

const bytes = (number) => {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  for (; number >= 1024 && at < units.length - 1; at += 1) number /= 1024;
  return `${at && number < 10 ? number.toFixed(1) : Math.round(number)} ${units[at]}`;
};

const duration = (seconds) => {
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} d`;
};

const clock = (moment) => new Date(moment).toLocaleTimeString("en-GB");
