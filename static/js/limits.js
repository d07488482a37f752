// The panel of the page "Security" that shows the limits in force, and the settings that they come from.

import { el, setText } from "./dom.js";
import { integer } from "./format.js";
import { showTable } from "./panel.js";

const MEANINGS = {
  MAX_CONNECTIONS: "open connections in all",
  MAX_CONNECTIONS_PER_ADDRESS: "open connections of one address",
  CONNECTION_RATE: "new connections of one address",
  REQUEST_RATE: "requests of one address",
  BAN_AFTER: "wrong passwords within a minute, then a ban",
  ALLOWED_ADDRESSES: "nobody else may connect",
  BLOCKED_ADDRESSES: "refused without an end",
  TRUSTED_PROXIES: "fronts: no limit, no ban",
};

export function showLimits(limits) {
  showTable("limits", limits, ({ name }) => name, drawLimit, "There is no limit.");
}

function drawLimit({ name }) {
  const [value, meaning] = [el("td", { class: "number wide" }), el("span", { class: "meaning" })];
  const fill = (limit) => {
    setText(value, /^\d+$/.test(limit.value) ? integer(Number(limit.value)) : limit.value);
    setText(meaning, [MEANINGS[name], limit.why].filter(Boolean).join("; "));
  };
  return { node: el("tr", {}, el("th", { scope: "row" }, el("code", {}, name), " ", meaning), value), fill };
}
