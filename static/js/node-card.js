// The card of a node on the health page: its name and state, its error, its facts.

import { el, setFigure, setText, updateChildren } from "./dom.js";
import { count, integer, orDash, responseTime, time, visible } from "./format.js";
import { STATE_WORDS, stateOf } from "./node-state.js";

export const nodeKey = ({ version, address }) => `${version} ${address}`;

export function drawNodeCard({ version, address }) {
  const pill = el("span");
  const error = el("p");
  const facts = el("dl");
  const node = el("article", { class: "card" },
    el("h3", {}, el("span", { class: `badge ${version}` }, version), " ", el("code", {}, address), pill),
    error,
    facts);
  const fill = (report) => {
    const state = stateOf(report);
    pill.className = `pill ${state}`;
    setText(pill, STATE_WORDS[state]);
    error.className = `error ${state}`;
    error.hidden = !report.error;
    setText(error, visible(report.error ?? ""));
    updateChildren(facts, factsOf(report), ({ name }) => name, drawFact);
  };
  return { node, fill };
}

// Every fact is a name and a figure; a new one needs a line here and nothing else.
function factsOf(report) {
  return [
    { name: "Response time", ...orDash(report.responseTime, responseTime) },
    { name: "Lavalink", ...orDash(report.lavalinkVersion, (version) => ({ text: visible(version) })) },
    { name: "Players", ...orDash(report.players, (players) => playersFigure(players, report.playingPlayers)) },
    { name: report.reachable === false ? "Down since" : "Up since", ...orDash(report.since, time) },
    { name: "Last checked", ...orDash(report.checkedAt, time) },
  ];
}

function playersFigure(players, playing) {
  return playing === null ? count(players) : { text: `${integer(players)}, ${integer(playing)} playing` };
}

function drawFact({ name }) {
  const value = el("dd");
  return { node: el("div", {}, el("dt", {}, name), value), fill: (fact) => setFigure(value, fact) };
}
