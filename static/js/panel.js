// A panel with a small table, or with a sentence while there is nothing to list.

import { byId, put, updateChildren } from "./dom.js";

// `id` is that of the table's body; the sentence `empty` goes into the element behind the table.
export function showTable(id, rows, key, draw, empty) {
  byId(id).parentElement.hidden = !rows.length;
  byId(`${id}-empty`).hidden = rows.length > 0;
  put(`${id}-empty`, empty);
  updateChildren(byId(id), rows, key, draw);
}
