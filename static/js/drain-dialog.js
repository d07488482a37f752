// The dialog that asks before a node is drained, its sessions are moved, their moves are stopped, or it is taken back.

import { announce } from "./announce.js";
import { ApiError, post } from "./api.js";
import { byId, put, setText } from "./dom.js";
import { visible } from "./format.js";

// `effect(node, nodes)` says what will happen; `done` follows the node's name where the result is spoken.
const ACTIONS = {
  drain: { path: "drain", title: (name) => `Drain ${name}?`, confirm: "Drain", effect: effectOfDraining, done: "is draining", failed: "Not drained" },
  move: { path: "drain?move=true", title: (name) => `Move the sessions of ${name}?`, confirm: "Move sessions", effect: effectOfMoving, done: "is draining, and its sessions move", failed: "Not moved" },
  stop: { path: "drain", title: (name) => `Stop the moves from ${name}?`, confirm: "Stop moving", effect: effectOfStopping, done: "keeps its sessions", failed: "Not stopped" },
  activate: { path: "activate", title: (name) => `Activate ${name}?`, confirm: "Activate", effect: effectOfActivating, done: "is active again", failed: "Not activated" },
};

// `finished(health)` gets the answer. The function that is returned opens the dialog for an action on one of the nodes.
export function drainDialog(finished) {
  const dialog = byId("drain");
  const confirm = byId("drain-confirm");
  let wanted;

  const showError = (text) => {
    byId("drain-error").hidden = !text;
    put("drain-error", text);
  };
  byId("drain-cancel").addEventListener("click", () => dialog.close());
  confirm.addEventListener("click", async () => {
    // The reader may close the dialog, and open it for another node, before the answer comes.
    const asked = wanted;
    const { name, path, done, failed } = asked;
    confirm.disabled = true;
    showError("");
    try {
      const health = await post(`api/nodes/${encodeURIComponent(name)}/${path}`);
      if (asked === wanted) dialog.close();
      finished(health);
      announce(`${name} ${done}`);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (asked === wanted) showError(`${failed}. ${visible(error.message)}`);
    } finally {
      if (asked === wanted) {
        confirm.disabled = false;
        if (dialog.open) confirm.focus();
      }
    }
  });

  return (action, node, nodes) => {
    const { title, effect, ...rest } = ACTIONS[action];
    wanted = { name: node.name, ...rest };
    confirm.disabled = false;
    put("drain-title", title(node.name));
    put("drain-effect", effect(node, nodes));
    setText(confirm, wanted.confirm);
    showError("");
    dialog.showModal();
  };
}

function effectOfActivating({ name, moving }) {
  return `New sessions, and requests without a session, go to ${name} again.${moving ? " The moves stop." : ""}`;
}

function effectOfStopping({ name }) {
  return `Sessions that have not moved yet stay on ${name}, which goes on draining.`;
}

// Where no node is left that takes sessions, lavaproxy tries those that do not drain; where all drain, it uses all.
function effectOfDraining(node, nodes) {
  const { name, version } = node;
  const others = othersOf(node, nodes);
  const stays = "What is there stays.";
  if (!others.length) return `There is no other Lavalink ${version} node, so sessions and requests still go to ${name}.`;
  if (others.every(({ draining }) => draining)) return `All other Lavalink ${version} nodes drain too, so sessions and requests still go to ${name}.`;
  if (others.every(({ draining, state }) => draining || state === "down")) {
    return `No other Lavalink ${version} node is up: new sessions, and requests without a session, fail until one is. ${stays}`;
  }
  return `No new sessions, and no requests without a session, go to ${name} any more. ${stays}`;
}

function effectOfMoving(node, nodes) {
  const isUseful = othersOf(node, nodes).some(({ draining, state }) => !draining && state !== "down");
  if (!isUseful) return `No other Lavalink ${node.version} node is in rotation: ${node.name} drains, and its sessions wait until one is.`;
  return `${node.name} drains, and its sessions move to other nodes, a few a second. Their players play on.`;
}

const othersOf = ({ name, version }, nodes) => nodes.filter((other) => other.version === version && other.name !== name);
