// Sparklines of rates, from the samples of the last minute.

import { svg } from "./dom.js";

const SPAN = 60_000; // what a sparkline shows, in ms
const LEAST = 4_500; // between two samples, in ms: a rate is that of the last five seconds
const FULL_HEIGHT = 200; // the least peak that is drawn at full height, in bytes per second

// The rates of each row. A row has no gaps until it ends, so its last sample belongs to the last time.
export class History {
  times = [];
  samples = new Map();

  // Another start means another process, which numbers its connections anew.
  add({ now, startedAt }, rows) {
    if (startedAt !== this.startedAt) Object.assign(this, { startedAt, times: [], samples: new Map() });
    const isDue = !(now < this.times.at(-1) + LEAST);
    if (isDue) {
      this.times.push(now);
      while (this.times[0] < now - SPAN) this.times.shift();
    }
    const next = new Map();
    for (const { id, rateIn, rateOut } of rows) {
      const known = this.samples.get(id);
      const samples = known ?? { in: [], out: [] };
      next.set(id, samples);
      if (known && !isDue) continue;
      for (const [list, value] of [[samples.in, rateIn], [samples.out, rateOut]]) {
        list.push(value);
        if (list.length > this.times.length) list.splice(0, list.length - this.times.length);
      }
    }
    this.samples = next;
  }

  of(id) {
    return this.samples.get(id) ?? { in: [], out: [] };
  }
}

// One line for each of `directions`, "in" and "out".
export function sparkline(directions) {
  const lines = directions.map((direction) => svg("polyline", { class: direction }));
  const node = svg("svg", { class: "spark", viewBox: "0 0 60 20", preserveAspectRatio: "none", "aria-hidden": "true" }, ...lines);
  const fill = (history, id) => {
    const samples = history.of(id);
    const peak = directions.reduce((most, direction) => Math.max(most, ...samples[direction]), FULL_HEIGHT);
    directions.forEach((direction, index) => {
      const points = outline(history.times, samples[direction], peak);
      // A line that is set anew is laid out and painted anew.
      if (lines[index].getAttribute("points") !== points) lines[index].setAttribute("points", points);
    });
  };
  return { node, fill };
}

function outline(times, values, peak) {
  const offset = times.length - values.length;
  const points = values.map((value, index) => ({
    x: (60 - (times.at(-1) - times[offset + index]) / 1000).toFixed(1),
    y: (19 - (value / peak) * 18).toFixed(1),
  }));
  if (points.length === 1) points.unshift({ ...points[0], x: 58 });
  const isNeeded = ({ y }, index) => y !== points[index - 1]?.y || y !== points[index + 1]?.y;
  return points.filter(isNeeded).map(({ x, y }) => `${x} ${y}`).join(" ");
}
