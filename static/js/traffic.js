// The totals of bytes and rates, and the switch of the rates' unit.

import { fillChoice } from "./choice.js";
import { byId, figureIn } from "./dom.js";
import { bytes, rate } from "./format.js";
import { prefer, preferences } from "./preferences.js";

export const RATES_HINT = "Over the last five seconds";

// Returns the function that shows the traffic of the totals.
export function trafficTiles() {
  const [showIn, showOut, showRateIn, showRateOut] = ["bytes-in", "bytes-out", "rate-in", "rate-out"].map((id) => figureIn(byId(id)));
  return ({ bytesIn, bytesOut, rateIn, rateOut }) => {
    showIn(bytes(bytesIn));
    showOut(bytes(bytesOut));
    showRateIn(rate(rateIn));
    showRateOut(rate(rateOut));
  };
}

export function fillUnitChoice(redraw) {
  fillChoice(byId("unit"), [["bytes", "bytes/s"], ["bits", "bits/s"]], preferences.unit, (unit) => {
    prefer("unit", unit);
    redraw();
  });
}
