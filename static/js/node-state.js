// What the answers of /api/health say of a node's state, in words.

// A node can answer and still be of no use, if it has another password for example.
export function stateOf({ reachable, error }) {
  if (reachable === null) return "unknown";
  return reachable ? (error ? "faulty" : "up") : "down";
}

// From the worst to the best.
export const STATES = ["down", "faulty", "unknown", "up"];

export const STATE_WORDS = { up: "reachable", faulty: "reachable, with a fault", down: "unreachable", unknown: "not checked yet" };
