// The page "Data usage": what each client address has used.

import { figureCell, liveCell, numberColumn, rateColumn, sumColumn } from "./columns.js";
import { csv, saveFile } from "./csv.js";
import { byId, el, setFigure, setText } from "./dom.js";
import { bytes, count, duration, fullTime, integer, percent, sortable } from "./format.js";
import { startPage } from "./page.js";
import { DataTable } from "./table.js";
import { RATES_HINT, fillUnitChoice, showTraffic } from "./traffic.js";

const CSV_COLUMNS = ["address", "bytesIn", "bytesOut", "rateIn", "rateOut", "active", "connections", "requests", "lastSeen"];

function createPage() {
  let stats;
  let most;
  const columns = [
    { name: "address", label: "Address", value: (row) => sortable(row.address), cell: figureCell((row) => ({ text: row.address, title: row.address })) },
    { name: "share", label: "Share", hint: "Of all bytes in both directions", value: bothWays, first: "descending", cell: figureCell((row) => ({ text: percent(bothWays(row) / (most.all || 1)) })) },
    { ...numberColumn("bytesIn", "From bots"), cell: barCell((row) => [row.bytesIn, most.in]) },
    { ...numberColumn("bytesOut", "To bots"), cell: barCell((row) => [row.bytesOut, most.out]) },
    rateColumn("rateIn", "In now", RATES_HINT),
    rateColumn("rateOut", "Out now", RATES_HINT),
    { ...numberColumn("active", "Open"), cell: liveCell((row) => row.active, count) },
    sumColumn("connections", "Connections", count, "Since the start, ended ones included"),
    sumColumn("requests", "Requests", count),
    { ...numberColumn("lastSeen", "Last seen"), cell: figureCell((row) => lastSeen(row, stats.now)) },
  ];
  const table = new DataTable({
    name: "data-usage",
    table: byId("table"),
    columns,
    key: (row) => row.address,
    text: (row) => row.address,
    sort: "share descending",
    empty: { one: "address", many: "addresses", draw: noUsage },
  });
  const redraw = () => {
    showTotals(stats);
    table.view();
  };
  fillUnitChoice(() => stats && redraw());
  byId("download").addEventListener("click", () => download(table.shown));

  return {
    paths: ["api/stats", "api/health"],
    show(next) {
      stats = next;
      table.rows = stats.usage;
      most = {
        all: stats.usage.reduce((all, row) => all + bothWays(row), 0),
        in: stats.usage.reduce((top, row) => Math.max(top, row.bytesIn), 0),
        out: stats.usage.reduce((top, row) => Math.max(top, row.bytesOut), 0),
      };
      redraw();
    },
  };
}

function bothWays({ bytesIn, bytesOut }) {
  return bytesIn + bytesOut;
}

function barCell(read) {
  return (td) => {
    const bar = el("span", { class: "fill" });
    const text = el("span");
    td.append(text, el("span", { class: "bar", "aria-hidden": "true" }, bar));
    return (row) => {
      const [value, top] = read(row);
      setFigure(text, bytes(value));
      bar.style.width = `${top ? (100 * value) / top : 0}%`;
    };
  };
}

function lastSeen({ active, lastSeen: time }, now) {
  return { text: active ? "now" : `${duration(now - time)} ago`, title: fullTime(time) };
}

function showTotals({ totals, usage }) {
  setFigure(byId("addresses"), count(usage.length));
  setText(byId("addresses-sub"), `${integer(usage.filter(({ active }) => active).length)} connected`);
  setFigure(byId("connections"), count(totals.connections));
  setText(byId("connections-sub"), `${integer(totals.active)} open now`);
  setFigure(byId("requests"), count(totals.requests));
  showTraffic(totals);
}

function noUsage() {
  return [
    el("h2", {}, "No address has used anything yet"),
    el("p", {}, "Each client address is listed here from its first connection on, also after it has disconnected."),
    el("a", { class: "button primary", href: "./" }, "See how to connect a bot"),
  ];
}

function download(rows) {
  const lines = rows.map((row) => ({ ...row, lastSeen: new Date(row.lastSeen).toISOString() }));
  saveFile(csv(CSV_COLUMNS, lines), `lavaproxy-data-usage-${new Date().toISOString().slice(0, 10)}.csv`);
}

startPage("data-usage", createPage);
