// The dialog "Connect a bot", and the bots' address in the toolbar.

import { LIBRARIES, listenerFor, mainListener, reachable } from "./bot-settings.js";
import { copyText } from "./clipboard.js";
import { byId, el, put, updateChildren } from "./dom.js";
import { recall, remember } from "./preferences.js";

export function connectDialog() {
  const dialog = byId("connect");
  const library = byId("library");
  let listeners = [];
  let health;
  const names = LIBRARIES.map(({ name }) => name);
  library.append(...names.map((name) => new Option(name)));
  library.value = recall("library", names, names[0]);

  const showSettings = () => {
    if (!listeners.length) return;
    updateChildren(byId("listeners"), listeners, ({ text }) => text, drawListener);
    const wanted = LIBRARIES.find(({ name }) => name === library.value);
    const { listener, note, problem } = listenerFor(wanted, listeners, health);
    put("library-note", note);
    byId("library-note").classList.toggle("problem", Boolean(problem));
    put("settings", wanted.write(listener));
  };
  const address = () => mainListener(listeners)?.text ?? "the bots' address";
  const open = () => {
    showSettings();
    dialog.showModal();
  };

  library.addEventListener("change", () => {
    remember("library", library.value);
    showSettings();
  });
  byId("connect-open").addEventListener("click", open);
  byId("connect-close").addEventListener("click", () => dialog.close());
  byId("copy-address").addEventListener("click", ({ currentTarget }) => copyText(address(), currentTarget));
  byId("copy-settings").addEventListener("click", ({ currentTarget }) => copyText(byId("settings").textContent, currentTarget));

  return {
    address,
    open,
    update(now) {
      if (now === health) return;
      health = now;
      listeners = health.listeners.filter(({ name }) => name !== "web").map(reachable);
      put("address", address());
      if (dialog.open) showSettings();
    },
  };
}

function drawListener({ text, version }) {
  const button = el("button", { type: "button", class: "copy", "aria-label": `Copy ${text}`, onclick: () => copyText(text, button) }, "Copy");
  const meaning = version ? `Lavalink ${version} by default` : "Lavalink v3 and v4";
  return { node: el("li", {}, el("code", {}, text), button, el("span", {}, meaning)), fill() {} };
}
