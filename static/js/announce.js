// Speaks to screen readers through a region with role=status, which header.js and each dialog have.

import { byId, setText } from "./dom.js";

// Only for the result of an action: new numbers are never announced.
export function announce(text) {
  setText(document.querySelector("dialog[open] [role=status]") ?? byId("spoken"), text);
}
