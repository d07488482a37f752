// The page "Health": the state of the nodes and of lavaproxy itself.

import { announce } from "./announce.js";
import { ApiError, post } from "./api.js";
import { byId, el, put, setFigure, setText, setTitle, updateChildren } from "./dom.js";
import { drainDialog } from "./drain-dialog.js";
import { END_REASONS, NORMAL_ENDS } from "./end-reasons.js";
import { bytes, count, duration, fullTime, integer, orDash, percent, time } from "./format.js";
import { showState } from "./header.js";
import { showHistory } from "./history.js";
import { nodeCard, nodeKey } from "./node-card.js";
import { list, stateOf, troubleOf } from "./node-state.js";
import { startPage } from "./page.js";

const nameOf = ({ name }) => name;

let nodes = [];
const openDialog = drainDialog(show);
const drawNode = nodeCard((action, node) => openDialog(action, node, nodes));

const history = showHistory(byId("history"), "node", ["players", "load", "responseTime"]);

function createPage() {
  byId("check").addEventListener("click", ({ currentTarget }) => checkNow(currentTarget));
  return { paths: [], show };
}

function show(health) {
  const moves = health.settings.some(({ name, value }) => name === "SESSION_TAKEOVER" && value === "on");
  nodes = health.nodes.map((node) => ({ ...node, movable: moves && hasOther(node, health.nodes) }));
  showVerdict(health);
  updateChildren(byId("nodes"), nodes, nodeKey, drawNode);
  updateChildren(byId("process"), processFigures(health), nameOf, drawTile);
  showEnded(health.ended);
  updateChildren(byId("listeners"), health.listeners, nameOf, drawListener);
  updateChildren(byId("settings"), health.settings, nameOf, drawSetting);
  history.update();
}

const hasOther = ({ name, version }, all) => all.some((other) => other.version === version && other.name !== name);

async function checkNow(button) {
  button.disabled = true;
  setText(button, "Checking");
  try {
    const health = await post("api/health/check");
    show(health);
    announce(`Checked: ${health.status}`);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    announce("The check failed");
    showState(error.state);
  } finally {
    button.disabled = false;
    setText(button, "Check now");
    button.focus();
  }
}

// ---- The verdict ----

const VERDICTS = { ok: "Everything works", degraded: "Degraded", down: "Down" };

function showVerdict({ status, uptime }) {
  byId("verdict").className = `verdict ${status}`;
  put("verdict-word", VERDICTS[status] ?? status);
  put("verdict-why", reasonFor(uptime));
}

function reasonFor(uptime) {
  const trouble = troubleOf(nodes);
  if (trouble) return `${trouble}.`;
  if (nodes.some((node) => stateOf(node) === "unknown")) return "Some nodes were not checked yet.";
  const draining = nodes.filter((node) => node.draining);
  const drains = draining.length ? `, ${list(draining)} ${draining.length > 1 ? "are" : "is"} draining` : "";
  return `All nodes answer${drains}; the proxy is up for ${duration(uptime)}.`;
}

// ---- The process ----

function processFigures({ uptime, startedAt, process, limit, version }) {
  const { memory, threads, descriptors, descriptorLimit, cpu, cpuSeconds, pid } = process;
  return [
    { name: "Uptime", text: duration(uptime), sub: `since ${time(startedAt).text}`, title: fullTime(startedAt) },
    { name: "Version", text: version, sub: `process ${pid}` },
    { name: "Memory", ...orDash(memory, bytes), sub: "resident" },
    { name: "CPU", ...orDash(cpu, (part) => ({ text: percent(part), title: `${duration(cpuSeconds * 1000)} since the start` })), sub: "of one core" },
    { name: "Threads", ...orDash(threads, count), sub: "two per WebSocket" },
    { name: "Descriptors", ...orDash(descriptors, count), sub: `of ${orDash(descriptorLimit, count).text}`, part: descriptorLimit ? descriptors / descriptorLimit : 0 },
    { name: "Connections at most", ...count(limit.connections), sub: limit.rule },
  ];
}

function drawTile({ name, part }) {
  const [value, sub, bar] = [el("dd"), el("dd", { class: "sub" }), el("span", { class: "fill" })];
  const node = el("div", { class: "tile" }, el("dt", {}, name), value, sub);
  if (part !== undefined) node.append(el("dd", { class: "bar", "aria-hidden": "true" }, bar));
  const fill = (figure) => {
    setFigure(value, figure);
    setText(sub, figure.sub);
    setTitle(sub, figure.sub);
    bar.style.width = `${Math.min(100, 100 * (figure.part ?? 0))}%`;
    bar.classList.toggle("high", figure.part > 0.8);
  };
  return { node, fill };
}

// ---- The tables below ----

function showEnded(ended) {
  const reasons = Object.entries(ended).filter(([, times]) => times > 0).sort(([, a], [, b]) => b - a);
  byId("ended-empty").hidden = reasons.length > 0;
  byId("ended").parentElement.hidden = !reasons.length;
  updateChildren(byId("ended"), reasons.map(([name, times]) => ({ name, times })), nameOf, drawReason);
}

function drawReason({ name }) {
  const times = el("td", { class: "number" });
  const meaning = el("span", { class: "meaning" }, END_REASONS[name] ?? "");
  const node = el("tr", { class: NORMAL_ENDS.includes(name) ? "" : "trouble" }, el("th", { scope: "row" }, el("code", {}, name), " ", meaning), times);
  return { node, fill: (reason) => setText(times, integer(reason.times)) };
}

function drawListener({ name, version }) {
  const address = el("code");
  const purpose = name === "web" ? "these pages and the API" : version ? `bots, Lavalink ${version} by default` : "bots";
  const node = el("tr", {}, el("th", { scope: "row" }, el("code", {}, name), " ", el("span", { class: "meaning" }, purpose)), el("td", {}, address));
  return { node, fill: (listener) => setText(address, listener.address) };
}

function drawSetting({ name }) {
  const value = el("code");
  return { node: el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, value)), fill: (setting) => setText(value, String(setting.value ?? "") || "–") };
}

startPage("health", createPage, 0);
