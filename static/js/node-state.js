// What the answers of /api/health say of the nodes, in words.

const NAMES_SHOWN = 4; // of the nodes in a sentence

// A node can be up and still be of no use, if it has another version of Lavalink for example.
export const stateOf = ({ state, error }) => (state === "up" && error ? "faulty" : state);

// From the worst to the best.
export const STATES = ["down", "faulty", "unknown", "draining", "up"];

const WORDS = { up: "up", faulty: "up, with a fault", draining: "draining", down: "down", unknown: "not known yet" };

export function stateWords(node) {
  const words = WORDS[stateOf(node)];
  return node.state === "down" && node.draining ? `${words}, draining` : words;
}

// A node that the settings give no name has its version's: its address says more.
export const labelOf = ({ name, version, address }) => (name === version ? address : name);

// What is wrong with the nodes, as in "Lavalink v4: eu1, eu2 are down, eu3 has a fault"; empty where nothing is.
export function troubleOf(nodes) {
  return versionsOf(nodes).map((version) => troubleOfVersion(version, nodes.filter((node) => node.version === version))).filter(Boolean).join("; ");
}

function troubleOfVersion(version, nodes) {
  const [down, faulty] = ["down", "faulty"].map((state) => nodes.filter((node) => stateOf(node) === state));
  if (down.length === nodes.length) return `Lavalink ${version} is down: ${list(down)}`;
  const troubles = [];
  if (down.length) troubles.push(`${list(down)} ${down.length > 1 ? "are" : "is"} down`);
  if (faulty.length) troubles.push(`${list(faulty)} ${faulty.length > 1 ? "have" : "has"} a fault`);
  return troubles.length ? `Lavalink ${version}: ${troubles.join(", ")}` : "";
}

// The versions that no node serves at the moment.
export const versionsDown = (nodes) =>
  versionsOf(nodes).filter((version) => nodes.every((node) => node.version !== version || node.state === "down"));

export function list(nodes) {
  const names = nodes.slice(0, NAMES_SHOWN).map(labelOf).join(", ");
  return nodes.length > NAMES_SHOWN ? `${names} and ${nodes.length - NAMES_SHOWN} more` : names;
}

const versionsOf = (nodes) => [...new Set(nodes.map(({ version }) => version))];
