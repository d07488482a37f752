// The panels of the page "Security" about refusals: their reasons, and the addresses that were refused most.

import { el, hoverTitle, setText } from "./dom.js";
import { END_REASONS } from "./end-reasons.js";
import { fullTime, integer } from "./format.js";
import { minuteBars } from "./minute-bars.js";
import { showTable } from "./panel.js";

export function showReasons({ reasons }) {
  const rows = reasons.filter((reason) => reason.lastHour > 0).sort((a, b) => b.lastHour - a.lastHour);
  showTable("reasons", rows, ({ reason }) => reason, drawReason, "Nobody was refused in the last hour.");
}

function drawReason({ reason }) {
  const times = el("td", { class: "number" });
  const bars = minuteBars();
  const meaning = el("span", { class: "meaning" }, END_REASONS[reason] ?? "");
  const head = el("th", { scope: "row" }, el("code", {}, reason), " ", meaning);
  const fill = (row) => {
    setText(times, integer(row.lastHour));
    bars.fill(row.minutes);
  };
  return { node: el("tr", {}, head, el("td", { class: "bars" }, bars.node), times), fill };
}

// `ban(address)` opens the dialog that bans one.
export function showRefusedAddresses({ refusals, bans }, ban) {
  const banned = new Set(bans.map(({ address }) => address));
  const rows = refusals.addresses.map((row) => ({ ...row, banned: banned.has(row.address) }));
  showTable("addresses", rows, ({ address }) => address, drawAddress(ban), "No address was refused in the last hour.");
}

const drawAddress = (ban) => ({ address }) => {
  const times = el("td", { class: "number" });
  const meaning = el("span", { class: "meaning" });
  const button = el("button", { type: "button", class: "small", "aria-haspopup": "dialog", "aria-label": `Ban ${address}`, onclick: () => ban(address) }, "Ban");
  const pill = el("span", { class: "pill down" }, "banned");
  const exempt = el("span", { class: "meaning", title: "Loopback and trusted fronts are never banned" }, "exempt");
  const head = el("th", { scope: "row" }, el("code", {}, address), " ", meaning);
  const takeTitle = hoverTitle(head, ({ lastSeen }) => `last at ${fullTime(lastSeen)}`);
  const fill = (row) => {
    setText(times, integer(row.lastHour));
    setText(meaning, END_REASONS[row.reason] ?? row.reason);
    takeTitle(row);
    button.hidden = row.banned || !row.bannable;
    pill.hidden = !row.banned;
    exempt.hidden = row.banned || row.bannable;
  };
  return { node: el("tr", {}, head, times, el("td", { class: "number act" }, button, pill, exempt)), fill };
};
