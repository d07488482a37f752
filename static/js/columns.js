// The kinds of columns that tables are made of; table.js says what a column has.

import { hoverTitle, setText } from "./dom.js";
import { rate } from "./format.js";

// A cell that shows the figure `read(row)`.
export const figureCell = (read) => (td) => {
  const takeTitle = hoverTitle(td, ({ title = "" }) => title);
  return (row) => {
    const figure = read(row);
    setText(td, figure.text);
    takeTitle(figure);
  };
};

// A cell that shows a number, and shows zero, its usual value, in a quieter colour.
export const liveCell = (read, format) => (td) => {
  const fill = figureCell((row) => format(read(row)))(td);
  return (row) => {
    fill(row);
    td.classList.toggle("idle", read(row) === 0);
  };
};

export const numberColumn = (name, label, hint) => ({ name, label, hint, value: name, first: "descending" });

export const sumColumn = (name, label, format, hint) => ({ ...numberColumn(name, label, hint), reads: [name], cell: figureCell((row) => format(row[name])) });

export const rateColumn = (name, label, hint) => ({ ...numberColumn(name, label, hint), reads: [name], cell: liveCell((row) => row[name], rate) });
