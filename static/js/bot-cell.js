// The cells that show which bot a row is about.

import { el, hoverTitle, textIn } from "./dom.js";
import { productName, visible } from "./format.js";

// The client's name without its comment, and the user's id below it; the title has all that the client said of itself.
function botCell(td) {
  const [name, user] = [el("bdi", { class: "name" }), el("bdi", { class: "user" })];
  td.append(name, " ", user);
  const [showName, showUser] = [name, user].map(textIn);
  const takeTitle = hoverTitle(td, fullName);
  return (row) => {
    const { clientName, userAgent, userId } = row;
    const shownName = clientName || userAgent || (userId ? "" : "unnamed");
    showName(visible(productName(shownName)));
    name.classList.toggle("idle", !clientName);
    name.hidden = !shownName;
    showUser(visible(userId));
    user.hidden = !userId;
    takeTitle(row);
  };
}

const fullName = ({ clientName, userAgent, userId }) => [clientName, userId && `user ${userId}`, userAgent].filter(Boolean).map(visible).join("\n");

export const botCells = { reads: ["clientName", "userAgent", "userId"], cell: botCell };
