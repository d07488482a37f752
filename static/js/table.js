// A table of any length, of which only the rows in sight exist, with search, filters and sorting.

import { announce } from "./announce.js";
import { byId, el, put } from "./dom.js";
import { integer, plural } from "./format.js";
import { preferences, recall, remember } from "./preferences.js";
import { held, select } from "./select.js";

const MORE = 1; // rows that exist above and below those in sight
const SPARE = 20; // rows that are asked for above and below those that exist
const ORDER_LASTS = 14_500; // in ms: 15 s, less what a refresh may come early
const NAMES = 4_000; // characters of a request that name rows; its head may have 8 KiB
const NONE = { all: 0, matched: 0, offset: 0, rows: [] };

// A column has `name`, `label`, `value` to sort by (the name of a field or a function of the row; without it the column
// cannot be sorted), `first` ("descending" for numbers), and `cell(td)`, which prepares a cell and returns the function
// that shows a row in it. `reads` has the names of the fields that the cell is made of: it is left alone while they, and the
// unit of rates, stay as they are. Without it the cell is shown anew each time.
//
// `name` is what the order is remembered under, `key(row)` is what names a row, to the proxy as well, `text(row)` is what the
// search reads, `sort` is the first order, as in "bytesOut descending". `empty` has the words for `one` and `many` rows, and
// `draw()` for the page without any. These make a view; `use(view)` changes to another one.
//
// A page that has all rows gives them to `fill(rows)`. With `ask` the rows come from the proxy: `ask(isOther)` is to read
// what `query()` says and to give it to `show(part)`; `isOther` is true where answers to earlier queries are out of date.
export class DataTable {
  rows;
  part = NONE;
  words = "";
  filters = {};
  #rowHeight;
  #sight = { from: 0, to: 0, height: 1 };
  #asked = { from: 0, to: Infinity };
  #orderedAt = 0;
  #isOther = false;
  #isSelected = false;
  #keepsPlaces = false;
  #control = null;
  #revision = 0;
  #views = new Map();

  constructor({ table, ask, ...view }) {
    this.table = table;
    this.ask = ask ?? (() => this.rows && this.show(select(this)));
    this.above = el("tr", { class: "spacer", "aria-hidden": "true" });
    this.below = el("tr", { class: "spacer", "aria-hidden": "true" });
    this.body = el("tbody", { role: "rowgroup" }, this.above, this.below);
    table.setAttribute("role", "table");
    table.append(this.body);
    this.use(view);
    addEventListener("scroll", () => this.#drawSoon(), { passive: true });
    addEventListener("resize", () => {
      this.#rowHeight = undefined;
      this.#drawSoon();
    });
    document.addEventListener("selectionchange", () => {
      const { isCollapsed, anchorNode } = getSelection();
      this.#isSelected = !isCollapsed && this.body.contains(anchorNode);
    });
    this.body.addEventListener("focusin", ({ target }) => (this.#control = target));
    byId("search").addEventListener("input", ({ target }) => this.search(target.value));
  }

  // Changes the columns and forgets the rows.
  use({ name, columns, key, text, sort, empty }) {
    Object.assign(this, { name, columns, key, text, empty, rows: undefined, part: NONE, filters: {}, emptyFor: undefined });
    const names = columns.filter((column) => column.value).flatMap(({ name }) => [`${name} ascending`, `${name} descending`]);
    [this.sortName, this.sortOrder] = recall(`sort.${name}`, names, sort).split(" ");
    for (const { tr } of this.#views.values()) tr.remove();
    this.#views.clear();
    this.#drawHead();
    this.#markSort();
    this.table.hidden = false;
    byId("empty").hidden = true;
    put("count", "Loading");
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
    this.words = words;
    this.#change(true);
  }

  filter(name, value) {
    this.filters[name] = value;
    this.#change(true);
  }

  // Other rows are wanted, or another order.
  #change(saysCount) {
    this.#isOther = true;
    this.#keepsPlaces = false;
    this.saysCount = saysCount;
    this.ask(true);
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
    this.#change(false);
    announce(`Sorted by ${column.label}, ${this.sortOrder}`);
  }

  #markSort() {
    for (const { name, value } of this.columns) {
      if (value) this.table.querySelector(`th.${name}`).setAttribute("aria-sort", name === this.sortName ? this.sortOrder : "none");
    }
    byId("sort-by").value = this.sortName;
    put("sort-reverse", this.sortOrder === "ascending" ? "\u2191" : "\u2193");
    byId("sort-reverse").setAttribute("aria-label", `Sorted ${this.sortOrder}: reverse the order`);
  }

  // What to ask the proxy for, as the parameters of a request: the rows in sight and some more. Rows that keep their places
  // are named: they may be elsewhere in the order by now.
  query() {
    this.#measure();
    const { from, to } = this.#sight;
    const offset = Math.max(0, from - SPARE);
    this.#asked = { from: offset, to: to + SPARE };
    this.#keepsPlaces = !this.#isOther && (this.#isSelected || (offset === this.part.offset && this.#orderLasts()));
    const names = this.#keepsPlaces ? this.#namesBetween(from, to) : "";
    return `${this.queryForAll()}&offset=${offset}&limit=${to + SPARE - offset}${names}`;
  }

  // The same for all rows that match.
  queryForAll() {
    const { value } = this.columns.find((column) => column.name === this.sortName);
    const wanted = { ...this.filters, search: this.words.trim(), sort: this.sortOrder === "descending" ? `-${value}` : value };
    return Object.entries(wanted).filter(([, value]) => value !== "").map(([name, value]) => `${name}=${encodeURIComponent(value)}`).join("&");
  }

  #namesBetween(from, to) {
    let names = "";
    for (const row of this.#rowsBetween(from, to)) {
      const name = `&also=${encodeURIComponent(this.key(row))}`;
      if (names.length + name.length > NAMES) break;
      names += name;
    }
    return names;
  }

  // A row that moved at each refresh could not be read, where there are many.
  #orderLasts() {
    return this.part.rows.length < this.part.matched && performance.now() < this.#orderedAt + ORDER_LASTS;
  }

  // Those of the rows at these places that are here.
  #rowsBetween(from, to) {
    const { offset, rows } = this.part;
    return rows.slice(Math.max(0, from - offset), Math.max(0, to - offset));
  }

  // Takes all rows there are, and shows those that match.
  fill(rows) {
    this.rows = rows;
    this.#measure();
    this.#keepsPlaces = this.#isSelected;
    this.ask(false);
  }

  // `matched` of `all` rows are wanted; `rows` are those from the place `offset` on, `also` those named that are elsewhere.
  show(part) {
    if (!this.#keepsPlaces) this.#orderedAt = performance.now();
    this.part = this.#keepsPlaces ? held(this.part, part, this.key) : part;
    this.#revision++;
    const { all, matched } = part;
    this.table.setAttribute("aria-rowcount", String(matched + 1));
    const words = plural(all, this.empty.one, this.empty.many);
    put("count", matched === all ? words : `${integer(matched)} of ${words}`);
    if (this.#isOther && this.saysCount) announce(`${plural(matched, this.empty.one, this.empty.many)} shown`);
    this.#isOther = false;
    this.#showEmpty();
    this.draw();
  }

  #showEmpty() {
    const reason = this.part.matched ? "" : this.part.all ? "filtered" : "empty";
    if (reason === this.emptyFor) return;
    this.emptyFor = reason;
    byId("empty").hidden = !reason;
    this.table.hidden = Boolean(reason);
    const nothing = [el("h2", {}, "Nothing matches"), el("button", { type: "button", onclick: () => this.clear() }, "Clear search and filters")];
    byId("empty").replaceChildren(...(reason === "filtered" ? nothing : reason ? this.empty.draw() : []));
  }

  #drawSoon() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = undefined;
      this.#measure();
      this.draw();
    });
  }

  // Finds the places of the rows in sight. To be called before the page changes: afterwards it costs another layout.
  #measure() {
    const height = (this.#rowHeight ??= parseFloat(getComputedStyle(this.table).getPropertyValue("--row")));
    const hiddenAbove = -this.body.getBoundingClientRect().top;
    const from = Math.max(0, Math.floor(hiddenAbove / height) - MORE);
    // A table that is out of sight has rows all the same, for screen readers.
    const to = Math.max(from, Math.ceil((hiddenAbove + innerHeight) / height)) + MORE;
    this.#sight = { from, to, height };
  }

  // Draws the rows in sight, as far as they are here.
  draw() {
    if (this.table.hidden) return;
    const { matched, offset } = this.part;
    const { height } = this.#sight;
    const [from, to] = [this.#sight.from, this.#sight.to].map((place) => Math.min(place, matched));
    const drawn = this.#rowsBetween(from, to);
    const start = drawn.length ? Math.max(from, offset) : from;
    this.above.style.height = `${start * height}px`;
    this.below.style.height = `${(matched - start - drawn.length) * height}px`;
    this.#drawRows(drawn, start);
    if (from < this.#asked.from || to > this.#asked.to) this.ask(false);
  }

  // A place of the table keeps its elements when another row comes to it: to change texts costs less than to move or to
  // make elements.
  #drawRows(rows, from) {
    this.#followFocus(rows, from);
    for (const [place, view] of this.#views) {
      if (place < from || place >= from + rows.length) this.#drop(place, view);
    }
    const { unit } = preferences;
    let cursor = this.above.nextElementSibling;
    rows.forEach((row, index) => {
      const view = this.#viewAt(from + index, cursor);
      cursor = view.tr.nextElementSibling;
      if (view.revision === this.#revision) return;
      const shown = view.unit === unit ? view.row : undefined;
      if (shown === row) return;
      Object.assign(view, { revision: this.#revision, unit, row });
      this.columns.forEach(({ reads }, column) => {
        if (!shown || !reads || reads.some((field) => row[field] !== shown[field])) view.fills[column](row);
      });
    });
  }

  // A control that has the focus, or gets it back from a dialog, stays with its row: all elements go with that row to its
  // new place, and no other row gets the elements of one that is gone.
  #followFocus(rows, from) {
    if (!this.#control) return;
    const control = document.querySelector("dialog[open]") ? this.#control : document.activeElement;
    if (!this.body.contains(control)) return;
    const [place, view] = [...this.#views].find(([, { tr }]) => tr.contains(control));
    const key = this.key(view.row);
    const index = rows.findIndex((row) => this.key(row) === key);
    if (index < 0) this.#drop(place, view);
    else this.#views = new Map([...this.#views].map(([each, view]) => [each + from + index - place, view]));
  }

  #drop(place, { tr }) {
    tr.remove();
    this.#views.delete(place);
  }

  // The elements of a place; new ones are put before `cursor`.
  #viewAt(place, cursor) {
    let view = this.#views.get(place);
    if (!view) {
      const tr = el("tr", { role: "row" });
      const fills = this.columns.map(({ name, cell }) => {
        const td = el("td", { role: "cell", class: name });
        tr.append(td);
        return cell(td);
      });
      this.body.insertBefore(tr, cursor);
      this.#views.set(place, (view = { tr, fills }));
    }
    if (view.place !== place) {
      view.place = place;
      view.tr.setAttribute("aria-rowindex", String(place + 2));
      view.tr.classList.toggle("odd", place % 2 === 1);
    }
    return view;
  }
}
