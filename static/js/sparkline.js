// Sparklines of rates, from the samples of the last minute.

import { svg } from "./dom.js";

const SPAN = 60_000; // what a sparkline shows, in ms
const LEAST = 4_500; // between two samples, in ms: a rate is that of the last five seconds
const [WIDTH, HEIGHT, EDGE] = [72, 22, 1]; // of the drawing, in px: one that is scaled costs the browser more
const FULL_HEIGHT = 200; // the least peak that is drawn at full height, in bytes per second

// The rates of each row. A row has no gaps until it ends, so its last sample belongs to the last time.
export class History {
  times = [];
  places = []; // of the times in the drawing
  samples = new Map();

  // Another start means another process, which numbers its connections anew. A clock may go back.
  add({ now, startedAt }, rows) {
    if (startedAt !== this.startedAt || now < this.times[0]) Object.assign(this, { startedAt, times: [], samples: new Map() });
    const isDue = !(now < this.times.at(-1) + LEAST);
    if (isDue) {
      this.times.push(now);
      while (this.times[0] < now - SPAN) this.times.shift();
      this.places = this.times.map((time) => tenths(WIDTH - ((now - time) / SPAN) * WIDTH));
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
  const node = svg("svg", { class: "spark", width: WIDTH, height: HEIGHT, "aria-hidden": "true" }, ...lines);
  const drawn = [];
  const fill = (history, id) => {
    const samples = history.of(id);
    const peak = directions.reduce((most, direction) => Math.max(most, ...samples[direction]), FULL_HEIGHT);
    directions.forEach((direction, index) => {
      const points = outline(history.places, samples[direction], peak);
      // A line that is set anew is laid out and painted anew.
      if (drawn[index] !== points) lines[index].setAttribute("points", (drawn[index] = points));
    });
  };
  return { node, fill };
}

const tenths = (value) => Math.round(value * 10) / 10;

function outline(places, values, peak) {
  const offset = places.length - values.length;
  const heightAt = (index) => tenths(HEIGHT - EDGE - (values[index] / peak) * (HEIGHT - 2 * EDGE));
  if (values.length === 1) return `${WIDTH - 3} ${heightAt(0)} ${WIDTH} ${heightAt(0)}`;
  let points = "";
  let last;
  let y = heightAt(0);
  for (let index = 0; index < values.length; index++) {
    const next = heightAt(index + 1); // NaN after the last one
    if (y !== last || y !== next) points += `${places[offset + index]} ${y} `;
    last = y;
    y = next;
  }
  return points;
}
