// A chart of figures over time: lines with axes, the numbers under the pointer or at the arrow keys, and a table.

import { el, setText, svg, updateChildren } from "./dom.js";
import { dayMonth, fullTime, hourMinute } from "./format.js";

const HEIGHT = 132; // of the drawing, in px
const EDGE = { top: 8, right: 8, bottom: 20, left: 62 }; // room for the labels, in px
const LABEL = 74; // the least distance between two labels of the time axis, in px
const MINUTE = 60_000;
// Between two labels of the time axis.
const INTERVALS = [5, 10, 15, 20, 30, 60, 120, 180, 240, 360, 720, 1440, 2880, 7200, 14400].map((minutes) => minutes * MINUTE);
// How many steps a row of the table has, by the length of a step in seconds: 5 minutes, an hour, a day.
const STEPS_OF_A_ROW = { 10: 30, 60: 60, 3600: 24 };

export const MOST_LINES = 6; // more cannot be told apart

// `format(value)` gives a text; `least` is the least upper end of the value axis. Data for `fill` are
// { start, step, lines: [{ name, values }] } with times in ms, `step` in seconds, and null for a value that is not known.
export function chart({ title, format, least }) {
  const shown = { data: null, width: 0, cursor: null };
  const plot = el("div", {
    class: "plot", role: "slider", tabindex: "0", "aria-label": title, "aria-orientation": "horizontal",
    "aria-valuemin": "0", "aria-valuemax": "0", "aria-valuenow": "0", "aria-valuetext": "no figures yet",
  });
  const legend = el("ul", { class: "legend" });
  const at = el("span", { class: "at" });
  const table = el("table", { class: "plain" });
  const details = el("details", {}, el("summary", {}, "Table", el("span", { class: "unseen" }, ` of ${title}`)), table);
  const node = el("figure", { class: "chart panel" }, el("figcaption", {}, el("h3", {}, title), at), plot, legend, details);

  const draw = () => {
    shown.width = plot.clientWidth;
    plot.replaceChildren(...(shown.data && shown.width ? [drawing(shown, format, least)] : []));
    point();
  };
  // Moves the cursor, and shows the values there; without a cursor those of the newest step.
  const point = () => {
    const { data, cursor, width } = shown;
    if (!data) return;
    const index = cursor ?? newest(data);
    const time = timeOf(data, index);
    setText(at, `${cursor === null ? "newest, " : ""}${label(time, data.step)}`);
    updateChildren(legend, data.lines.map((line, place) => ({ ...line, place })), ({ name, place }) => `${place} ${name}`, drawEntry(format));
    for (const entry of legend.known.values()) entry.point(index);
    plot.setAttribute("aria-valuemax", String(count(data) - 1));
    plot.setAttribute("aria-valuenow", String(index));
    plot.setAttribute("aria-valuetext", [fullTime(time), ...data.lines.map(({ name, values }) => `${name} ${figure(values[index], format)}`)].join(", "));
    const line = plot.querySelector(".cursor");
    line?.setAttribute("d", cursor === null ? "" : `M${x(data, index, width).toFixed(1)} ${EDGE.top}V${HEIGHT - EDGE.bottom}`);
  };
  const moveTo = (index) => {
    shown.cursor = index === null ? null : Math.min(count(shown.data) - 1, Math.max(0, index));
    point();
  };
  follow(plot, shown, moveTo);
  details.addEventListener("toggle", () => details.open && fillTable(table, shown.data, title, format));
  new ResizeObserver(() => plot.clientWidth !== shown.width && draw()).observe(plot);

  const fill = (data) => {
    shown.data = data;
    draw();
    if (details.open) fillTable(table, data, title, format);
  };
  return { node, fill };
}

const count = ({ lines }) => lines[0]?.values.length ?? 1;

// The time in the middle of a step.
const timeOf = ({ start, step }, index) => start + (index + 0.5) * step * 1000;

const label = (time, step) => (step < 3600 ? hourMinute(time) : `${dayMonth(time)}, ${hourMinute(time)}`);

const figure = (value, format) => (value === null || value === undefined ? "not measured" : format(value));

// The last step in which anything was measured.
function newest(data) {
  const last = data.lines.reduce((most, { values }) => Math.max(most, values.findLastIndex((value) => value !== null)), -1);
  return last < 0 ? count(data) - 1 : last;
}

// ---- The drawing ----

const x = (data, index, width) => EDGE.left + ((index + 0.5) / count(data)) * (width - EDGE.left - EDGE.right);
const y = (value, top) => HEIGHT - EDGE.bottom - (value / top) * (HEIGHT - EDGE.top - EDGE.bottom);

function drawing({ data, width }, format, least) {
  const peak = data.lines.reduce((most, { values }) => values.reduce((max, value) => Math.max(max, value ?? 0), most), 0);
  const top = axisEnd(Math.max(peak, least));
  const lines = data.lines.map(({ values }, place) => svg("path", { class: `line l${place}`, d: outline(data, values, width, top) }));
  return svg("svg", { width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}`, "aria-hidden": "true" },
    ...valueAxis(top, width, format), ...timeAxis(data, width), ...lines, svg("path", { class: "cursor" }));
}

// A round number whose half is round too.
function axisEnd(peak) {
  const unit = 10 ** Math.floor(Math.log10(peak));
  return unit * [1, 1.2, 1.6, 2, 4, 6, 8, 10].find((times) => unit * times >= peak * 0.999);
}

function valueAxis(top, width, format) {
  return [0, top / 2, top].flatMap((value) => [
    svg("path", { class: value ? "grid" : "axis", d: `M${EDGE.left} ${y(value, top)}H${width - EDGE.right}` }),
    svg("text", { x: EDGE.left - 6, y: y(value, top) + 4, "text-anchor": "end" }, format(value)),
  ]);
}

function timeAxis(data, width) {
  const { start, step } = data;
  const span = count(data) * step * 1000;
  const room = width - EDGE.left - EDGE.right;
  const interval = INTERVALS.find((each) => (room * each) / span >= LABEL) ?? INTERVALS.at(-1);
  const zone = new Date(start).getTimezoneOffset() * MINUTE;
  const marks = [];
  for (let time = Math.ceil((start - zone) / interval) * interval + zone; time <= start + span; time += interval) {
    const at = EDGE.left + ((time - start) / span) * room;
    marks.push(svg("path", { class: "axis", d: `M${at.toFixed(1)} ${HEIGHT - EDGE.bottom}v4` }));
    const anchor = width - at < LABEL / 3 ? "end" : "middle";
    // The clocks may have changed since the start.
    marks.push(svg("text", { x: anchor === "end" ? width : at.toFixed(1), y: HEIGHT - 3, "text-anchor": anchor }, interval < 1440 * MINUTE ? hourMinute(time) : dayMonth(time + 120 * MINUTE)));
  }
  return marks;
}

// A gap is no line. A value between two gaps is a dot, by the round ends of its line of no length.
function outline(data, values, width, top) {
  const { length } = values;
  const room = width - EDGE.left - EDGE.right;
  let path = "";
  let isOpen = false;
  for (let index = 0; index < length; index++) {
    const value = values[index];
    if (value === null) {
      isOpen = false;
      continue;
    }
    const place = `${(EDGE.left + ((index + 0.5) / length) * room).toFixed(1)} ${y(value, top).toFixed(1)}`;
    path += isOpen ? `L${place}` : `M${place}h0`;
    isOpen = true;
  }
  return path;
}

// ---- The numbers ----

const drawEntry = (format) => ({ name, place }) => {
  const value = el("strong");
  const sample = svg("svg", { class: "sample", width: 26, height: 8, "aria-hidden": "true" }, svg("path", { class: `line l${place}`, d: "M1 4H25" }));
  let values = [];
  return {
    node: el("li", {}, sample, el("span", {}, name), value),
    fill: (line) => ({ values } = line),
    point: (index) => setText(value, figure(values[index], format)),
  };
};

// The pointer and the keys move the cursor.
function follow(plot, shown, moveTo) {
  const under = ({ clientX }) => {
    if (!shown.data) return;
    const part = (clientX - plot.getBoundingClientRect().left - EDGE.left) / (shown.width - EDGE.left - EDGE.right);
    moveTo(Math.floor(part * count(shown.data)));
  };
  plot.addEventListener("pointerdown", under);
  plot.addEventListener("pointermove", under);
  for (const end of ["pointerleave", "blur"]) plot.addEventListener(end, ({ pointerType }) => shown.data && pointerType !== "touch" && moveTo(null));
  plot.addEventListener("keydown", (event) => {
    if (!shown.data || event.ctrlKey || event.metaKey || event.altKey) return;
    const all = count(shown.data);
    const from = shown.cursor ?? newest(shown.data);
    const page = Math.round(all / 12);
    const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -page, PageUp: page, Home: -all, End: all };
    if (event.key === "Escape") moveTo(null);
    else if (event.key in steps) moveTo(from + steps[event.key]);
    else return;
    event.preventDefault();
  });
}

// ---- The table ----

function fillTable(table, data, title, format) {
  if (!data) return;
  const { lines, step } = data;
  const size = STEPS_OF_A_ROW[step];
  const head = el("tr", {}, el("th", { scope: "col" }, "From"), ...lines.map(({ name }) => el("th", { scope: "col", class: "number" }, name)));
  const rows = [];
  for (let first = count(data) - size; first >= 0; first -= size) {
    const cells = lines.map(({ values }) => el("td", { class: "number" }, figure(mean(values.slice(first, first + size)), format)));
    if (cells.every((cell) => cell.textContent === figure(null))) continue;
    rows.push(el("tr", {}, el("th", { scope: "row" }, label(data.start + first * step * 1000, step)), ...cells));
  }
  table.replaceChildren(el("caption", {}, `${title}: means of ${{ 10: "5 minutes", 60: "an hour", 3600: "a day" }[step]}`), el("thead", {}, head), el("tbody", {}, ...rows));
}

function mean(values) {
  const known = values.filter((value) => value !== null);
  return known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : null;
}
