// The charts of a page: what was used in the last hour, day or month, by the figures of api/history.

import { ApiError, readJson } from "./api.js";
import { MOST_LINES, chart } from "./chart.js";
import { fillChoice } from "./choice.js";
import { el } from "./dom.js";
import { integer, percent, rate, responseTime } from "./format.js";
import { recall, remember } from "./preferences.js";

const RANGES = [["1h", "1 h"], ["24h", "24 h"], ["30d", "30 d"]];
const RETRY = 3_000; // after a failure, in ms
const SPARE = 1_500; // from the end of a step until its values are there, in ms

// ---- What can be shown ----

const times = (values, factor) => values.map((value) => value && value * factor);

// The sum of several lists; a gap where all of them have one.
const sum = (lists) => lists[0]?.map((_, index) => lists.reduce((all, list) => (list[index] === null ? all : (all ?? 0) + list[index]), null)) ?? [];

const isUsed = ({ name, connections }) => name !== "none" || connections.some((value) => value);

const byVersion = (answer, values) => answer.series.filter(isUsed).map((row) => ({ name: row.name === "none" ? "no version" : row.name, values: values(row) }));

const peak = ({ values }) => values.reduce((most, value) => Math.max(most, value ?? -1), -1);

// The nodes with the highest values, in the order of the answer.
function byNode(answer, figure) {
  const lines = answer.series.filter(({ name }) => name !== "others").map((row) => ({ name: row.name, values: row[figure] })).filter((line) => peak(line) >= 0);
  const highest = lines.toSorted((a, b) => peak(b) - peak(a)).slice(0, MOST_LINES);
  return lines.filter((line) => highest.includes(line));
}

const traffic = { least: 100, format: (value) => rate(value).text };
const whole = { least: 2, format: (value) => integer(Math.round(value * 10) / 10) };

export const CHARTS = {
  traffic: { ...traffic, title: "Traffic, both directions", lines: (answer) => byVersion(answer, (row) => times(sum([row.bytesIn, row.bytesOut]), 1 / answer.step)) },
  connections: { ...whole, title: "Open connections", lines: (answer) => byVersion(answer, (row) => row.connections) },
  directions: {
    ...traffic, title: "Traffic",
    lines: ({ series, step }) => [["from bots", "bytesIn"], ["to bots", "bytesOut"]].map(([name, figure]) => ({ name, values: times(sum(series.map((row) => row[figure])), 1 / step) })),
  },
  players: { ...whole, title: "Players", lines: (answer) => byNode(answer, "players") },
  load: { least: 1, format: percent, title: "Load of the node's machine", lines: (answer) => byNode(answer, "load") },
  responseTime: { least: 1, format: (value) => responseTime(value).text, title: "Response time", lines: (answer) => byNode(answer, "responseTime") },
};

// ---- The section ----

// Puts these charts into `section`. `by` is what the API splits the figures by. `update()` is for each tick: it reads the
// figures where newer ones are due. `redraw()` is for another unit of rates.
export function showHistory(section, by, names) {
  let range = recall("range", RANGES.map(([value]) => value), "1h");
  let due = 0;
  let round = 0;
  let last = null;
  const charts = names.map((name) => ({ ...CHARTS[name], ...chart(CHARTS[name]) }));
  const empty = el("p", { class: "hint" });
  const choice = el("fieldset", { class: "choice", id: "range" }, el("legend", { class: "unseen" }, "Time of the charts"));
  section.append(el("div", { class: "toolbar" }, el("h2", {}, "Over time"), choice, empty), el("div", { class: "charts" }, ...charts.map(({ node }) => node)));

  const redraw = () => {
    if (!last) return;
    for (const { fill, lines } of charts) fill({ start: last.start, step: last.step, lines: lines(last) });
    const isEmpty = last.series.every(({ connections }) => connections.every((value) => value === null));
    empty.textContent = isEmpty ? `Nothing was measured yet: the first value comes when a step of ${{ 10: "10 s", 60: "a minute", 3600: "an hour" }[last.step]} has ended.` : "";
  };
  const update = async () => {
    if (performance.now() < due) return;
    due = Infinity;
    const mine = ++round;
    try {
      const answer = await readJson(`api/history?range=${range}&by=${by}`);
      if (mine !== round) return;
      const step = answer.step * 1000;
      due = performance.now() + step - (answer.now % step) + SPARE;
      last = answer;
      redraw();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (mine === round) due = performance.now() + RETRY;
    }
  };
  fillChoice(choice, RANGES, range, (value) => {
    range = value;
    remember("range", value);
    due = 0;
    update();
  });
  return { update, redraw };
}
