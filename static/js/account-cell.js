// The cell that shows which account a row is about.

import { el, hoverTitle, setText } from "./dom.js";

// What can be said of an account beside its name; an active one needs no word.
export const ACCOUNT_STATES = {
  active: "its password is accepted",
  expired: "refused: the time of expires has passed",
  disabled: "refused: enabled is false",
  removed: "no longer in ACCOUNTS_FILE",
};

export function accountCell(td) {
  const [name, state] = [el("span", { class: "name" }), el("span", { class: "user" })];
  td.append(name, " ", state);
  const takeTitle = hoverTitle(td, ({ account, state }) => `${account}: ${ACCOUNT_STATES[state] ?? state}`);
  return (row) => {
    setText(name, row.account);
    setText(state, row.state === "active" ? "" : row.state);
    takeTitle(row);
  };
}
