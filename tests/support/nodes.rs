//! Several pretend nodes behind one lavaproxy, and bots with sessions there.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use lavaproxy::config::{Lavalink, Settings};
use lavaproxy::demo::{Node, ReportedLoad};
use lavaproxy::server::Server;
use serde_json::Value;

use crate::support::{Backend, Client, HANDSHAKE, PASSWORD, PATIENCE, Proxy, Response};

/// Health rounds get their longest time, so that a busy machine makes no node down. [`wait_for_state`] asks for more
/// of them.
const PATIENT: (&str, &str) = ("HEALTH_INTERVAL", "10s");
/// A health round comes only when something asks for it.
pub const UNASKED: (&str, &str) = ("HEALTH_INTERVAL", "1h");
/// A node that has nothing to do.
pub const IDLE: ReportedLoad = ReportedLoad { players: 0, playing_players: 0, system_load: 0.0 };

/// Nodes of one version that report the same load.
pub struct Nodes {
    pub version: Lavalink,
    pub all: Vec<Node>,
}

impl Nodes {
    pub fn start(version: Lavalink, names: &[&str]) -> Self {
        let start = |name: &&str| {
            let node = Node::start_named(name, version, PASSWORD).unwrap();
            node.report_load(Some(IDLE));
            node
        };
        Self { version, all: names.iter().map(start).collect() }
    }

    pub fn named(&self, name: &str) -> &Node {
        self.all.iter().find(|node| node.name() == name).expect("no such node")
    }

    /// The others.
    pub fn but(&self, name: &str) -> impl Iterator<Item = &Node> {
        self.all.iter().filter(move |node| node.name() != name)
    }

    /// The value of LAVALINK_Vn_NODES.
    pub fn list(&self) -> String {
        list(&self.all.iter().map(|node| (node.name(), node.address())).collect::<Vec<_>>())
    }

    /// A lavaproxy in front of them alone.
    pub fn proxy(&self, set: &[(&str, &str)]) -> Proxy {
        proxy(self.version, &self.list(), set)
    }

    /// What each has counted.
    pub fn sessions_opened(&self) -> Vec<u64> {
        self.all.iter().map(|node| node.counts().sessions).collect()
    }
}

/// The nodes eu1 and eu2, both up, behind a lavaproxy that moves so many sessions a second, and its web listener.
pub fn two_nodes(version: Lavalink, move_rate: &str) -> (Nodes, Proxy, SocketAddr) {
    let nodes = Nodes::start(version, &["eu1", "eu2"]);
    let proxy = nodes.proxy(&[("MOVE_RATE", move_rate)]);
    let web = web(&proxy);
    wait_for_state(web, "eu2", "up");
    (nodes, proxy, web)
}

/// The value of LAVALINK_Vn_NODES for these.
pub fn list(nodes: &[(&str, SocketAddr)]) -> String {
    nodes.iter().map(|(name, address)| format!("{name}={address}")).collect::<Vec<_>>().join(", ")
}

/// A lavaproxy with these nodes of one version; the other version is off.
pub fn proxy(version: Lavalink, list: &str, set: &[(&str, &str)]) -> Proxy {
    start(&of(version, list, set))
}

/// A lavaproxy with these settings beside free ports.
pub fn start(set: &[(&str, &str)]) -> Proxy {
    Proxy { server: Server::start(&settings(set)).unwrap() }
}

/// The settings for nodes of one version.
pub fn of<'s>(version: Lavalink, list: &'s str, set: &[(&'s str, &'s str)]) -> Vec<(&'s str, &'s str)> {
    let (setting, off) = match version {
        Lavalink::V3 => ("LAVALINK_V3_NODES", "LAVALINK_V4_HOST"),
        Lavalink::V4 => ("LAVALINK_V4_NODES", "LAVALINK_V3_HOST"),
    };
    [&[(setting, list), (off, "")], set].concat()
}

pub fn settings(set: &[(&str, &str)]) -> Settings {
    let listeners = [("PROXY_HOST", "127.0.0.1"), ("PROXY_PORT", "0"), ("WEB_PORT", "0"), PATIENT];
    let all = [&listeners[..], set].concat();
    let lookup = |name: &str| all.iter().rev().find(|(key, _)| *key == name).map(|(_, value)| (*value).into());
    Settings::from_lookup(lookup).unwrap_or_else(|faults| panic!("{faults}"))
}

/// The address of its pages.
pub fn web(proxy: &Proxy) -> SocketAddr {
    proxy.server.address("web").unwrap()
}

/// `GET /api/health`.
pub fn health(web: SocketAddr) -> Value {
    let mut client = Client::connect(web);
    client.send(b"GET /api/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    client.response().json()
}

/// The text of /metrics.
pub fn metrics(web: SocketAddr) -> String {
    let mut client = Client::connect(web);
    client.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    client.response().text()
}

/// The row of a node in /api/health.
pub fn row(web: SocketAddr, name: &str) -> Value {
    let health = health(web);
    let rows = health["nodes"].as_array().unwrap();
    rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("no node {name} in {health}")).clone()
}

pub fn state(web: SocketAddr, name: &str) -> String {
    row(web, name)["state"].as_str().unwrap().to_owned()
}

/// Asks for health rounds until the node has this state.
pub fn wait_for_state(web: SocketAddr, name: &str, expected: &str) {
    wait(web, name, expected, || check(web));
}

/// Waits until the node has this state, without asking for health rounds.
pub fn see_state(web: SocketAddr, name: &str, expected: &str) {
    wait(web, name, expected, || {});
}

fn wait(web: SocketAddr, name: &str, expected: &str, meanwhile: impl Fn()) {
    let deadline = Instant::now() + 2 * PATIENCE;
    loop {
        let row = row(web, name);
        if row["state"] == expected {
            return;
        }
        assert!(Instant::now() < deadline, "{name} is not {expected}: {row}");
        meanwhile();
        thread::sleep(Duration::from_millis(20));
    }
}

/// `POST /api/health/check`: a round of each node, unless one has just been made.
pub fn check(web: SocketAddr) {
    let mut client = Client::connect(web);
    client.send(b"POST /api/health/check HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert_eq!(client.response().status, 200);
}

/// `POST /api/nodes/NAME/ACTION`, as often as a process that ends in an upgrade has it.
pub fn act_in_an_upgrade(web: SocketAddr, name: &str, action: &str) -> Response {
    let mut answer = act(web, name, action, "");
    let deadline = Instant::now() + PATIENCE;
    while answer.status == 503 && Instant::now() < deadline {
        answer = act(web, name, action, "");
    }
    answer
}

/// `POST /api/nodes/NAME/ACTION`.
pub fn act(web: SocketAddr, name: &str, action: &str, fields: &str) -> Response {
    let mut client = Client::connect(web);
    let target = format!("/api/nodes/{name}/{action}");
    client.send(format!("POST {target} HTTP/1.1\r\nHost: localhost\r\n{fields}Connection: close\r\n\r\n").as_bytes());
    client.response()
}

/// A bot whose WebSocket is open.
pub struct Bot {
    pub client: Client,
    /// The 101.
    pub answer: Response,
    pub id: String,
    pub resumed: bool,
}

impl Bot {
    pub fn open(proxy: SocketAddr, version: Lavalink) -> Self {
        Self::open_with(proxy, version, "")
    }

    /// With more fields in the handshake.
    pub fn open_with(proxy: SocketAddr, version: Lavalink, fields: &str) -> Self {
        Self::try_open(proxy, version, PASSWORD, fields).unwrap_or_else(|why| panic!("{why}"))
    }

    pub fn try_open(proxy: SocketAddr, version: Lavalink, password: &str, fields: &str) -> Result<Self, String> {
        let stream = std::net::TcpStream::connect(proxy).map_err(|error| format!("connect: {error}"))?;
        let mut client = Client::over(stream);
        let target = format!("/{}/websocket", version.name());
        let head =
            format!("GET {target} HTTP/1.1\r\nHost: bot\r\nAuthorization: {password}\r\n{HANDSHAKE}{fields}\r\n");
        client.send(head.as_bytes());
        let answer = client.response();
        if answer.status != 101 {
            return Err(format!("{} {}", answer.head, answer.text()));
        }
        let ready = ready(&mut client);
        let id = ready["sessionId"].as_str().unwrap().to_owned();
        Ok(Self { client, answer, id, resumed: ready["resumed"] == true })
    }

    /// The name of its node, by its id.
    pub fn node(&self) -> &str {
        self.id.split_once('.').unwrap_or_else(|| panic!("{} names no node", self.id)).0
    }

    /// Its id as its node knows it.
    pub fn own_id(&self) -> &str {
        self.id.rsplit('.').next().unwrap()
    }

    /// Sends a text message.
    pub fn say(&mut self, text: &str) {
        self.client.send(&masked(0x81, text.as_bytes()));
    }

    /// Ends the WebSocket without a close frame and waits until its node has ended it too.
    pub fn leave(mut self) {
        self.client.half_close();
        self.client.rest();
    }

    /// True when the WebSocket answers a ping; other frames may come before.
    pub fn is_alive(&mut self) -> bool {
        self.client.send(&masked(0x89, b"here?"));
        loop {
            let (first, payload) = frame(&mut self.client);
            if first == 0x8a {
                return payload == b"here?";
            }
            if first == 0x88 {
                return false;
            }
        }
    }
}

/// A frame as clients send it.
pub fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [1, 2, 3, 4];
    assert!(payload.len() < 126);
    let masked = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
    [first, 0x80 | payload.len() as u8].into_iter().chain(mask).chain(masked).collect()
}

/// A frame as nodes send it.
pub fn text_frame(payload: &str) -> Vec<u8> {
    let length = payload.len();
    let head = match length {
        short @ ..=125 => vec![0x81, short as u8],
        _ => vec![0x81, 126, (length >> 8) as u8, length as u8],
    };
    [&head, payload.as_bytes()].concat()
}

/// The next frame: its first byte and its payload.
pub fn frame(client: &mut Client) -> (u8, Vec<u8>) {
    let head = client.exactly(2);
    let length = match head[1] {
        126 => u16::from_be_bytes(client.exactly(2).try_into().unwrap()) as usize,
        127 => u64::from_be_bytes(client.exactly(8).try_into().unwrap()) as usize,
        short => usize::from(short),
    };
    (head[0], client.exactly(length))
}

/// Reads frames up to `ready`, whose JSON this is.
pub fn ready(client: &mut Client) -> Value {
    loop {
        let (first, payload) = frame(client);
        assert_eq!(first, 0x81, "{payload:?} before ready");
        let message: Value = serde_json::from_slice(&payload).unwrap();
        if message["op"] == "ready" {
            return message;
        }
    }
}

/// A listener that accepts no connection, with the connections that fill its queue: connects time out.
pub struct Deaf {
    pub address: SocketAddr,
    _socket: socket2::Socket,
    _waiting: Vec<std::net::TcpStream>,
}

impl Deaf {
    pub fn start() -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        socket.listen(0).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        let connect = || std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200)).ok();
        let waiting = std::iter::from_fn(connect).take(16).collect();
        Self { address, _socket: socket, _waiting: waiting }
    }
}

/// A port that refuses connections for as long as this is kept.
pub struct Refusing(std::net::TcpListener, SocketAddr);

impl Refusing {
    pub fn start() -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        Self(socket.into(), address)
    }

    pub fn address(&self) -> SocketAddr {
        self.1
    }
}

/// A scripted node: it answers the health rounds by itself, and hands every other request to its script.
pub struct FakeNode {
    pub backend: Backend,
    requests: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl FakeNode {
    /// `script` gets the connection and the request, and says whether the connection goes on.
    pub fn start(script: impl Fn(&mut Client, &[u8]) -> bool + Send + Sync + 'static) -> Self {
        let requests: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let kept = Arc::clone(&requests);
        let backend = Backend::start(move |mut client, _| {
            while let Some(request) = client.next_request() {
                let goes_on = match request.as_slice() {
                    probe if is_probe(probe) => answer_probe(&mut client, probe).is_ok(),
                    request => {
                        kept.lock().unwrap().push(request.to_vec());
                        script(&mut client, request)
                    }
                };
                if !goes_on {
                    return;
                }
            }
        });
        Self { backend, requests }
    }

    pub fn address(&self) -> SocketAddr {
        self.backend.address
    }

    /// The requests so far, those of health rounds left out.
    pub fn requests(&self) -> Vec<String> {
        let text = |request: &Vec<u8>| String::from_utf8_lossy(request).into_owned();
        self.requests.lock().unwrap().iter().map(text).collect()
    }
}

fn is_probe(request: &[u8]) -> bool {
    String::from_utf8_lossy(request).contains("\r\nUser-Agent: lavaproxy/")
}

fn answer_probe(client: &mut Client, request: &[u8]) -> io::Result<()> {
    let body = match String::from_utf8_lossy(request).split(' ').nth(1).unwrap_or_default() {
        "/version" => "4.0.8",
        _ => r#"{"players":0,"playingPlayers":0,"cpu":{"systemLoad":0.0}}"#,
    };
    client.try_send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes())
}

/// A 200 with this body.
pub fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into()
}
