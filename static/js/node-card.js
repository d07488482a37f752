// The card of a node on the health page: its name and state, its error, its facts, and the button that drains it.

import { el, setFigure, setText, updateChildren } from "./dom.js";
import { count, integer, orDash, percent, responseTime, time, visible } from "./format.js";
import { stateOf, stateWords } from "./node-state.js";

export const nodeKey = ({ version, name, address }) => `${version} ${name} ${address}`;

// `act(node)` is called when the reader wants to drain the node or to take it back.
export const nodeCard = (act) => ({ version, name, address }) => {
  let last;
  const pill = el("span");
  const error = el("p");
  const facts = el("dl");
  const button = el("button", { type: "button", "aria-haspopup": "dialog", onclick: () => act(last) });
  const node = el("article", { class: "card" },
    el("h3", {}, el("span", { class: `badge ${version}` }, version), " ", name, " ", pill),
    el("p", { class: "where" }, el("code", {}, address), button),
    error,
    facts);
  const fill = (report) => {
    last = report;
    const state = stateOf(report);
    pill.className = `pill ${state}`;
    setText(pill, stateWords(report));
    setText(button, report.draining ? "Activate" : "Drain");
    button.setAttribute("aria-label", `${report.draining ? "Activate" : "Drain"} ${name}`);
    error.className = `error ${state}`;
    error.hidden = !report.error;
    setText(error, visible(report.error ?? ""));
    updateChildren(facts, factsOf(report), (fact) => fact.name, drawFact);
  };
  return { node, fill };
};

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
