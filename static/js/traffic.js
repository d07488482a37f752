// The totals of bytes and rates, and the switch of the rates' unit.

import { fillChoice } from "./choice.js";
import { byId, setFigure } from "./dom.js";
import { bytes, rate } from "./format.js";
import { prefer, preferences } from "./preferences.js";

export const RATES_HINT = "Over the last five seconds";

export function showTraffic({ bytesIn, bytesOut, rateIn, rateOut }) {
  setFigure(byId("bytes-in"), bytes(bytesIn));
  setFigure(byId("bytes-out"), bytes(bytesOut));
  setFigure(byId("rate-in"), rate(rateIn));
  setFigure(byId("rate-out"), rate(rateOut));
}

export function fillUnitChoice(redraw) {
  fillChoice(byId("unit"), [["bytes", "bytes/s"], ["bits", "bits/s"]], preferences.unit, (unit) => {
    prefer("unit", unit);
    redraw();
  });
}
