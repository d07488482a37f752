// Copies text, and says so on the button that was pressed.

import { announce } from "./announce.js";
import { el, setText } from "./dom.js";

export async function copyText(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    copyBySelection(text, button);
  }
  announce("Copied");
  const label = (button.label ??= button.textContent);
  setText(button, "Copied");
  clearTimeout(button.timer);
  button.timer = setTimeout(() => setText(button, label), 2000);
}

// Browsers have no clipboard API on pages that come over plain HTTP from another machine.
function copyBySelection(text, button) {
  const area = el("textarea", { class: "unseen", "aria-hidden": "true" });
  area.value = text;
  button.after(area);
  area.select();
  document.execCommand("copy");
  area.remove();
  button.focus();
}
