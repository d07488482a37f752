// Light and dark: the system's theme, unless the reader prefers the other one.

import { prefer, preferences } from "./preferences.js";

const systemDark = matchMedia("(prefers-color-scheme: dark)");

const isDark = () => (preferences.theme ? preferences.theme === "dark" : systemDark.matches);

export function applyTheme() {
  if (preferences.theme) document.documentElement.dataset.theme = preferences.theme;
  else delete document.documentElement.dataset.theme;
}

// Makes `button` the switch between both.
export function connectThemeSwitch(button) {
  const show = () => button.setAttribute("aria-pressed", String(isDark()));
  button.addEventListener("click", () => {
    const dark = !isDark();
    prefer("theme", dark === systemDark.matches ? null : dark ? "dark" : "light");
    applyTheme();
    show();
  });
  systemDark.addEventListener("change", show);
  show();
}
