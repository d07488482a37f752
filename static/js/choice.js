// A row of radio buttons that looks like one switch.

import { el } from "./dom.js";

export function fillChoice(fieldset, options, current, change) {
  for (const [value, label] of options) {
    const input = el("input", { type: "radio", name: fieldset.id, value });
    input.checked = value === current;
    input.addEventListener("change", () => change(value));
    fieldset.append(el("label", {}, input, el("span", {}, label)));
  }
}
