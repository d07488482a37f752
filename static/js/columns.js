// The kinds of columns that tables are made of; table.js says what a column has.

import { setFigure, setText } from "./dom.js";
import { rate } from "./format.js";

// A cell that shows the figure `read(row)`.
export const figureCell = (read) => (td) => (row) => setFigure(td, read(row));

// A cell that shows a figure of which each refresh has another one. It has a title while the pointer is there: to set the titles of all
// cells costs more than their texts.
const changingCell = (read) => (td) => {
  let figure = {};
  td.addEventListener("pointerenter", () => setFigure(td, figure));
  td.addEventListener("pointerleave", () => td.removeAttribute("title"));
  return (row) => {
    figure = read(row);
    if (td.title) setFigure(td, figure);
    else setText(td, figure.text);
  };
};

// A cell that shows a number, and shows zero, its usual value, in a quieter colour.
export const liveCell = (read, format) => (td) => {
  const fill = changingCell((row) => format(read(row)))(td);
  return (row) => {
    fill(row);
    td.classList.toggle("idle", read(row) === 0);
  };
};

export const numberColumn = (name, label, hint) => ({ name, label, hint, value: name, first: "descending" });

export const sumColumn = (name, label, format, hint) => ({ ...numberColumn(name, label, hint), reads: [name], cell: changingCell((row) => format(row[name])) });

export const rateColumn = (name, label, hint) => ({ ...numberColumn(name, label, hint), reads: [name], cell: liveCell((row) => row[name], rate) });
