// The settings that bot libraries need for lavaproxy, and which of its listeners each of them should use.

const PASSWORD = "THE_PROXY_PASSWORD";
const ASKS_VERSION = "asks /version before anything else";

// `speaks` is the library's version of Lavalink. `because` says why its listener decides about the version: its first
// request names none. `write` makes the settings for a listener's host and port.
export const LIBRARIES = [
  { name: "shoukaku 4", speaks: "v4", write: ({ host, port }) => `new Shoukaku(new Connectors.DiscordJS(client), [{
  name: "lavaproxy",
  url: "${host}:${port}",
  auth: "${PASSWORD}",
  secure: false,
}]);` },
  { name: "lavalink-client 2", speaks: "v4", write: (listener) => javascriptNode("new LavalinkManager({ nodes: [", "id", "authorization", listener) },
  { name: "lavacord 3", speaks: "v4", because: ASKS_VERSION, write: (listener) => javascriptNode("new Manager([", "id", "password", listener) },
  { name: "erela.js 2", speaks: "v3", because: "uses paths without a version", write: (listener) => javascriptNode("new Manager({ nodes: [", "identifier", "password", listener) },
  { name: "lavalink.py 5", speaks: "v4", write: (listener) => pythonNode("client.add_node", "name", listener, 'region="eu"', "ssl=False") },
  { name: "wavelink 3", speaks: "v4", write: ({ host, port }) => `node = wavelink.Node(
    identifier="lavaproxy",
    uri="http://${host}:${port}",
    password="${PASSWORD}",
)
await wavelink.Pool.connect(nodes=[node], client=bot)` },
  { name: "mafic 2", speaks: "v4", because: ASKS_VERSION, write: (listener) => pythonNode("await pool.create_node", "label", listener) },
  { name: "pomice 2", speaks: "v4", because: ASKS_VERSION, write: (listener) => pythonNode("await pomice.NodePool.create_node", "identifier", listener, "bot=bot") },
  { name: "another library", speaks: null, write: ({ host, port }) => `host      ${host}\nport      ${port}\npassword  ${PASSWORD}\nsecure    false` },
];

function javascriptNode(call, name, password, { host, port }) {
  const end = call.includes("nodes:") ? "], /* ... */ });" : "], { /* ... */ });";
  return `${call}{\n  ${name}: "lavaproxy",\n  host: "${host}",\n  port: ${port},\n  ${password}: "${PASSWORD}",\n  secure: false,\n}${end}`;
}

function pythonNode(call, name, { host, port }, ...more) {
  const lines = [`host="${host}"`, `port=${port}`, `password="${PASSWORD}"`, `${name}="lavaproxy"`, ...more];
  return `${call}(\n${lines.map((line) => `    ${line},\n`).join("")})`;
}

// Where bots reach a listener. One that listens at all addresses is reached at the page's host.
export function reachable({ address, version }) {
  const colon = address.lastIndexOf(":");
  const [given, port] = [address.slice(0, colon), address.slice(colon + 1)];
  const host = ["0.0.0.0", "[::]"].includes(given) ? location.hostname : given;
  return { host, port, version, text: `${host}:${port}` };
}

// The listener without a pinned version.
export const mainListener = (listeners) => listeners.find(({ version }) => !version) ?? listeners[0];

// The listener for a library, a note for its user, and whether the note is about a problem.
export function listenerFor({ name, speaks, because }, listeners, { nodes, settings }) {
  const main = mainListener(listeners);
  if (!speaks) return { listener: main, note: `A library that ${ASKS_VERSION} needs the address of its version, where there is one.` };
  if (!nodes.some(({ version }) => version === speaks)) {
    return { listener: main, note: `${name} speaks Lavalink ${speaks}, for which this proxy has no node.`, problem: true };
  }
  if (!because) return { listener: main, note: `${name} speaks Lavalink ${speaks} and names the version in every path, so it works with every address.` };
  const why = `${name} ${because}, so it needs an address whose default is Lavalink ${speaks}.`;
  const pinned = listeners.find(({ version }) => version === speaks);
  if (pinned) return { listener: pinned, note: why };
  const defaultVersion = settings.find((setting) => setting.name === "DEFAULT_VERSION")?.value;
  if (defaultVersion === speaks || nodes.every(({ version }) => version === speaks)) return { listener: main, note: `${why} This is one.` };
  return { listener: main, note: `${why} There is none yet: set PROXY_${speaks.toUpperCase()}_PORT, restart the proxy and use that port.`, problem: true };
}
