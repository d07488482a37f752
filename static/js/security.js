// The page "Security": who was refused and why, who is banned, and which limits and accounts there are.

import { accountsView } from "./accounts.js";
import { announce } from "./announce.js";
import { banDialog } from "./ban-dialog.js";
import { bansView } from "./bans.js";
import { fillChoice } from "./choice.js";
import { byId, put } from "./dom.js";
import { integer } from "./format.js";
import { liftDialog } from "./lift-dialog.js";
import { showLimits } from "./limits.js";
import { startPage } from "./page.js";
import { recall, remember } from "./preferences.js";
import { showReasons, showRefusedAddresses } from "./refusals.js";
import { DataTable } from "./table.js";

function createPage(refresh) {
  let last;
  const ban = banDialog(refresh);
  const lift = liftDialog(refresh);
  const lists = { bans: bansView(() => last, ban, lift), accounts: accountsView(() => last) };
  let name = recall("security.list", Object.keys(lists), "bans");

  const table = new DataTable({ table: byId("table"), ...lists[name].view });
  const redraw = () => {
    byId("note").hidden = !lists[name].note(last);
    put("note", lists[name].note(last));
    table.fill(lists[name].rows(last));
  };
  const choose = (chosen) => {
    name = chosen;
    byId("table").className = `data ${name}`;
    put("caption", lists[name].label);
    put("search-label", `Search ${name}`);
    byId("search").placeholder = `Search ${name}`;
  };
  choose(name);
  fillChoice(byId("list"), Object.entries(lists).map(([each, { label }]) => [each, label]), name, (chosen) => {
    remember("security.list", chosen);
    choose(chosen);
    table.use(lists[name].view);
    announce(`List of ${name}`);
    if (last) redraw();
  });
  byId("ban-open").addEventListener("click", () => ban());

  return {
    paths: ["api/security"],
    show(security) {
      last = security;
      showTotals(security);
      showReasons(security.refusals);
      showRefusedAddresses(security, ban);
      showLimits(security.limits);
      redraw();
    },
  };
}

function showTotals({ refusals, bans, dropped, accounts }) {
  put("refused", integer(refusals.reasons.reduce((all, reason) => all + reason.lastHour, 0)));
  put("bans", integer(bans.length));
  put("bans-sub", `${integer(bans.filter(({ by }) => by === "rule").length)} by a rule`);
  put("dropped", integer(dropped));
  put("accounts", integer(accounts.length));
  put("accounts-sub", `${integer(accounts.filter(({ state }) => state === "active").length)} active`);
}

startPage("security", createPage);
