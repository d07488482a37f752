// The kinds of columns that tables are made of; table.js says what a column has.

import { figureIn } from "./dom.js";
import { momentAs, rate, timeAgo } from "./format.js";

// A cell that shows the figure `read(row)`.
export const figureCell = (read) => (td) => {
  const show = figureIn(td);
  return (row) => show(read(row));
};

// A cell that shows a number, and shows zero, its usual value, in a quieter colour.
export const liveCell = (read, format) => (td) => {
  const show = figureIn(td);
  return (row) => {
    const value = read(row);
    show(format(value));
    td.classList.toggle("idle", value === 0);
  };
};

export const numberColumn = (name, label, hint) => ({ name, label, hint, value: name, first: "descending" });

export const sumColumn = (name, label, format, hint) => ({ ...numberColumn(name, label, hint), reads: [name], cell: figureCell((row) => format(row[name])) });

export const rateColumn = (name, label, hint) => ({ ...numberColumn(name, label, hint), reads: [name], cell: liveCell((row) => row[name], rate) });

// `now()` is the time of the last answer. An account that was never used has no time.
export const lastSeenColumn = (now) => ({ ...numberColumn("lastSeen", "Last seen"), cell: figureCell((row) => lastSeen(row, now())) });

function lastSeen({ active, lastSeen: time }, now) {
  if (active) return momentAs("now", now);
  return time ? timeAgo(time, now) : { text: "never" };
}
