// A table of any length, of which only the rows in sight exist, with search, filters and sorting.

import { announce } from "./announce.js";
import { byId, el, setText } from "./dom.js";
import { integer, plural } from "./format.js";
import { recall, remember } from "./preferences.js";

const MORE = 5; // rows above and below those in sight

// A column has `name`, `label`, `value(row)` to sort by (without it the column cannot be sorted), `first` ("descending"
// for numbers), and `cell(td)`, which prepares a cell and returns the function that shows a row in it.
//
// `name` is what the order is remembered under, `key(row)` identifies a row, `text(row)` is what the search reads, `sort` is
// the first order, as in "bytesOut descending". `empty` has the words for `one` and `many` rows, and `draw()` for the page
// without any. These make a view; `use(view)` changes to another one.
export class DataTable {
  rows = [];
  shown = [];
  filters = {};
  #revision = 0;
  #views = new Map();
  #terms = [];

  constructor({ table, ...view }) {
    this.table = table;
    this.above = el("tr", { class: "spacer", "aria-hidden": "true" });
    this.below = el("tr", { class: "spacer", "aria-hidden": "true" });
    this.body = el("tbody", { role: "rowgroup" }, this.above, this.below);
    table.setAttribute("role", "table");
    table.append(this.body);
    this.use(view);
    for (const event of ["scroll", "resize"]) addEventListener(event, () => this.#drawSoon(), { passive: true });
    byId("search").addEventListener("input", ({ target }) => this.search(target.value));
  }

  // Changes the columns and forgets the rows.
  use({ name, columns, key, text, sort, empty }) {
    Object.assign(this, { name, columns, key, text, empty, rows: [], shown: [], filters: {}, emptyFor: undefined });
    const names = columns.filter((column) => column.value).flatMap(({ name }) => [`${name} ascending`, `${name} descending`]);
    [this.sortName, this.sortOrder] = recall(`sort.${name}`, names, sort).split(" ");
    for (const { tr } of this.#views.values()) tr.remove();
    this.#views.clear();
    this.#drawHead();
    this.#markSort();
    this.table.hidden = false;
    byId("empty").hidden = true;
    setText(byId("count"), "Loading");
  }

  #drawHead() {
    const head = el("tr", { role: "row", "aria-rowindex": "1" });
    const select = el("select", { id: "sort-by" });
    for (const { name, label, value, hint } of this.columns) {
      const cell = el("th", { role: "columnheader", scope: "col", class: name });
      if (hint) cell.title = hint;
      if (value) {
        cell.append(el("button", { type: "button", onclick: () => this.sortBy(name) }, label));
        select.append(new Option(label, name));
      } else cell.append(label);
      head.append(cell);
    }
    this.table.querySelector("thead")?.remove();
    this.body.before(el("thead", { role: "rowgroup" }, head));
    select.addEventListener("change", () => this.sortBy(select.value));
    const reverse = el("button", { type: "button", id: "sort-reverse", onclick: () => this.sortBy(this.sortName) });
    byId("sorting").replaceChildren(el("label", { class: "unseen", for: "sort-by" }, "Sort by"), select, reverse);
  }

  search(words) {
    this.#terms = words.toLowerCase().split(/\s+/).filter(Boolean);
    this.view();
    this.#announceCount();
  }

  filter(name, test) {
    this.filters[name] = test;
    this.view();
    this.#announceCount();
  }

  clear() {
    this.filters = {};
    byId("search").value = "";
    for (const input of document.querySelectorAll("fieldset.filter input[value='']")) input.checked = true;
    this.search("");
    byId("search").focus();
  }

  sortBy(name) {
    const column = this.columns.find((each) => each.name === name);
    const first = column.first ?? "ascending";
    const reversed = this.sortOrder === "ascending" ? "descending" : "ascending";
    [this.sortName, this.sortOrder] = [name, name === this.sortName ? reversed : first];
    remember(`sort.${this.name}`, `${this.sortName} ${this.sortOrder}`);
    this.#markSort();
    this.view(true);
    announce(`Sorted by ${column.label}, ${this.sortOrder}`);
  }

  #markSort() {
    for (const { name, value } of this.columns) {
      if (value) this.table.querySelector(`th.${name}`).setAttribute("aria-sort", name === this.sortName ? this.sortOrder : "none");
    }
    byId("sort-by").value = this.sortName;
    setText(byId("sort-reverse"), this.sortOrder === "ascending" ? "\u2191" : "\u2193");
    byId("sort-reverse").setAttribute("aria-label", `Sorted ${this.sortOrder}: reverse the order`);
  }

  // Decides which rows are shown and in which order, then draws those in sight.
  view(sorted = false) {
    const tests = Object.values(this.filters).filter(Boolean);
    const matches = (row) => tests.every((test) => test(row)) && this.#matchesSearch(row);
    this.shown = this.#ordered(this.rows.filter(matches), sorted);
    this.#revision++;
    this.table.setAttribute("aria-rowcount", String(this.shown.length + 1));
    const all = plural(this.rows.length, this.empty.one, this.empty.many);
    setText(byId("count"), this.shown.length === this.rows.length ? all : `${integer(this.shown.length)} of ${all}`);
    this.#showEmpty();
    this.draw();
  }

  #matchesSearch(row) {
    if (!this.#terms.length) return true;
    const text = this.text(row).toLowerCase();
    return this.#terms.every((term) => text.includes(term));
  }

  #ordered(rows, sorted) {
    const { value } = this.columns.find((column) => column.name === this.sortName);
    const sign = this.sortOrder === "ascending" ? 1 : -1;
    // Rows keep their order while text in them is selected.
    const held = !sorted && this.#hasSelection() ? new Map(this.shown.map((row, index) => [this.key(row), index])) : null;
    return rows
      .map((row, index) => ({ row, by: value(row), held: held?.get(this.key(row)) ?? Infinity, index }))
      .sort((a, b) => {
        if (a.held !== b.held) return a.held - b.held;
        return a.by < b.by ? -sign : a.by > b.by ? sign : a.index - b.index;
      })
      .map(({ row }) => row);
  }

  #hasSelection() {
    const selection = getSelection();
    return !selection.isCollapsed && this.body.contains(selection.anchorNode);
  }

  #announceCount() {
    announce(`${plural(this.shown.length, this.empty.one, this.empty.many)} shown`);
  }

  #showEmpty() {
    const reason = this.shown.length ? "" : this.rows.length ? "filtered" : "empty";
    byId("empty").hidden = !reason;
    this.table.hidden = Boolean(reason);
    if (reason === this.emptyFor) return;
    this.emptyFor = reason;
    const nothing = [el("h2", {}, "Nothing matches"), el("button", { type: "button", onclick: () => this.clear() }, "Clear search and filters")];
    byId("empty").replaceChildren(...(reason === "filtered" ? nothing : reason ? this.empty.draw() : []));
  }

  #drawSoon() {
    this.frame ??= requestAnimationFrame(() => this.draw());
  }

  draw() {
    this.frame = undefined;
    if (this.table.hidden) return;
    const height = parseFloat(getComputedStyle(this.table).getPropertyValue("--row"));
    const hiddenAbove = -this.body.getBoundingClientRect().top;
    const from = Math.min(Math.max(0, Math.floor(hiddenAbove / height) - MORE), this.shown.length);
    // A table that is out of sight has rows all the same, for screen readers.
    const to = Math.min(this.shown.length, Math.max(from, Math.ceil((hiddenAbove + innerHeight) / height)) + MORE);
    this.above.style.height = `${from * height}px`;
    this.below.style.height = `${(this.shown.length - to) * height}px`;
    this.#drawRows(this.shown.slice(from, to), from);
  }

  #drawRows(rows, from) {
    const wanted = new Set(rows.map(this.key));
    for (const [key, view] of this.#views) {
      if (wanted.has(key)) continue;
      view.tr.remove();
      this.#views.delete(key);
    }
    let cursor = this.above.nextElementSibling;
    rows.forEach((row, index) => {
      const view = this.#viewOf(this.key(row));
      if (view.tr === cursor) cursor = cursor.nextElementSibling;
      else this.body.insertBefore(view.tr, cursor);
      const position = from + index;
      if (view.position !== position) {
        view.position = position;
        view.tr.setAttribute("aria-rowindex", String(position + 2));
        view.tr.classList.toggle("odd", position % 2 === 1);
      }
      if (view.revision === this.#revision) return;
      view.revision = this.#revision;
      for (const fill of view.fills) fill(row);
    });
  }

  #viewOf(key) {
    let view = this.#views.get(key);
    if (!view) {
      const tr = el("tr", { role: "row" });
      const fills = this.columns.map(({ name, cell }) => {
        const td = el("td", { role: "cell", class: name });
        tr.append(td);
        return cell(td);
      });
      this.#views.set(key, (view = { tr, fills }));
    }
    return view;
  }
}
