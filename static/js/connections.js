// The page "Connections": the live connections, and how to connect a bot.

import { botCells } from "./bot-cell.js";
import { fillChoice } from "./choice.js";
import { figureCell, numberColumn, rateColumn, sumColumn } from "./columns.js";
import { connectDialog } from "./connect-dialog.js";
import { byId, el, hoverTitle, put, setText, setTitle, textIn } from "./dom.js";
import { bytes, count, duration, integer, momentAs, plural } from "./format.js";
import { showHistory } from "./history.js";
import { STATES, labelOf, stateOf } from "./node-state.js";
import { startPage } from "./page.js";
import { History, sparkline } from "./sparkline.js";
import { DataTable } from "./table.js";
import { RATES_HINT, fillUnitChoice, trafficTiles } from "./traffic.js";

function createPage(refresh, more) {
  const rates = new History();
  const totalRates = new History();
  const sparklines = { in: sparkline(["in"]), out: sparkline(["out"]) };
  for (const direction of ["in", "out"]) document.querySelector(`.tile.${direction}`).append(sparklines[direction].node);
  const showTraffic = trafficTiles();
  const history = showHistory(byId("history"), "version", ["traffic", "connections"]);
  const dialog = connectDialog();
  let last;

  const table = new DataTable({
    name: "connections",
    table: byId("table"),
    ask: (isOther) => (isOther ? refresh() : more()),
    columns: columnsWith(rates),
    key: (row) => row.id,
    sort: "bytesOut descending",
    empty: { one: "connection", many: "connections", draw: () => noConnections(last.stats.totals.connections, dialog) },
  });
  fillFilter(table, "version", [["v3", "v3"], ["v4", "v4"]]);
  fillFilter(table, "kind", [["websocket", "WebSocket"], ["http", "HTTP"]]);

  const redraw = () => {
    showTotals(last.stats, last.health);
    showTraffic(last.stats.totals);
    for (const direction of ["in", "out"]) sparklines[direction].fill(totalRates, 0);
    const { totals, matched, offset, connections, also } = last.stats;
    table.show({ all: totals.active, matched, offset, rows: connections, also });
  };
  fillUnitChoice(() => {
    if (last) redraw();
    history.redraw();
  });

  return {
    get paths() {
      return [`api/stats?${table.query()}`];
    },
    show(stats, health) {
      last = { stats, health };
      rates.add(stats, [...stats.connections, ...(stats.also ?? [])]);
      totalRates.add(stats, [{ id: 0, ...stats.totals }]);
      dialog.update(health);
      redraw();
      history.update();
    },
  };
}

function fillFilter(table, name, options) {
  byId(name).classList.add("filter");
  fillChoice(byId(name), [["", "All"], ...options], "", (value) => table.filter(name, value));
}

// ---- Columns ----

function columnsWith(rates) {
  return [
    { name: "client", label: "Client", value: "client", reads: ["client"], cell: figureCell((row) => ({ text: row.client, title: row.client })) },
    { name: "bot", label: "Bot", value: "clientName", ...botCells },
    { name: "node", label: "Node", value: "node", reads: ["node", "version", "backend", "takeovers", "takingOver"], cell: nodeCell },
    { name: "kind", label: "Kind", value: "kind", reads: ["kind"], cell: figureCell((row) => ({ text: row.kind === "websocket" ? "WebSocket" : "HTTP" })) },
    { ...numberColumn("uptime", "Uptime"), cell: figureCell((row) => momentAs(duration(row.uptime), row.connectedAt)) },
    sumColumn("requests", "Requests", count),
    sumColumn("bytesIn", "In", bytes, "From the bot since it connected"),
    sumColumn("bytesOut", "Out", bytes, "To the bot since it connected"),
    rateColumn("rateIn", "In now", RATES_HINT),
    rateColumn("rateOut", "Out now", RATES_HINT),
    { name: "minute", label: "Last 60 s", cell: (td) => sparklineCell(td, rates) },
  ];
}

const nodeLabel = ({ node, version, backend }) => (node ? labelOf({ name: node, version, address: backend }) : "");

function nodeCell(td) {
  const [version, label, takeovers] = [el("span"), el("span"), el("span")];
  td.append(version, " ", label, takeovers);
  const [showVersion, showLabel, showTakeovers] = [version, label, takeovers].map(textIn);
  const takeTitle = hoverTitle(td, nodeTitle);
  return (row) => {
    version.className = row.version ? `badge ${row.version}` : "idle";
    showVersion(row.version ?? "none yet");
    label.className = row.node === row.version ? "address" : "name";
    showLabel(nodeLabel(row));
    takeovers.className = row.takingOver ? "down" : "idle";
    showTakeovers(takeoversMark(row));
    setTitle(takeovers, takeoversTitle(row));
    takeTitle(row);
  };
}

function takeoversMark({ takingOver, takeovers }) {
  if (takingOver) return " is lost";
  return takeovers ? ` \u21bb${integer(takeovers)}` : "";
}

const nodeTitle = (row) => [row.node && `${row.node} at ${row.backend}`, takeoversTitle(row)].filter(Boolean).join("; ");

function takeoversTitle({ takingOver, takeovers }) {
  if (takingOver) return "it is lost, and a node that takes over is sought";
  return takeovers ? `taken over ${plural(takeovers, "time")}` : "";
}

function sparklineCell(td, rates) {
  const { node, fill } = sparkline(["in", "out"]);
  td.append(node);
  return (row) => fill(rates, row.id);
}

// ---- Totals ----

function showTotals({ totals }, { limit, nodes }) {
  put("active", integer(totals.active));
  put("active-sub", `limit ${integer(limit.connections)}`);
  setTitle(byId("active-sub"), limit.rule);
  put("websockets", integer(totals.websockets));
  put("websockets-sub", `${integer(totals.active - totals.websockets)} plain HTTP`);
  put("requests", integer(totals.requests));
  put("requests-sub", plural(totals.connections, "connection"));
  for (const version of ["v3", "v4"]) {
    put(version, integer(totals.versions[version]));
    showNodes(byId(`${version}-sub`), nodes.filter((node) => node.version === version));
  }
}

// The worst state among these nodes, and how many are in it.
function showNodes(sub, nodes) {
  const worst = STATES.find((state) => nodes.some((node) => stateOf(node) === state)) ?? "";
  const concerned = nodes.filter((node) => stateOf(node) === worst).length;
  const word = { "": "no node set", unknown: "not known yet" }[worst] ?? (nodes.length > 1 ? `${nodes.length} nodes ${worst}` : `node ${worst}`);
  sub.className = `sub ${worst}`;
  setText(sub, concerned < nodes.length ? `${concerned} of ${nodes.length} ${worst}` : word);
}

function noConnections(ended, dialog) {
  return [
    el("h2", {}, ended ? "No connection at the moment" : "No bot has connected yet"),
    el("p", {}, ended ? `${plural(ended, "connection")} ended since the start. ` : "",
      "Point a bot's Lavalink settings at ", el("code", {}, dialog.address()), " and it appears here within seconds."),
    el("button", { type: "button", class: "primary", onclick: dialog.open }, "Show settings for my bot"),
  ];
}

startPage("connections", createPage);
