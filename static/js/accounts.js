// The list of accounts on the page "Security". Their passwords are in no answer of the API.

import { ACCOUNT_STATES } from "./account-cell.js";
import { figureCell, lastSeenColumn, numberColumn } from "./columns.js";
import { el, setText, setTitle } from "./dom.js";
import { count, date, integer, sortable } from "./format.js";

const PILLS = { active: "up", expired: "faulty", disabled: "idle" };

// `now()` is the last answer of api/security.
export function accountsView(now) {
  return {
    label: "Accounts",
    rows: ({ accounts }) => accounts,
    note: ({ accountsFile }) =>
      accountsFile ? "" : "ACCOUNTS_FILE is not set: every bot uses PROXY_PASSWORD, which is the account default.",
    view: {
      name: "accounts",
      columns: [
        { name: "account", label: "Account", value: (row) => sortable(row.account), cell: figureCell((row) => ({ text: row.account, title: row.account })) },
        { name: "status", label: "State", value: (row) => row.state, cell: stateCell },
        { name: "versions", label: "Lavalink", value: (row) => row.versions.join(), cell: figureCell((row) => ({ text: row.versions.join(", ") })) },
        { ...numberColumn("active", "Open"), hint: "Connections that are open now, and how many may be", cell: figureCell(openFigure) },
        { name: "perSecond", label: "Requests", hint: "The most requests in a second", value: (row) => row.limits.requestsPerSecond ?? Infinity, first: "descending", cell: figureCell(rateFigure) },
        { name: "expires", label: "Expires", value: (row) => row.expires ?? Infinity, cell: figureCell((row) => (row.expires === null ? { text: "never" } : date(row.expires))) },
        lastSeenColumn(() => now().now),
      ],
      key: (row) => row.account,
      text: (row) => `${row.account} ${row.state}`,
      sort: "account ascending",
      empty: { one: "account", many: "accounts", draw: () => [el("h2", {}, "There is no account")] },
    },
  };
}

function stateCell(td) {
  const pill = el("span");
  td.append(pill);
  return ({ state }) => {
    pill.className = `pill ${PILLS[state] ?? "idle"}`;
    setText(pill, state);
    setTitle(td, ACCOUNT_STATES[state] ?? "");
  };
}

function openFigure({ active, limits }) {
  if (limits.connections === null) return count(active);
  const text = `${integer(active)} of ${integer(limits.connections)}`;
  return { text, title: `${text} connections` };
}

const rateFigure = ({ limits }) => (limits.requestsPerSecond === null ? { text: "no limit" } : { text: `${integer(limits.requestsPerSecond)}/s` });
