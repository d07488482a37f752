// The card of a node on the health page: its name and state, its error, what has become of its sessions, its facts, and
// the buttons that drain it and move its sessions.

import { el, setFigure, setText, updateChildren } from "./dom.js";
import { count, integer, orDash, percent, plural, responseTime, time, visible } from "./format.js";
import { stateOf, stateWords } from "./node-state.js";

export const nodeKey = ({ version, name, address }) => `${version} ${name} ${address}`;

// `act(action, node)` is called when the reader wants to "drain" the node, to "activate" it, to "move" its sessions, or
// to "stop" their moves. A node is `movable` if its sessions may move.
export const nodeCard = (act) => ({ version, name, address }) => {
  let last;
  const pill = el("span");
  const error = el("p");
  const facts = el("dl");
  const moves = el("p", { class: "hint" });
  const takeovers = el("p", { class: "hint" });
  const drain = el("button", { type: "button", "aria-haspopup": "dialog", onclick: () => act(last.draining ? "activate" : "drain", last) });
  const move = el("button", { type: "button", "aria-haspopup": "dialog", onclick: () => act(last.moving ? "stop" : "move", last) });
  const node = el("article", { class: "card" },
    el("h3", {}, el("span", { class: `badge ${version}` }, version), " ", name, " ", pill),
    el("p", { class: "where" }, el("code", {}, address), el("span", { class: "acts" }, drain, " ", move)),
    error,
    moves,
    takeovers,
    facts);
  const fill = (report) => {
    last = report;
    const state = stateOf(report);
    pill.className = `pill ${state}`;
    setText(pill, stateWords(report));
    const [word, moveWords] = report.draining ? ["Activate", "Move sessions"] : ["Drain", "Drain and move sessions"];
    label(drain, word, `${word} ${name}`);
    label(move, report.moving ? "Stop moving" : moveWords, report.moving ? `Stop moving sessions of ${name}` : `${moveWords} of ${name}`);
    move.hidden = !report.movable;
    moves.className = report.movesWaiting ? "error" : "hint";
    show(moves, movesText(report));
    show(takeovers, takeoversText(report));
    error.className = `error ${state}`;
    error.hidden = !report.error;
    setText(error, visible(report.error ?? ""));
    updateChildren(facts, factsOf(report), (fact) => fact.name, drawFact);
  };
  return { node, fill };
};

function label(button, text, long) {
  setText(button, text);
  button.setAttribute("aria-label", long);
}

function show(line, text) {
  line.hidden = !text;
  setText(line, text);
}

// How far the moves are; of those that have ended as long as the node drains.
function movesText({ draining, moving, movesWaiting, moved, sessions, movesFailed }) {
  if (!moving && !(draining && moved + movesFailed)) return "";
  const figures = `moved ${integer(moved)}, ${integer(sessions)} left, ${integer(movesFailed)} failed`;
  if (!moving) return `Moves ended: ${figures}.`;
  return movesWaiting ? `No other node is in rotation, so the moves wait: ${figures}.` : `Moving sessions: ${figures}.`;
}

function takeoversText({ takeovers: { underWay, taken, failed, players } }) {
  const parts = [];
  if (underWay) parts.push(`${plural(underWay, "session")} waiting for a node`);
  if (taken) parts.push(`${integer(taken)} taken over with ${plural(players, "player")}`);
  if (failed) parts.push(`${integer(failed)} failed`);
  return parts.length ? `Takeovers: ${parts.join(", ")}.` : "";
}

// Every fact is a name and a figure; a new one needs a line here and nothing else.
function factsOf(report) {
  return [
    { name: "Since", ...orDash(report.since, time) },
    { name: "Response", ...orDash(report.responseTime, responseTime) },
    { name: "Lavalink", ...orDash(report.lavalinkVersion, (version) => ({ text: visible(version) })) },
    { name: "Playing", ...orDash(report.players, (players) => playersFigure(players, report.playingPlayers)) },
    { name: "Load", ...orDash(report.systemLoad, loadFigure) },
    { name: "Sessions", ...count(report.sessions), title: "Opened through this proxy" },
    { name: "Requests", ...count(report.requests), title: "Under way at this moment" },
    { name: "Loads retried", ...count(report.loadsRetried), title: "Loads that failed here and were tried on another node" },
  ];
}

function playersFigure(players, playing) {
  return { text: `${integer(playing)} of ${integer(players)}`, title: `${integer(playing)} of ${integer(players)} players play` };
}

const loadFigure = (load) => ({ text: percent(load), title: "Of the processors of the node's machine" });

function drawFact({ name }) {
  const value = el("dd");
  return { node: el("div", {}, el("dt", {}, name), value), fill: (fact) => setFigure(value, fact) };
}
