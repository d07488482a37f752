// The dialog that asks before a node is drained, or taken back.

import { announce } from "./announce.js";
import { ApiError, post } from "./api.js";
import { byId, setText } from "./dom.js";
import { visible } from "./format.js";

// `done(health)` gets the answer. The function that is returned opens the dialog for one of the nodes.
export function drainDialog(done) {
  const dialog = byId("drain");
  const confirm = byId("drain-confirm");
  let node;

  const showError = (text) => {
    byId("drain-error").hidden = !text;
    setText(byId("drain-error"), text);
  };
  byId("drain-cancel").addEventListener("click", () => dialog.close());
  confirm.addEventListener("click", async () => {
    // The reader may close the dialog, and open it for another node, before the answer comes.
    const asked = node;
    confirm.disabled = true;
    showError("");
    try {
      const health = await post(`api/nodes/${encodeURIComponent(asked.name)}/${asked.draining ? "activate" : "drain"}`);
      if (asked === node) dialog.close();
      done(health);
      announce(asked.draining ? `${asked.name} is active again` : `${asked.name} is draining`);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (asked === node) showError(`${asked.draining ? "Not activated" : "Not drained"}. ${visible(error.message)}`);
    } finally {
      if (asked === node) {
        confirm.disabled = false;
        if (dialog.open) confirm.focus();
      }
    }
  });

  return (wanted, nodes) => {
    node = wanted;
    confirm.disabled = false;
    setText(byId("drain-title"), `${node.draining ? "Activate" : "Drain"} ${node.name}?`);
    setText(byId("drain-effect"), node.draining ? effectOfActivating(node) : effectOfDraining(node, nodes));
    setText(confirm, node.draining ? "Activate" : "Drain");
    showError("");
    dialog.showModal();
  };
}

const effectOfActivating = ({ name }) => `New sessions, and requests without a session, go to ${name} again.`;

// Where no node is left that takes sessions, lavaproxy tries those that do not drain; where all drain, it uses all.
function effectOfDraining({ name, version }, nodes) {
  const others = nodes.filter((other) => other.version === version && other.name !== name);
  const stays = "What is there stays.";
  if (!others.length) return `There is no other Lavalink ${version} node, so sessions and requests still go to ${name}.`;
  if (others.every(({ draining }) => draining)) return `All other Lavalink ${version} nodes drain too, so sessions and requests still go to ${name}.`;
  if (others.every(({ draining, state }) => draining || state === "down")) {
    return `No other Lavalink ${version} node is up: new sessions, and requests without a session, fail until one is. ${stays}`;
  }
  return `No new sessions, and no requests without a session, go to ${name} any more. ${stays}`;
}
