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

// What is wrong with the nodes, as in "Lavalink v4: eu1, eu2 are down"; empty where nothing is.
export function troubleOf(nodes) {
  const troubles = [];
  for (const version of versionsOf(nodes)) {
    const its = nodes.filter((node) => node.version === version);
    const [down, faulty] = ["down", "faulty"].map((state) => its.filter((node) => stateOf(node) === state));
    if (down.length === its.length) troubles.push(`Lavalink ${version} is down: ${list(down)}`);
    else if (down.length) troubles.push(`Lavalink ${version}: ${list(down)} ${down.length > 1 ? "are" : "is"} down`);
    if (faulty.length) troubles.push(`Lavalink ${version}: ${list(faulty)} ${faulty.length > 1 ? "have" : "has"} a fault`);
  }
  return troubles.join("; ");
}

// The versions that no node serves at the moment.
export const versionsDown = (nodes) =>
  versionsOf(nodes).filter((version) => nodes.every((node) => node.version !== version || node.state === "down"));

export function list(nodes) {
  const names = nodes.slice(0, NAMES_SHOWN).map(labelOf).join(", ");
  return nodes.length > NAMES_SHOWN ? `${names} and ${nodes.length - NAMES_SHOWN} more` : names;
}

const versionsOf = (nodes) => [...new Set(nodes.map(({ version }) => version))];
