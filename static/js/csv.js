// A table as a CSV file (RFC 4180).

import { announce } from "./announce.js";
import { el } from "./dom.js";

// `names` are the properties of the rows that become columns.
export function csv(names, rows) {
  const lines = [names, ...rows.map((row) => names.map((name) => row[name]))];
  return lines.map((cells) => `${cells.map(quoted).join(",")}\r\n`).join("");
}

// Spreadsheets read cells that begin with one of these characters as formulas.
function quoted(value) {
  const text = String(value);
  return `"${(/^[=+\-@\t\r]/.test(text) ? `'${text}` : text).replaceAll('"', '""')}"`;
}

export function saveFile(text, name) {
  const href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  el("a", { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), 10_000);
  announce(`Saved as ${name}`);
}
