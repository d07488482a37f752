// A bar for each of the last 60 minutes, the present one on the right.

import { svg } from "./dom.js";

const HEIGHT = 20;
const LEAST = 2; // of a minute that is not empty

export function minuteBars() {
  const path = svg("path", {});
  const node = svg("svg", { class: "minutes", viewBox: `0 0 60 ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" }, path);
  const fill = (minutes) => {
    const peak = Math.max(1, ...minutes);
    const bar = (count, minute) => (count ? `M${minute} ${HEIGHT}v-${Math.max(LEAST, (HEIGHT * count) / peak).toFixed(1)}h1V${HEIGHT}z` : "");
    path.setAttribute("d", minutes.map(bar).join(""));
  };
  return { node, fill };
}
