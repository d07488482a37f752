// What the page "Data usage" can be split by: the columns that name a row, and the words.

import { accountCell } from "./account-cell.js";
import { botCells } from "./bot-cell.js";
import { figureCell } from "./columns.js";

// `path` is where the rows are, and `list` their name in the answer. `sortedAs` is what the order is remembered under.
export const VIEWS = {
  address: {
    path: "api/data-usage", list: "usage", label: "Address", title: "Addresses", one: "address", many: "addresses", sortedAs: "data-usage", file: "data-usage",
    columns: [{ name: "address", label: "Address", value: "address", reads: ["address"], cell: figureCell((row) => ({ text: row.address, title: row.address })) }],
    key: (row) => row.address,
    csvColumns: ["address"],
    empty: { title: "No address has used anything yet", hint: "Each client address is listed here from its first connection on, also after it has disconnected." },
  },
  bot: {
    path: "api/bots", list: "bots", label: "Bot", title: "Bots", one: "bot", many: "bots", sortedAs: "data-usage.bot", file: "data-usage-by-bot",
    columns: [{ name: "bot", label: "Bot", value: "clientName", ...botCells }],
    key: (row) => row.userId,
    csvColumns: ["userId", "clientName"],
    empty: { title: "No bot has named itself yet", hint: "Each bot is listed here from its first request with a User-Id on, also after it has disconnected." },
  },
  account: {
    path: "api/accounts", list: "accounts", label: "Account", title: "Accounts", one: "account", many: "accounts", sortedAs: "data-usage.account", file: "data-usage-by-account",
    columns: [{ name: "account", label: "Account", value: "account", reads: ["account", "state"], cell: accountCell }],
    key: (row) => row.account,
    csvColumns: ["account", "state"],
    empty: { title: "There is no account", hint: "PROXY_PASSWORD is the account default; ACCOUNTS_FILE names others." },
  },
};
