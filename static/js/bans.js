// The list of bans on the page "Security".

import { figureCell, numberColumn } from "./columns.js";
import { el } from "./dom.js";
import { sortable, time, timeUntil, visible } from "./format.js";

// Who has banned an address.
const BY = { rule: "a rule", page: "this page", api: "the API" };

// `now()` is the last answer of api/security; `ban()` and `lift(row)` open the dialogs.
export function bansView(now, ban, lift) {
  return {
    label: "Bans",
    rows: ({ bans }) => bans,
    note: ({ stateDir }) => (stateDir ? "" : "STATE_DIR is not set: bans end when lavaproxy stops."),
    view: {
      name: "bans",
      columns: [
        { name: "address", label: "Address", value: (row) => sortable(row.address), cell: figureCell((row) => ({ text: row.address, title: row.address })) },
        { name: "reason", label: "Reason", value: (row) => sortable(row.reason), cell: reasonCell },
        { name: "by", label: "By", value: (row) => row.by, cell: figureCell((row) => ({ text: BY[row.by] ?? row.by })) },
        { ...numberColumn("since", "Since"), cell: figureCell((row) => time(row.since)) },
        { name: "until", label: "Ends", value: (row) => row.until ?? Infinity, cell: figureCell((row) => end(row, now().now)) },
        { name: "action", label: "Action", cell: liftCell(lift) },
      ],
      key: (row) => row.address,
      text: (row) => `${row.address} ${row.reason} ${row.by}`,
      sort: "since descending",
      empty: { one: "ban", many: "bans", draw: () => noBans(now(), ban) },
    },
  };
}

const reasonCell = figureCell((row) => ({ text: visible(row.reason) || "–", title: visible(row.reason) }));

function end({ until }, now) {
  return until === null ? { text: "no end", title: "Until it is lifted" } : timeUntil(until, now);
}

const liftCell = (lift) => (td) => {
  let last;
  const button = el("button", { type: "button", class: "small", "aria-haspopup": "dialog", onclick: () => lift(last) }, "Lift");
  td.append(button);
  return (row) => {
    last = row;
    button.setAttribute("aria-label", `Lift the ban of ${row.address}`);
  };
};

function noBans({ limits }, ban) {
  const after = limits.find(({ name }) => name === "BAN_AFTER")?.value;
  const rule = Number(after) ? `An address that sends ${after} wrong passwords within a minute is banned by itself. ` : "";
  return [
    el("h2", {}, "Nobody is banned"),
    el("p", {}, rule, "Ban an address here, or with POST /api/bans."),
    el("button", { type: "button", "aria-haspopup": "dialog", onclick: () => ban() }, "Ban an address"),
  ];
}
