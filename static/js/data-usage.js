// The page "Data usage": what each client address, each bot or each account has used.

import { announce } from "./announce.js";
import { ApiError, readJson } from "./api.js";
import { fillChoice } from "./choice.js";
import { figureCell, lastSeenColumn, liveCell, numberColumn, rateColumn, sumColumn } from "./columns.js";
import { csv, saveFile } from "./csv.js";
import { byId, el, figureIn, put } from "./dom.js";
import { bytes, count, integer, percent } from "./format.js";
import { showHistory } from "./history.js";
import { startPage } from "./page.js";
import { recall, remember } from "./preferences.js";
import { DataTable } from "./table.js";
import { RATES_HINT, fillUnitChoice, trafficTiles } from "./traffic.js";
import { VIEWS } from "./usage-views.js";

const CSV_FIGURES = ["bytesIn", "bytesOut", "rateIn", "rateOut", "active", "connections", "requests", "lastSeen"];

function createPage(refresh, more) {
  const names = Object.keys(VIEWS);
  let name = recall("usage.by", names, names[0]);
  let stats;
  let usage;
  const figures = [
    { name: "share", label: "Share", hint: "Of all bytes in both directions", value: "bytes", first: "descending", cell: figureCell((row) => ({ text: percent(bothWays(row) / (bothWays(usage.all) || 1)) })) },
    { ...numberColumn("bytesIn", "From bots"), cell: barCell((row) => [row.bytesIn, usage.all.mostBytesIn]) },
    { ...numberColumn("bytesOut", "To bots"), cell: barCell((row) => [row.bytesOut, usage.all.mostBytesOut]) },
    rateColumn("rateIn", "In now", RATES_HINT),
    rateColumn("rateOut", "Out now", RATES_HINT),
    { ...numberColumn("active", "Open"), cell: liveCell((row) => row.active, count) },
    sumColumn("connections", "Connections", count, "Since the figures began, ended ones included"),
    sumColumn("requests", "Requests", count),
    lastSeenColumn(() => stats.now),
  ];
  const views = Object.fromEntries(Object.entries(VIEWS).map(([by, { columns, one, many, key, empty, sortedAs }]) =>
    [by, { name: sortedAs, columns: [...columns, ...figures], key, sort: "share descending", empty: { one, many, draw: () => noUsage(empty) } }]));

  const showTraffic = trafficTiles();
  const history = showHistory(byId("history"), "version", ["directions"]);
  const table = new DataTable({ table: byId("table"), ask: (isOther) => (isOther ? refresh() : more()), ...views[name] });
  const choose = (by) => {
    const { title, many } = VIEWS[by];
    name = by;
    put("rows-label", title);
    put("caption", `Data usage by ${by}`);
    put("search-label", `Search ${many}`);
    byId("search").placeholder = `Search ${many}`;
  };
  choose(name);
  fillChoice(byId("by"), Object.entries(VIEWS).map(([by, { label }]) => [by, label]), name, (by) => {
    remember("usage.by", by);
    choose(by);
    usage = undefined;
    table.use(views[by]);
    announce(`Data usage by ${by}`);
    refresh();
  });
  const redraw = () => {
    const { matched, offset, all, also } = usage;
    table.show({ all: all.rows, matched, offset, rows: usage[VIEWS[name].list], also });
    showTotals(stats, all);
    showTraffic(stats.totals);
  };
  fillUnitChoice(() => {
    if (usage) redraw();
    history.redraw();
  });
  byId("download").addEventListener("click", () => download(name, table.queryForAll()));

  return {
    get paths() {
      return ["api/stats?limit=0", `${VIEWS[name].path}?${table.query()}`];
    },
    show(...answers) {
      [stats, usage] = answers;
      redraw();
      history.update();
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
    const show = figureIn(td, text);
    return (row) => {
      const [value, top] = read(row);
      show(bytes(value));
      bar.style.width = `${top ? (100 * value) / top : 0}%`;
    };
  };
}

function showTotals({ totals }, all) {
  put("rows", integer(all.rows));
  put("rows-sub", `${integer(all.connected)} connected`);
  put("connections", integer(totals.connections));
  put("connections-sub", `${integer(totals.active)} open now`);
  put("requests", integer(totals.requests));
}

function noUsage({ title, hint }) {
  return [
    el("h2", {}, title),
    el("p", {}, hint),
    el("a", { class: "button primary", href: "./" }, "See how to connect a bot"),
  ];
}

async function download(name, query) {
  const { path, list, csvColumns, file } = VIEWS[name];
  let answer;
  try {
    answer = await readJson(`${path}?${query}`);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    put("count", error.message);
    return;
  }
  const lines = answer[list].map((row) => ({ ...row, lastSeen: row.lastSeen ? new Date(row.lastSeen).toISOString() : "" }));
  saveFile(csv([...csvColumns, ...CSV_FIGURES], lines), `lavaproxy-${file}-${new Date().toISOString().slice(0, 10)}.csv`);
}

startPage("data-usage", createPage);
