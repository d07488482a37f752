// The script of all three pages: asks the API every few seconds and shows what it says.
// What a peer sent reaches the page as text and as titles only; nothing here parses HTML.
"use strict";

const INTERVALS = [1, 2, 5, 10, 30, 60];
const HISTORY = 60_000; // what a sparkline shows, in ms
const LATE = 4_000; // an answer that takes longer is called late, in ms
const GIVE_UP = 10_000; // and is no longer waited for, in ms
const RETRY = 3_000; // the longest pause between attempts while the proxy is gone, in ms

// ---- Small tools ----

const $ = (id) => document.getElementById(id);

function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

function svg(tag, attributes, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

// Changes the text in place: a new text node would lose the reader's selection.
function setText(node, text) {
  const { firstChild } = node;
  if (!firstChild) node.append(text);
  else if (firstChild.data !== text) firstChild.data = text;
}

function setTitle(node, title) {
  if (node.title !== title) node.title = title;
}

function setFigure(node, { text, title = "" }) {
  setText(node, text);
  setTitle(node, title);
}

// Directions, controls and line breaks in a peer's own words would let it dress up as another.
const visible = (text) => text.replace(/[\p{Cc}\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/gu, "\ufffd");

// Numbers inside texts sort as numbers: 10.0.0.9 before 10.0.0.10.
const sortable = (text) => text.toLowerCase().replace(/\d+/g, (digits) => digits.padStart(5, "0"));

// Keeps one child per item, by key, so that what the reader selected or focused stays.
function keyed(parent, items, key, create) {
  const known = (parent.known ??= new Map());
  const wanted = new Set(items.map(key));
  for (const [name, entry] of known) {
    if (wanted.has(name)) continue;
    entry.node.remove();
    known.delete(name);
  }
  let cursor = parent.firstElementChild;
  for (const item of items) {
    let entry = known.get(key(item));
    if (!entry) known.set(key(item), (entry = create(item)));
    if (entry.node === cursor) cursor = cursor.nextElementSibling;
    else parent.insertBefore(entry.node, cursor);
    entry.fill(item);
  }
}

// Tells a screen reader what an action did. Ticks never speak.
function announce(text) {
  setText(document.querySelector("dialog[open] [role=status]") ?? $("spoken"), text);
}

async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    copyOldWay(text, button);
  }
  announce("Copied");
  const label = (button.label ??= button.textContent);
  setText(button, "Copied");
  clearTimeout(button.timer);
  button.timer = setTimeout(() => setText(button, label), 2000);
}

// Over plain HTTP beyond localhost a browser offers no clipboard.
function copyOldWay(text, button) {
  const area = el("textarea", { class: "unseen", "aria-hidden": "true" });
  area.value = text;
  button.after(area);
  area.select();
  document.execCommand("copy");
  area.remove();
  button.focus();
}

// ---- What the reader chose, remembered where the browser allows it ----

const memory = {
  get(name, allowed, otherwise) {
    try {
      const value = JSON.parse(localStorage.getItem(`lavaproxy.${name}`));
      return allowed.includes(value) ? value : otherwise;
    } catch {
      return otherwise;
    }
  },
  set(name, value) {
    try {
      localStorage.setItem(`lavaproxy.${name}`, JSON.stringify(value));
    } catch {
      // It holds until the page is left.
    }
  },
};

const chosen = {
  refresh: memory.get("refresh", INTERVALS, 5),
  unit: memory.get("unit", ["bytes", "bits"], "bytes"),
  theme: memory.get("theme", ["light", "dark"], null),
};

function choose(name, value) {
  chosen[name] = value;
  memory.set(name, value);
}

// ---- Numbers and times for people ----

const whole = new Intl.NumberFormat();
const rounded = new Intl.NumberFormat(undefined, { maximumSignificantDigits: 3 });
const percentage = new Intl.NumberFormat(undefined, { style: "percent", maximumSignificantDigits: 2 });
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const day = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const moment = new Intl.DateTimeFormat(undefined, { dateStyle: "long", timeStyle: "long" });

const count = (value) => ({ text: whole.format(value) });

function scaled(value, units) {
  let unit = 0;
  for (; value >= 999.5 && unit < units.length - 1; unit++) value /= 1000;
  return `${rounded.format(unit ? value : Math.round(value))}\u00a0${units[unit]}`;
}

const BYTES = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
const BITS = ["bit", "kbit", "Mbit", "Gbit", "Tbit", "Pbit", "Ebit"];

const bytes = (value) => ({ text: scaled(value, BYTES), title: `${whole.format(value)} bytes` });

function rate(value) {
  const bits = chosen.unit === "bits";
  return {
    text: `${bits ? scaled(value * 8, BITS) : scaled(value, BYTES)}/s`,
    title: bits ? `${whole.format(value * 8)} bits per second` : `${whole.format(value)} bytes per second`,
  };
}

function duration(milliseconds) {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  const parts = [[Math.floor(seconds / 86400), "d"], [Math.floor(seconds / 3600) % 24, "h"], [Math.floor(seconds / 60) % 60, "m"], [seconds % 60, "s"]];
  const first = Math.min(parts.findIndex(([value]) => value > 0) >>> 0, 3);
  return parts.slice(first, first + 2).map(([value, unit]) => value + unit).join("\u00a0");
}

function time(milliseconds) {
  const date = new Date(milliseconds);
  const today = date.toDateString() === new Date().toDateString();
  return { text: (today ? clock : day).format(date), title: moment.format(date) };
}

const plural = (value, one, many = `${one}s`) => `${whole.format(value)}\u00a0${value === 1 ? one : many}`;

// ---- Light and dark ----

const systemDark = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (chosen.theme ? chosen.theme === "dark" : systemDark.matches);

function applyTheme() {
  if (chosen.theme) document.documentElement.dataset.theme = chosen.theme;
  else delete document.documentElement.dataset.theme;
  $("theme")?.setAttribute("aria-pressed", String(isDark()));
}

// What agrees with the system is not an exception to remember.
function toggleTheme() {
  const dark = !isDark();
  choose("theme", dark === systemDark.matches ? null : dark ? "dark" : "light");
  applyTheme();
}

// ---- The feed: one question at a time, again and again ----

class Trouble extends Error {}

async function readJson(path, options) {
  // A page opened as http://user:password@host/ must not hand both on: fetch refuses such addresses.
  const url = new URL(path, document.baseURI);
  url.username = url.password = "";
  let response;
  try {
    response = await fetch(url, { cache: "no-store", signal: AbortSignal.timeout(GIVE_UP), ...options });
    if (response.ok) return await response.json();
  } catch (error) {
    throw new Trouble(error.name === "TimeoutError" ? "late" : "gone");
  }
  throw new Trouble(response.status === 401 ? "locked" : "failing");
}

class Feed {
  paused = false;
  #busy = false;
  #timer = 0;

  constructor(paths, show, tell) {
    Object.assign(this, { paths, show, tell });
    document.addEventListener("visibilitychange", () => this.resume());
  }

  get waits() {
    return this.paused || document.hidden;
  }

  resume() {
    if (this.waits) clearTimeout(this.#timer);
    else this.refresh();
  }

  pause(paused) {
    this.paused = paused;
    this.tell(paused ? "paused" : "connecting");
    this.resume();
  }

  async refresh() {
    clearTimeout(this.#timer);
    if (this.#busy) return;
    this.#busy = true;
    const late = setTimeout(() => this.waits || this.tell("late"), LATE);
    let state = "live";
    try {
      this.show(...(await Promise.all(this.paths.map((path) => readJson(path)))));
    } catch (error) {
      if (!(error instanceof Trouble)) throw error;
      state = error.message;
    } finally {
      clearTimeout(late);
      this.#busy = false;
      this.#schedule(state);
    }
    this.tell(this.paused ? "paused" : state);
  }

  #schedule(state) {
    if (this.waits) return;
    const interval = chosen.refresh * 1000;
    this.#timer = setTimeout(() => this.refresh(), state === "live" ? interval : Math.min(interval, RETRY));
  }
}

const STATES = {
  connecting: ["Connecting"],
  live: ["Live"],
  paused: ["Paused"],
  late: ["Stale", "The proxy does not answer."],
  gone: ["Gone", "The proxy is gone: nothing listens at this address, or the network is down."],
  locked: ["Locked", "The proxy asks for its password: reload the page to enter it."],
  failing: ["Failing", "The proxy answers with an error; its log says more."],
};

// ---- The frame that all pages share ----

const PAGES = [
  ["connections", "./", "Connections"],
  ["usage", "data-usage", "Data usage"],
  ["health", "health", "Health"],
];

const frame = { state: "", asOf: null };

function drawFrame(page) {
  const refresh = el("select", { id: "refresh", title: "How often the numbers are refreshed" });
  refresh.append(...INTERVALS.map((seconds) => new Option(`${seconds} s`, seconds, false, seconds === chosen.refresh)));
  const links = PAGES.map(([name, href, label]) => {
    const link = el("a", name === page ? { href, "aria-current": "page" } : { href }, label);
    if (name === "health") link.append(el("span", { id: "health-mark", class: "mark" }));
    return link;
  });
  document.body.prepend(
    el("a", { class: "skip", href: "#main" }, "Skip to content"),
    el("header", { class: "top" },
      el("a", { class: "brand", href: "./" }, logo(), "lavaproxy", el("span", { id: "release", class: "release" })),
      el("nav", { "aria-label": "Pages" }, ...links),
      el("div", { class: "controls" },
        el("span", { id: "as-of", class: "as-of" }),
        el("span", { id: "state", class: "state" }),
        el("label", { class: "unseen", for: "refresh" }, "Refresh every"),
        refresh,
        el("button", { type: "button", id: "pause", "aria-pressed": "false" }, "Pause"),
        el("button", { type: "button", id: "theme", title: "Dark or light" }, "Dark"))),
    el("p", { id: "banner", class: "banner", role: "alert" }));
  document.body.append(el("p", { id: "spoken", class: "unseen", role: "status" }));
}

function logo() {
  return svg("svg", { viewBox: "0 0 24 24", width: "22", height: "22", "aria-hidden": "true" },
    svg("rect", { width: "24", height: "24", rx: "6" }),
    svg("path", { d: "M4 12h5c4 0 3-5 7-5h4M9 12c4 0 3 5 7 5h4" }));
}

function tellState(state) {
  if (frame.state === state) return;
  const [word, trouble = ""] = STATES[state];
  if (STATES[frame.state]?.[1] && state === "live") announce("The proxy answers again");
  frame.state = state;
  $("state").className = `state ${state}`;
  setText($("state"), word);
  document.body.classList.toggle("stale", trouble !== "");
  const since = frame.asOf ? ` These numbers are from ${clock.format(frame.asOf)}.` : "";
  $("banner").replaceChildren(...(trouble ? [`${trouble}${since} The page keeps trying and recovers by itself.`] : []));
}

function showFrame({ version, status }) {
  frame.asOf = new Date();
  setText($("as-of"), clock.format(frame.asOf));
  setText($("release"), version);
  const mark = $("health-mark");
  mark.className = `mark ${status}`;
  setText(mark, status === "ok" ? "" : status);
}

function wireFrame(feed) {
  $("refresh").addEventListener("change", ({ target }) => {
    choose("refresh", Number(target.value));
    feed.resume();
  });
  $("pause").addEventListener("click", ({ currentTarget }) => {
    feed.pause(!feed.paused);
    currentTarget.setAttribute("aria-pressed", String(feed.paused));
  });
  $("theme").addEventListener("click", toggleTheme);
  systemDark.addEventListener("change", applyTheme);
}

// A row of radio buttons that looks like one switch.
function segmented(fieldset, options, current, change) {
  for (const [value, label] of options) {
    const input = el("input", { type: "radio", name: fieldset.id, value });
    input.checked = value === current;
    input.addEventListener("change", () => change(value));
    fieldset.append(el("label", {}, input, el("span", {}, label)));
  }
}

function unitSwitch(redraw) {
  segmented($("unit"), [["bytes", "bytes/s"], ["bits", "bits/s"]], chosen.unit, (unit) => {
    choose("unit", unit);
    redraw();
  });
}

// ---- Sparklines from the samples of the last minute ----

// Samples of a connection have no gaps until it ends, so the last of them belongs to the last time.
class History {
  times = [];
  samples = new Map();

  // Another start means another process, which numbers its connections anew.
  add({ now, startedAt }, rows) {
    if (startedAt !== this.startedAt) Object.assign(this, { startedAt, times: [], samples: new Map() });
    this.times.push(now);
    while (this.times[0] < now - HISTORY) this.times.shift();
    const next = new Map();
    for (const { id, rateIn, rateOut } of rows) {
      const samples = this.samples.get(id) ?? { in: [], out: [] };
      for (const [list, value] of [[samples.in, rateIn], [samples.out, rateOut]]) {
        list.push(value);
        if (list.length > this.times.length) list.splice(0, list.length - this.times.length);
      }
      next.set(id, samples);
    }
    this.samples = next;
  }

  of(id) {
    return this.samples.get(id) ?? { in: [], out: [] };
  }
}

// Below this a peak is not worth a full height, in bytes per second.
const QUIET = 200;

function sparkline(directions) {
  const paths = directions.map((direction) => svg("path", { class: direction }));
  const node = svg("svg", { class: "spark", viewBox: "0 0 60 20", preserveAspectRatio: "none", "aria-hidden": "true" }, ...paths);
  const fill = (history, id) => {
    const samples = history.of(id);
    const peak = directions.reduce((most, direction) => Math.max(most, ...samples[direction]), QUIET);
    directions.forEach((direction, index) => paths[index].setAttribute("d", outline(history.times, samples[direction], peak)));
  };
  return { node, fill };
}

function outline(times, values, peak) {
  const offset = times.length - values.length;
  const points = values.map((value, index) => {
    const x = 60 - (times.at(-1) - times[offset + index]) / 1000;
    return `${x.toFixed(1)} ${(19 - (value / peak) * 18).toFixed(1)}`;
  });
  if (points.length === 1) points.unshift(`58 ${points[0].split(" ")[1]}`);
  return points.length ? `M${points.join("L")}` : "";
}

// ---- A table of any length: only the rows in sight exist ----

// A column has `name`, `label`, `value(row)` to sort by (none: not sortable), `first` ("descending" for numbers), and
// `cell(td)`, which prepares a cell and returns what fills it with a row.
class DataTable {
  rows = [];
  shown = [];
  filters = {};
  #stamp = 0;
  #views = new Map();
  #terms = [];

  constructor({ table, columns, key, text, sort, blank }) {
    Object.assign(this, { table, columns, key, text, blank });
    const names = columns.filter((column) => column.value).flatMap(({ name }) => [`${name} ascending`, `${name} descending`]);
    [this.sortName, this.sortOrder] = memory.get(`sort.${document.body.dataset.page}`, names, sort).split(" ");
    this.#drawHead();
    this.above = el("tr", { class: "spacer", "aria-hidden": "true" });
    this.below = el("tr", { class: "spacer", "aria-hidden": "true" });
    this.body = el("tbody", { role: "rowgroup" }, this.above, this.below);
    table.setAttribute("role", "table");
    table.append(this.body);
    this.#markSort();
    for (const event of ["scroll", "resize"]) addEventListener(event, () => this.#soon(), { passive: true });
    $("search").addEventListener("input", ({ target }) => this.search(target.value));
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
    this.table.append(el("thead", { role: "rowgroup" }, head));
    select.addEventListener("change", () => this.sortBy(select.value));
    const turn = el("button", { type: "button", id: "sort-turn", onclick: () => this.sortBy(this.sortName) });
    $("sorting").append(el("label", { class: "unseen", for: "sort-by" }, "Sort by"), select, turn);
  }

  search(words) {
    this.#terms = words.toLowerCase().split(/\s+/).filter(Boolean);
    this.view();
    this.#sayCount();
  }

  filter(name, test) {
    this.filters[name] = test;
    this.view();
    this.#sayCount();
  }

  clear() {
    this.filters = {};
    $("search").value = "";
    for (const input of document.querySelectorAll("fieldset.filter input[value='']")) input.checked = true;
    this.search("");
    $("search").focus();
  }

  sortBy(name) {
    const column = this.columns.find((each) => each.name === name);
    const first = column.first ?? "ascending";
    const turned = this.sortOrder === "ascending" ? "descending" : "ascending";
    [this.sortName, this.sortOrder] = [name, name === this.sortName ? turned : first];
    memory.set(`sort.${document.body.dataset.page}`, `${this.sortName} ${this.sortOrder}`);
    this.#markSort();
    this.view(true);
    announce(`Sorted by ${column.label}, ${this.sortOrder}`);
  }

  #markSort() {
    for (const { name, value } of this.columns) {
      if (value) this.table.querySelector(`th.${name}`).setAttribute("aria-sort", name === this.sortName ? this.sortOrder : "none");
    }
    $("sort-by").value = this.sortName;
    setText($("sort-turn"), this.sortOrder === "ascending" ? "\u2191" : "\u2193");
    $("sort-turn").setAttribute("aria-label", `Sorted ${this.sortOrder}: turn around`);
  }

  // Decides which rows are shown and in which order, then draws those in sight.
  view(sorted = false) {
    const tests = Object.values(this.filters).filter(Boolean);
    const matches = (row) => tests.every((test) => test(row)) && this.#found(row);
    this.shown = this.#ordered(this.rows.filter(matches), sorted);
    this.#stamp++;
    this.table.setAttribute("aria-rowcount", String(this.shown.length + 1));
    const all = plural(this.rows.length, this.blank.one, this.blank.many);
    setText($("count"), this.shown.length === this.rows.length ? all : `${whole.format(this.shown.length)} of ${all}`);
    this.#showBlank();
    this.draw();
  }

  #found(row) {
    if (!this.#terms.length) return true;
    const text = this.text(row).toLowerCase();
    return this.#terms.every((term) => text.includes(term));
  }

  #ordered(rows, sorted) {
    const { value } = this.columns.find((column) => column.name === this.sortName);
    const sign = this.sortOrder === "ascending" ? 1 : -1;
    // Rows do not run away from under a selection.
    const held = !sorted && this.#selected() ? new Map(this.shown.map((row, index) => [this.key(row), index])) : null;
    return rows
      .map((row, index) => ({ row, by: value(row), place: held?.get(this.key(row)) ?? Infinity, index }))
      .sort((a, b) => {
        if (a.place !== b.place) return a.place - b.place;
        return a.by < b.by ? -sign : a.by > b.by ? sign : a.index - b.index;
      })
      .map(({ row }) => row);
  }

  #selected() {
    const selection = getSelection();
    return !selection.isCollapsed && this.body.contains(selection.anchorNode);
  }

  #sayCount() {
    announce(`${plural(this.shown.length, this.blank.one, this.blank.many)} shown`);
  }

  #showBlank() {
    const blank = this.shown.length ? "" : this.rows.length ? "filtered" : "empty";
    $("empty").hidden = !blank;
    this.table.hidden = Boolean(blank);
    if (blank === this.blankShown) return;
    this.blankShown = blank;
    const nothing = [el("h2", {}, "Nothing matches"), el("button", { type: "button", onclick: () => this.clear() }, "Clear search and filters")];
    $("empty").replaceChildren(...(blank === "filtered" ? nothing : blank ? this.blank.draw() : []));
  }

  #soon() {
    this.frame ??= requestAnimationFrame(() => this.draw());
  }

  draw() {
    this.frame = undefined;
    if (this.table.hidden) return;
    const height = parseFloat(getComputedStyle(this.table).getPropertyValue("--row"));
    const hiddenAbove = -this.body.getBoundingClientRect().top;
    const from = Math.min(Math.max(0, Math.floor(hiddenAbove / height) - 5), this.shown.length);
    const to = Math.min(this.shown.length, Math.max(from, Math.ceil((hiddenAbove + innerHeight) / height) + 5));
    this.above.style.height = `${from * height}px`;
    this.below.style.height = `${(this.shown.length - to) * height}px`;
    this.#place(this.shown.slice(from, to), from);
  }

  #place(rows, from) {
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
      const place = from + index;
      if (view.place !== place) {
        view.place = place;
        view.tr.setAttribute("aria-rowindex", String(place + 2));
        view.tr.classList.toggle("odd", place % 2 === 1);
      }
      if (view.stamp === this.#stamp) return;
      view.stamp = this.#stamp;
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

// ---- Cells ----

const figure = (read) => (td) => (row) => setFigure(td, read(row));

// A figure of which zero is the normal, quiet case.
const liveFigure = (read, format) => (td) => (row) => {
  const value = read(row);
  setFigure(td, format(value));
  td.classList.toggle("idle", value === 0);
};

const number = (name, label, hint) => ({ name, label, hint, value: (row) => row[name], first: "descending" });
const sum = (name, label, format, hint) => ({ ...number(name, label, hint), cell: figure((row) => format(row[name])) });
const flow = (name, label, hint) => ({ ...number(name, label, hint), cell: liveFigure((row) => row[name], rate) });

// ---- Page: connections ----

const RATES_HINT = "Over the last five seconds";

function connectionColumns(history) {
  return [
    { name: "client", label: "Client", value: (row) => sortable(row.client), cell: figure((row) => ({ text: row.client, title: row.client })) },
    { name: "bot", label: "Bot", value: (row) => sortable(row.clientName || row.userAgent), cell: botCell },
    { name: "backend", label: "Node", value: (row) => `${row.version ?? "~"} ${sortable(row.backend ?? "")}`, cell: nodeCell },
    { name: "kind", label: "Kind", value: (row) => row.kind, cell: figure((row) => ({ text: row.kind === "websocket" ? "WebSocket" : "HTTP" })) },
    { ...number("connectedAt", "Since"), cell: figure((row) => time(row.connectedAt)) },
    { ...number("uptime", "Uptime"), cell: figure((row) => ({ text: duration(row.uptime) })) },
    sum("requests", "Requests", count),
    sum("bytesIn", "In", bytes, "From the bot since it connected"),
    sum("bytesOut", "Out", bytes, "To the bot since it connected"),
    flow("rateIn", "In now", RATES_HINT),
    flow("rateOut", "Out now", RATES_HINT),
    { name: "minute", label: "Last 60 s", cell: (td) => {
      const spark = sparkline(["in", "out"]);
      td.append(spark.node);
      return (row) => spark.fill(history, row.id);
    } },
  ];
}

function botCell(td) {
  const [name, user] = [el("bdi", { class: "name" }), el("bdi", { class: "user" })];
  td.append(name, " ", user);
  return ({ clientName, userAgent, userId }) => {
    setText(name, visible(clientName || userAgent || (userId ? "" : "unnamed")));
    name.classList.toggle("idle", !clientName);
    setText(user, visible(userId));
    setTitle(td, [clientName, userId && `user ${userId}`, userAgent].filter(Boolean).map(visible).join("\n"));
  };
}

function nodeCell(td) {
  const [version, address] = [el("span"), el("span", { class: "address" })];
  td.append(version, " ", address);
  return (row) => {
    version.className = row.version ? `badge ${row.version}` : "idle";
    setText(version, row.version ?? "none yet");
    setText(address, row.backend ?? "");
    setTitle(td, row.backend ?? "");
  };
}

function connectionsPage() {
  const history = new History();
  const totals = new History();
  const sparks = { in: sparkline(["in"]), out: sparkline(["out"]) };
  for (const direction of ["in", "out"]) document.querySelector(`.tile.${direction}`).append(sparks[direction].node);
  const dialog = connectDialog();
  let last;

  const table = new DataTable({
    table: $("table"),
    columns: connectionColumns(history),
    key: (row) => row.id,
    text: (row) => `${row.client} ${row.backend} ${row.clientName} ${row.userId} ${row.userAgent}`,
    sort: "bytesOut descending",
    blank: { one: "connection", many: "connections", draw: () => noConnections(last.stats.totals.connections, dialog) },
  });
  const filter = (name, options) => {
    $(name).classList.add("filter");
    segmented($(name), [["", "All"], ...options], "", (value) => table.filter(name, value && ((row) => row[name] === value)));
  };
  filter("version", [["v3", "v3"], ["v4", "v4"]]);
  filter("kind", [["websocket", "WebSocket"], ["http", "HTTP"]]);

  const redraw = () => {
    showTotals(last.stats, last.health, sparks, totals);
    table.view();
  };
  unitSwitch(() => last && redraw());

  return {
    paths: ["api/stats", "api/health"],
    show(stats, health) {
      last = { stats, health };
      history.add(stats, stats.connections);
      totals.add(stats, [{ id: 0, ...stats.totals }]);
      table.rows = stats.connections;
      dialog.update(health);
      redraw();
    },
  };
}

function showTotals({ totals, connections }, health, sparks, history) {
  setFigure($("active"), count(totals.active));
  setText($("active-sub"), `limit ${whole.format(health.limit.connections)}`);
  setTitle($("active-sub"), health.limit.rule);
  setFigure($("websockets"), count(totals.websockets));
  setText($("websockets-sub"), `${whole.format(totals.active - totals.websockets)} plain HTTP`);
  setFigure($("requests"), count(totals.requests));
  setText($("requests-sub"), plural(totals.connections, "connection"));
  for (const version of ["v3", "v4"]) {
    setFigure($(version), count(connections.filter((row) => row.version === version).length));
    showNodes($(`${version}-sub`), health.backends.filter((backend) => backend.version === version));
  }
  showTraffic(totals);
  sparks.in.fill(history, 0);
  sparks.out.fill(history, 0);
}

function showTraffic({ bytesIn, bytesOut, rateIn, rateOut }) {
  setFigure($("bytes-in"), bytes(bytesIn));
  setFigure($("bytes-out"), bytes(bytesOut));
  setFigure($("rate-in"), rate(rateIn));
  setFigure($("rate-out"), rate(rateOut));
}

function showNodes(node, backends) {
  const worst = ["down", "faulty", "unknown", "up"].find((state) => backends.some((backend) => stateOf(backend) === state)) ?? "";
  const concerned = backends.filter((backend) => stateOf(backend) === worst).length;
  const word = { "": "no node set", unknown: "not known yet" }[worst] ?? `node ${worst}`;
  node.className = `sub ${worst}`;
  setText(node, concerned < backends.length ? `${concerned} of ${backends.length} ${worst}` : word);
}

// A node that answers can be of no use all the same, with another password than ours say.
function stateOf({ reachable, error }) {
  if (reachable === null) return "unknown";
  return reachable ? (error ? "faulty" : "up") : "down";
}

function noConnections(before, dialog) {
  return [
    el("h2", {}, before ? "No connection at the moment" : "No bot has connected yet"),
    el("p", {}, before ? `There were ${plural(before, "connection")} since the start. ` : "",
      "Point a bot's Lavalink settings at ", el("code", {}, dialog.address()), " and it appears here within seconds."),
    el("button", { type: "button", class: "primary", onclick: dialog.open }, "Show settings for my bot"),
  ];
}

// ---- How to connect a bot ----

const SECRET = "THE_PROXY_PASSWORD";
const ASKS_VERSION = "asks /version before anything else";

// `speaks` is the library's version of Lavalink; `asks` is set where its paths do not name it, so the door decides.
const LIBRARIES = [
  { name: "shoukaku 4", speaks: "v4", write: ({ host, port }) => `new Shoukaku(new Connectors.DiscordJS(client), [{
  name: "lavaproxy",
  url: "${host}:${port}",
  auth: "${SECRET}",
  secure: false,
}]);` },
  { name: "lavalink-client 2", speaks: "v4", write: (door) => jsNode("new LavalinkManager({ nodes: [", "id", "authorization", door) },
  { name: "lavacord 3", speaks: "v4", asks: ASKS_VERSION, write: (door) => jsNode("new Manager([", "id", "password", door) },
  { name: "erela.js 2", speaks: "v3", asks: "uses paths without a version", write: (door) => jsNode("new Manager({ nodes: [", "identifier", "password", door) },
  { name: "lavalink.py 5", speaks: "v4", write: (door) => pythonNode("client.add_node", "name", door, 'region="eu"', "ssl=False") },
  { name: "wavelink 3", speaks: "v4", write: ({ host, port }) => `node = wavelink.Node(
    identifier="lavaproxy",
    uri="http://${host}:${port}",
    password="${SECRET}",
)
await wavelink.Pool.connect(nodes=[node], client=bot)` },
  { name: "mafic 2", speaks: "v4", asks: ASKS_VERSION, write: (door) => pythonNode("await pool.create_node", "label", door) },
  { name: "pomice 2", speaks: "v4", asks: ASKS_VERSION, write: (door) => pythonNode("await pomice.NodePool.create_node", "identifier", door, "bot=bot") },
  { name: "another library", speaks: null, write: ({ host, port }) => `host      ${host}\nport      ${port}\npassword  ${SECRET}\nsecure    false` },
];

function jsNode(call, name, password, { host, port }) {
  const end = call.includes("nodes:") ? "], /* ... */ });" : "], { /* ... */ });";
  return `${call}{\n  ${name}: "lavaproxy",\n  host: "${host}",\n  port: ${port},\n  ${password}: "${SECRET}",\n  secure: false,\n}${end}`;
}

function pythonNode(call, name, { host, port }, ...more) {
  const lines = [`host="${host}"`, `port=${port}`, `password="${SECRET}"`, `${name}="lavaproxy"`, ...more];
  return `${call}(\n${lines.map((line) => `    ${line},\n`).join("")})`;
}

function place({ address, version }) {
  const colon = address.lastIndexOf(":");
  const [given, port] = [address.slice(0, colon), address.slice(colon + 1)];
  const host = ["0.0.0.0", "[::]", "::"].includes(given) ? location.hostname : given;
  return { host, port, version, text: `${host}:${port}` };
}

// The door for a library, and what its user should know.
function doorFor({ name, speaks, asks }, doors, health) {
  const open = doors.find(({ version }) => !version) ?? doors[0];
  if (!speaks) return { door: open, note: "A library that asks /version before anything else belongs at the address of its version, where there is one." };
  if (!health.backends.some(({ version }) => version === speaks)) return { door: open, note: `${name} speaks Lavalink ${speaks}, for which this proxy has no node.`, bad: true };
  if (!asks) return { door: open, note: `${name} speaks Lavalink ${speaks} and says so in every path: any address will do.` };
  const why = `${name} ${asks}, so the address it uses has to be one that means ${speaks}.`;
  const pinned = doors.find(({ version }) => version === speaks);
  if (pinned) return { door: pinned, note: why };
  const common = health.settings.find((setting) => setting.name === "DEFAULT_VERSION")?.value;
  if (common === speaks || health.backends.every(({ version }) => version === speaks)) return { door: open, note: `${why} This one does.` };
  return { door: open, note: `${why} There is none yet: set PROXY_${speaks.toUpperCase()}_PORT, restart the proxy and use that port.`, bad: true };
}

function connectDialog() {
  const dialog = $("connect");
  const library = $("library");
  let doors = [];
  let health;
  const names = LIBRARIES.map(({ name }) => name);
  library.append(...names.map((name) => new Option(name)));
  library.value = memory.get("library", names, names[0]);

  const showSettings = () => {
    if (!doors.length) return;
    const wanted = LIBRARIES.find(({ name }) => name === library.value);
    const { door, note, bad } = doorFor(wanted, doors, health);
    setText($("library-note"), note);
    $("library-note").classList.toggle("down", Boolean(bad));
    setText($("settings"), wanted.write(door));
  };
  const address = () => doors.find(({ version }) => !version)?.text ?? doors[0]?.text ?? "the bots' address";
  const open = () => dialog.showModal();

  library.addEventListener("change", () => {
    memory.set("library", library.value);
    showSettings();
  });
  $("connect-open").addEventListener("click", open);
  $("connect-close").addEventListener("click", () => dialog.close());
  $("copy-address").addEventListener("click", ({ currentTarget }) => copy(address(), currentTarget));
  $("copy-settings").addEventListener("click", ({ currentTarget }) => copy($("settings").textContent, currentTarget));

  return {
    address,
    open,
    update(now) {
      health = now;
      doors = health.doors.filter(({ name }) => name !== "web").map(place);
      setText($("address"), address());
      keyed($("doors"), doors, ({ text }) => text, drawDoor);
      showSettings();
    },
  };
}

function drawDoor({ text, version }) {
  const button = el("button", { type: "button", class: "copy", "aria-label": `Copy ${text}`, onclick: () => copy(text, button) }, "Copy");
  const meaning = version ? `always Lavalink ${version}` : "Lavalink v3 and v4";
  return { node: el("li", {}, el("code", {}, text), button, el("span", {}, meaning)), fill() {} };
}

// ---- Page: data usage ----

function usagePage() {
  let stats;
  let most;
  const columns = [
    { name: "address", label: "Address", value: (row) => sortable(row.address), cell: figure((row) => ({ text: row.address, title: row.address })) },
    { name: "share", label: "Share", hint: "Of all bytes in both directions", value: traffic, first: "descending", cell: figure((row) => ({ text: percentage.format(traffic(row) / (most.all || 1)) })) },
    { ...number("bytesIn", "From bots"), cell: barCell((row) => [row.bytesIn, most.in]) },
    { ...number("bytesOut", "To bots"), cell: barCell((row) => [row.bytesOut, most.out]) },
    flow("rateIn", "In now", RATES_HINT),
    flow("rateOut", "Out now", RATES_HINT),
    { ...number("active", "Open"), cell: liveFigure((row) => row.active, count) },
    sum("connections", "Connections", count, "Since the start, ended ones included"),
    sum("requests", "Requests", count),
    { ...number("lastSeen", "Last seen"), cell: figure((row) => lastSeen(row, stats.now)) },
  ];
  const table = new DataTable({
    table: $("table"),
    columns,
    key: (row) => row.address,
    text: (row) => row.address,
    sort: "share descending",
    blank: { one: "address", many: "addresses", draw: noUsage },
  });
  const redraw = () => {
    showUsageTotals(stats);
    table.view();
  };
  unitSwitch(() => stats && redraw());
  $("download").addEventListener("click", () => download(csv(table.shown), `lavaproxy-data-usage-${new Date().toISOString().slice(0, 10)}.csv`));

  return {
    paths: ["api/stats", "api/health"],
    show(next) {
      stats = next;
      table.rows = stats.usage;
      most = {
        all: stats.usage.reduce((all, row) => all + traffic(row), 0),
        in: stats.usage.reduce((top, row) => Math.max(top, row.bytesIn), 0),
        out: stats.usage.reduce((top, row) => Math.max(top, row.bytesOut), 0),
      };
      redraw();
    },
  };
}

const traffic = (row) => row.bytesIn + row.bytesOut;

function barCell(read) {
  return (td) => {
    const bar = el("span", { class: "fill" });
    const text = el("span");
    td.append(text, el("span", { class: "bar", "aria-hidden": "true" }, bar));
    return (row) => {
      const [value, top] = read(row);
      setFigure(text, bytes(value));
      bar.style.width = `${top ? (100 * value) / top : 0}%`;
    };
  };
}

function lastSeen({ active, lastSeen: at }, now) {
  return { text: active ? "now" : `${duration(now - at)} ago`, title: moment.format(at) };
}

function showUsageTotals({ totals, usage }) {
  setFigure($("addresses"), count(usage.length));
  setText($("addresses-sub"), `${whole.format(usage.filter(({ active }) => active).length)} connected now`);
  setFigure($("connections"), count(totals.connections));
  setText($("connections-sub"), `${whole.format(totals.active)} open now`);
  setFigure($("requests"), count(totals.requests));
  showTraffic(totals);
}

function noUsage() {
  return [
    el("h2", {}, "No address has used anything yet"),
    el("p", {}, "Every client address appears here with its first connection and stays when it is gone."),
    el("a", { class: "button primary", href: "./" }, "See how to connect a bot"),
  ];
}

function csv(rows) {
  const names = ["address", "bytesIn", "bytesOut", "rateIn", "rateOut", "active", "connections", "requests", "lastSeen"];
  const lines = rows.map((row) => names.map((name) => (name === "lastSeen" ? new Date(row[name]).toISOString() : row[name])));
  return [names, ...lines].map((cells) => cells.map(quoted).join(",")).join("\r\n") + "\r\n";
}

// A spreadsheet takes cells that begin like this for formulas.
function quoted(value) {
  const text = String(value);
  return `"${(/^[=+\-@\t\r]/.test(text) ? `'${text}` : text).replaceAll('"', '""')}"`;
}

function download(text, name) {
  const href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  el("a", { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), 10_000);
  announce(`Saved as ${name}`);
}

// ---- Page: health ----

function healthPage() {
  const show = (health) => {
    showVerdict(health);
    keyed($("backends"), health.backends, ({ version, address }) => `${version} ${address}`, drawBackend);
    keyed($("process"), processFigures(health), ({ name }) => name, drawTile);
    showEnded(health.ended);
    keyed($("settings"), health.settings, ({ name }) => name, drawPair);
    keyed($("doors"), health.doors.map(({ name, address }) => ({ name: DOORS[name] ?? name, value: address })), ({ name }) => name, drawPair);
  };
  $("check").addEventListener("click", ({ currentTarget }) => checkNow(currentTarget, show));
  return { paths: ["api/health"], show };
}

const DOORS = { bots: "Bots, v3 and v4", "bots-v3": "Bots, v3 only", "bots-v4": "Bots, v4 only", web: "These pages" };

async function checkNow(button, show) {
  button.disabled = true;
  setText(button, "Checking");
  try {
    const health = await readJson("api/health/check", { method: "POST", headers: { "X-Requested-With": "lavaproxy" } });
    show(health);
    announce(`Checked: ${health.status}`);
  } catch (error) {
    if (!(error instanceof Trouble)) throw error;
    announce("The check failed");
    tellState(error.message);
  } finally {
    button.disabled = false;
    setText(button, "Check now");
    button.focus();
  }
}

const VERDICTS = { ok: "Everything works", degraded: "Degraded", down: "Down" };

function showVerdict({ status, backends, uptime }) {
  const faults = backends.filter((backend) => ["down", "faulty"].includes(stateOf(backend)));
  const why = faults.map(({ version, address, reachable }) => `Lavalink ${version} at ${address} ${reachable ? "answers, but has a fault" : "does not answer"}`);
  const unknown = backends.some(({ reachable }) => reachable === null);
  $("verdict").className = `verdict ${status}`;
  setText($("verdict-word"), VERDICTS[status] ?? status);
  setText($("verdict-why"), why.length ? `${why.join("; ")}.` : unknown ? "Some nodes were not checked yet." : `All nodes answer; the proxy is up for ${duration(uptime)}.`);
}

const NODE_STATES = { up: "reachable", faulty: "reachable, with a fault", down: "unreachable", unknown: "not checked yet" };

function drawBackend({ version, address }) {
  const facts = el("dl");
  const pill = el("span");
  const error = el("p");
  const node = el("article", { class: "card" },
    el("h3", {}, el("span", { class: `badge ${version}` }, version), " ", el("code", {}, address), pill), error, facts);
  const fill = (backend) => {
    const state = stateOf(backend);
    pill.className = `pill ${state}`;
    error.className = `error ${state}`;
    setText(pill, NODE_STATES[state]);
    setText(error, visible(backend.error ?? ""));
    error.hidden = !backend.error;
    keyed(facts, backendFacts(backend), (fact) => fact.name, drawFact);
  };
  return { node, fill };
}

const known = (value, format) => (value === null ? { text: "–" } : format(value));

function backendFacts({ reachable, since, checkedAt, responseTime, lavalinkVersion, players, playingPlayers }) {
  return [
    { name: "Response time", ...known(responseTime, (value) => ({ text: `${rounded.format(value)} ms` })) },
    { name: "Lavalink says", ...known(lavalinkVersion, (value) => ({ text: visible(value) })) },
    { name: "Players", ...known(players, (value) => ({ text: playingPlayers === null ? whole.format(value) : `${whole.format(value)}, ${whole.format(playingPlayers)} playing` })) },
    { name: reachable === false ? "Down since" : "Up since", ...known(since, time) },
    { name: "Last checked", ...known(checkedAt, time) },
  ];
}

function drawFact({ name }) {
  const value = el("dd");
  return { node: el("div", {}, el("dt", {}, name), value), fill: (fact) => setFigure(value, fact) };
}

function processFigures({ uptime, startedAt, process, limit, version }) {
  const { memory: resident, threads, descriptors, descriptorLimit, cpu, cpuSeconds, pid } = process;
  return [
    { name: "Uptime", text: duration(uptime), sub: `since ${time(startedAt).text}`, title: moment.format(startedAt) },
    { name: "Version", text: version, sub: `process ${pid}` },
    { name: "Memory", ...known(resident, bytes), sub: "resident" },
    { name: "CPU", ...known(cpu, (value) => ({ text: percentage.format(value), title: `${duration(cpuSeconds * 1000)} since the start` })), sub: "of one core" },
    { name: "Threads", ...known(threads, count), sub: "two per WebSocket" },
    { name: "Descriptors", ...known(descriptors, count), sub: `of ${known(descriptorLimit, count).text}`, part: descriptorLimit ? descriptors / descriptorLimit : 0 },
    { name: "Connections at most", ...count(limit.connections), sub: limit.rule },
  ];
}

function drawTile({ name, part }) {
  const [value, sub, bar] = [el("dd"), el("dd", { class: "sub" }), el("span", { class: "fill" })];
  const node = el("div", { class: "tile" }, el("dt", {}, name), value, sub);
  if (part !== undefined) node.append(el("dd", { class: "bar", "aria-hidden": "true" }, bar));
  const fill = (figure) => {
    setFigure(value, figure);
    setText(sub, figure.sub);
    setTitle(sub, figure.sub);
    bar.style.width = `${Math.min(100, 100 * (figure.part ?? 0))}%`;
    bar.classList.toggle("high", figure.part > 0.8);
  };
  return { node, fill };
}

const REASONS = {
  "client-closed": "the bot closed it",
  "backend-closed": "Lavalink closed it",
  "client-timeout": "the bot was silent, or did not read, for too long",
  "backend-timeout": "Lavalink was silent for too long",
  "client-reset": "the bot broke it off",
  "backend-reset": "Lavalink broke it off",
  "rejected-limit": "the limit of connections was reached",
  "rejected-threads": "no thread could be had",
  "rejected-password": "the password was missing or wrong",
  "rejected-version": "its version of Lavalink has no node",
  "backend-unreachable": "Lavalink took no connection",
  "bad-request": "the bot broke the protocol",
  "bad-response": "Lavalink broke the protocol",
  shutdown: "the proxy stopped",
  "internal-error": "a defect in lavaproxy",
};

const NORMAL = ["client-closed", "backend-closed", "shutdown"];

function showEnded(ended) {
  const reasons = Object.entries(ended).filter(([, times]) => times > 0).sort(([, a], [, b]) => b - a);
  $("ended-empty").hidden = reasons.length > 0;
  $("ended").parentElement.hidden = !reasons.length;
  keyed($("ended"), reasons.map(([name, times]) => ({ name, times })), ({ name }) => name, drawReason);
}

function drawReason({ name }) {
  const times = el("td", { class: "number" });
  const meaning = el("span", { class: "meaning" }, REASONS[name] ?? "");
  const node = el("tr", { class: NORMAL.includes(name) ? "" : "trouble" }, el("th", { scope: "row" }, el("code", {}, name), " ", meaning), times);
  return { node, fill: (reason) => setFigure(times, count(reason.times)) };
}

function drawPair({ name }) {
  const value = el("code");
  return { node: el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, value)), fill: (pair) => setText(value, String(pair.value ?? "") || "–") };
}

// ---- Start ----

applyTheme();

addEventListener("DOMContentLoaded", () => {
  const name = document.body.dataset.page;
  drawFrame(name);
  applyTheme();
  const page = { connections: connectionsPage, usage: usagePage, health: healthPage }[name]();
  const show = (...answers) => {
    showFrame(answers.at(-1));
    page.show(...answers);
  };
  const feed = new Feed(page.paths, show, tellState);
  wireFrame(feed);
  tellState("connecting");
  feed.refresh();
});
