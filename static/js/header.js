// The header that all pages share: their links, the state of the numbers, the controls and the banner.

import { announce } from "./announce.js";
import { TROUBLES } from "./api.js";
import { byId, el, put, setText } from "./dom.js";
import { clockTime } from "./format.js";
import { troubleOf, versionsDown } from "./node-state.js";
import { INTERVALS, prefer, preferences } from "./preferences.js";
import { connectThemeSwitch } from "./theme.js";

const PAGES = [
  ["connections", "./", "Connections"],
  ["data-usage", "data-usage", "Data usage"],
  ["security", "security", "Security"],
  ["health", "health", "Health"],
];

// What the header says in each state of the feed. Where the numbers are old, its banner says why.
const STATES = { connecting: "Connecting", live: "Live", paused: "Paused", late: "Stale", gone: "Gone", locked: "Locked", failing: "Failing" };

const shown = { state: "", asOf: null };

export function drawHeader(page) {
  const links = PAGES.map(([name, href, label]) => {
    const link = el("a", name === page ? { href, "aria-current": "page" } : { href }, label);
    if (name === "health") link.append(el("span", { id: "health-mark", class: "mark" }));
    return link;
  });
  document.body.prepend(
    el("a", { class: "skip", href: "#main" }, "Skip to content"),
    el("header", { class: "top" },
      el("a", { class: "brand", href: "./" },
        el("img", { src: "icon.svg", alt: "", width: "22", height: "22" }), "lavaproxy", el("span", { id: "release", class: "release" })),
      el("nav", { "aria-label": "Pages" }, ...links),
      controls()),
    el("p", { id: "banner", class: "banner", role: "alert" }));
  // The health page has its verdict.
  if (page !== "health") byId("banner").after(el("p", { id: "trouble", class: "banner", role: "status" }));
  document.body.append(el("p", { id: "spoken", class: "unseen", role: "status" }));
}

function controls() {
  const refresh = el("select", { id: "refresh", title: "How often the numbers are refreshed" });
  refresh.append(...INTERVALS.map((seconds) => new Option(`${seconds} s`, seconds, false, seconds === preferences.refresh)));
  const theme = el("button", { type: "button", id: "theme", title: "Dark or light" }, "Dark");
  connectThemeSwitch(theme);
  return el("div", { class: "controls" },
    el("span", { id: "as-of", class: "as-of" }),
    el("span", { id: "state", class: "state" }),
    el("label", { class: "unseen", for: "refresh" }, "Refresh every"),
    refresh,
    el("button", { type: "button", id: "pause", "aria-pressed": "false" }, "Pause"),
    theme);
}

export function connectControls(feed) {
  byId("refresh").addEventListener("change", ({ target }) => {
    prefer("refresh", Number(target.value));
    feed.resume();
  });
  byId("pause").addEventListener("click", ({ currentTarget }) => {
    feed.pause(!feed.paused);
    currentTarget.setAttribute("aria-pressed", String(feed.paused));
  });
}

export function showState(state) {
  if (shown.state === state) return;
  const trouble = TROUBLES[state] ?? "";
  if (TROUBLES[shown.state] && state === "live") announce("The proxy answers again");
  shown.state = state;
  byId("state").className = `state ${state}`;
  put("state", STATES[state]);
  document.body.classList.toggle("stale", trouble !== "");
  const since = shown.asOf ? ` These numbers are from ${clockTime(shown.asOf)}.` : "";
  byId("banner").replaceChildren(...(trouble ? [`${trouble}${since} The page keeps trying and recovers by itself.`] : []));
}

// What the header takes from an answer of /api/health.
export function showSummary({ version, status, nodes }) {
  shown.asOf = new Date();
  put("as-of", clockTime(shown.asOf));
  put("release", version);
  const mark = byId("health-mark");
  mark.className = `mark ${status}`;
  setText(mark, status === "ok" ? "" : status);
  if (byId("trouble")) showTrouble(nodes);
}

// What is wrong with the nodes; worse where a version has none that is up.
function showTrouble(nodes) {
  const trouble = troubleOf(nodes);
  const banner = byId("trouble");
  banner.className = `banner nodes ${versionsDown(nodes).length ? "down" : "degraded"}`;
  if (banner.trouble === trouble) return;
  banner.trouble = trouble;
  banner.replaceChildren(...(trouble ? [`${trouble}. `, el("a", { href: "health" }, "See Health")] : []));
}
