//! What the tests share: a proxy on free ports, scripted backends, and a client that counts its bytes.
//!
//! The client reads HTTP by itself, so that a mistake in the product's own parser cannot hide itself.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

pub mod tool;

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use lavaproxy::config::Settings;
use lavaproxy::server::Server;
use serde_json::Value;
use socket2::{Domain, Socket, Type};

pub const PASSWORD: &str = "DevamOP";
/// Longer than anything here takes on a busy machine; reaching it is a failure.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A running proxy with its listeners on free loopback ports.
pub struct Proxy {
    pub server: Server,
}

impl Proxy {
    /// With these settings beside free ports; both versions lead nowhere unless a setting says where.
    pub fn start(set: &[(&str, &str)]) -> Self {
        Self { server: Server::start(&settings(set)).unwrap() }
    }

    /// In front of these two backends.
    pub fn before(v3: SocketAddr, v4: SocketAddr, set: &[(&str, &str)]) -> Self {
        let (v3, v4) = (v3.port().to_string(), v4.port().to_string());
        let mut all = vec![("LAVALINK_V3_PORT", v3.as_str()), ("LAVALINK_V4_PORT", v4.as_str())];
        all.extend_from_slice(set);
        Self::start(&all)
    }

    pub fn address(&self) -> SocketAddr {
        self.listener("proxy")
    }

    pub fn listener(&self, name: &str) -> SocketAddr {
        self.server.address(name).expect("no such listener")
    }

    pub fn connect(&self) -> Client {
        Client::connect(self.address())
    }

    /// `/api/stats` as a script would get it.
    pub fn stats(&self) -> Value {
        let mut client = Client::connect(self.listener("web"));
        client.send(b"GET /api/stats HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let response = client.response();
        assert_eq!(response.status, 200);
        serde_json::from_slice(&response.body).unwrap()
    }

    /// The closing line's reason, as the counters have it.
    pub fn ended(&self, reason: &str) -> u64 {
        self.stats()["ended"][reason].as_u64().unwrap_or_else(|| panic!("no reason {reason}"))
    }

    /// Waits until no connection is left in the ledger.
    pub fn wait_until_empty(&self) {
        eventually("the ledger is empty", || self.server.ledger().snapshot().totals.active == 0);
    }
}

/// Settings for a test: listeners on free ports, no other process's environment.
pub fn settings(set: &[(&str, &str)]) -> Settings {
    let mut all: HashMap<&str, &str> = HashMap::from([
        ("PROXY_HOST", "127.0.0.1"),
        ("PROXY_PORT", "0"),
        ("WEB_PORT", "0"),
        ("LAVALINK_V3_PORT", "1"),
        ("LAVALINK_V4_PORT", "1"),
        // Fake backends see the requests of the test alone.
        ("HEALTH_INTERVAL", "1h"),
    ]);
    all.extend(set.iter().copied());
    for (nodes, port) in [("LAVALINK_V3_NODES", "LAVALINK_V3_PORT"), ("LAVALINK_V4_NODES", "LAVALINK_V4_PORT")] {
        if all.get(nodes).is_some_and(|nodes| !nodes.is_empty()) {
            all.remove(port);
        }
    }
    Settings::from_lookup(|name| all.get(name).map(Into::into)).unwrap_or_else(|faults| panic!("{faults}"))
}

/// Polls until `holds`, for what has no event to wait for.
pub fn eventually(what: &str, holds: impl FnMut() -> bool) {
    eventually_within(PATIENCE, what, holds);
}

/// The same, for what takes long.
pub fn eventually_within(patience: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + patience;
    while !holds() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A response as it came.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Response {
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub fn closes(&self) -> bool {
        self.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

/// A raw client that counts what it sent and received.
pub struct Client {
    pub stream: TcpStream,
    pub sent: u64,
    pub received: u64,
    pub pending: Vec<u8>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).unwrap())
    }

    /// The same from this address.
    pub fn connect_from(source: impl Into<IpAddr>, address: SocketAddr) -> Self {
        Self::try_connect_from(source, address).unwrap()
    }

    /// The same to a peer that may reset the connection at once: on a busy machine even before `connect` has returned.
    pub fn try_connect_from(source: impl Into<IpAddr>, address: SocketAddr) -> io::Result<Self> {
        let source = SocketAddr::new(source.into(), 0);
        let socket = Socket::new(Domain::for_address(source), Type::STREAM, None)?;
        socket.bind(&source.into())?;
        socket.connect(&address.into())?;
        Ok(Self::over(socket.into()))
    }

    pub fn over(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, sent: 0, received: 0, pending: Vec::new() }
    }

    pub fn send(&mut self, bytes: &[u8]) -> &mut Self {
        self.try_send(bytes).unwrap();
        self
    }

    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.sent += bytes.len() as u64;
        Ok(())
    }

    /// One byte per write.
    pub fn dribble(&mut self, bytes: &[u8]) -> &mut Self {
        for byte in bytes {
            self.send(std::slice::from_ref(byte));
        }
        self
    }

    /// A GET with the password; extra field lines end in CRLF each.
    pub fn get(&mut self, target: &str, fields: &str) -> Response {
        self.request("GET", target, fields, b"")
    }

    pub fn request(&mut self, method: &str, target: &str, fields: &str, body: &[u8]) -> Response {
        let head = format!("{method} {target} HTTP/1.1\r\nHost: bot\r\nAuthorization: {PASSWORD}\r\n{fields}\r\n");
        self.send(&[head.as_bytes(), body].concat());
        self.response_to(method)
    }

    pub fn response(&mut self) -> Response {
        self.response_to("GET")
    }

    /// Reads one whole response, whatever its framing.
    pub fn response_to(&mut self, method: &str) -> Response {
        let end = loop {
            if let Some(at) = find(&self.pending, b"\r\n\r\n") {
                break at + 4;
            }
            assert!(self.fill() > 0, "closed within a head: {:?}", String::from_utf8_lossy(&self.pending));
        };
        let head = String::from_utf8(self.pending.drain(..end).collect()).unwrap();
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("no status");
        let mut response = Response { status, head, body: Vec::new() };
        let bodiless = method == "HEAD" || status < 200 || status == 204 || status == 304;
        response.body = if bodiless {
            Vec::new()
        } else if response.field("transfer-encoding") == Some("chunked") {
            self.chunks()
        } else if let Some(length) = response.field("content-length") {
            let length = length.parse().unwrap();
            self.exactly(length)
        } else {
            self.rest()
        };
        response
    }

    pub fn exactly(&mut self, count: usize) -> Vec<u8> {
        while self.pending.len() < count {
            assert!(self.fill() > 0, "closed after {} of {count} bytes", self.pending.len());
        }
        self.pending.drain(..count).collect()
    }

    fn line(&mut self) -> String {
        let end = loop {
            if let Some(at) = find(&self.pending, b"\r\n") {
                break at;
            }
            assert!(self.fill() > 0, "closed within a line");
        };
        let line = String::from_utf8(self.exactly(end)).unwrap();
        self.exactly(2);
        line
    }

    fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let line = self.line();
            let size = usize::from_str_radix(&line, 16).unwrap_or_else(|_| panic!("chunk line {line:?}"));
            body.extend(self.exactly(size));
            assert_eq!(self.line(), "", "after a chunk");
            if size == 0 {
                return body;
            }
        }
    }

    /// Everything until the end of the stream.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.fill() > 0 {}
        std::mem::take(&mut self.pending)
    }

    /// True when the peer closed properly and sent nothing more.
    pub fn is_at_end(&mut self) -> bool {
        self.pending.is_empty() && self.fill() == 0
    }

    /// The error that the next read ends in, such as a reset.
    pub fn read_error(&mut self) -> Option<io::ErrorKind> {
        let mut sink = [0; 65536];
        loop {
            match read(&self.stream, &mut sink) {
                Ok(0) => return None,
                Ok(count) => self.received += count as u64,
                Err(error) => return Some(error.kind()),
            }
        }
    }

    fn fill(&mut self) -> usize {
        let mut piece = [0; 65536];
        let count = read(&self.stream, &mut piece).unwrap();
        self.received += count as u64;
        self.pending.extend_from_slice(&piece[..count]);
        count
    }

    pub fn half_close(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Closes with a reset.
    pub fn reset(self) {
        reset(&self.stream);
    }

    /// Upgrades to a WebSocket and returns the 101.
    pub fn upgrade(&mut self, target: &str) -> Response {
        self.get(target, HANDSHAKE)
    }
}

/// The fields of a bot's handshake beside Host and Authorization.
pub const HANDSHAKE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nUser-Id: 42\r\nClient-Name: test/1\r\n";

/// Makes the coming close of this socket a reset.
pub fn reset(stream: &TcpStream) {
    socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// One read; in a process that was paused and continues, a socket with a timeout reports EINTR (signal(7)), and is read again.
pub fn read(mut stream: &TcpStream, piece: &mut [u8]) -> io::Result<usize> {
    loop {
        match stream.read(piece) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

pub fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// A backend that does with each connection what its script says, and keeps what it was sent.
pub struct Backend {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<u8>>>,
    accepted: Arc<Mutex<usize>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Backend {
    /// `script` gets each connection with its number, from 0, in a thread of its own.
    pub fn start(script: impl Fn(Client, usize) + Send + Sync + 'static) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap(), script)
    }

    /// The same on a listener of the test's own.
    pub fn on(listener: TcpListener, script: impl Fn(Client, usize) + Send + Sync + 'static) -> Self {
        let address = listener.local_addr().unwrap();
        let (seen, accepted) = (Arc::default(), Arc::new(Mutex::new(0)));
        let stop = Arc::new(AtomicBool::new(false));
        let script = Arc::new(script);
        let thread = thread::spawn({
            let (stop, accepted) = (Arc::clone(&stop), Arc::clone(&accepted));
            move || {
                for stream in listener.incoming() {
                    if stop.load(SeqCst) {
                        return;
                    }
                    let number = {
                        let mut accepted = accepted.lock().unwrap();
                        *accepted += 1;
                        *accepted - 1
                    };
                    let script = Arc::clone(&script);
                    thread::spawn(move || script(Client::over(stream.unwrap()), number));
                }
            }
        });
        Self { address, seen, accepted, stop, thread: Some(thread) }
    }

    /// Answers every request of every connection with these bytes, and keeps the requests' bytes.
    pub fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let answer = answer.into();
        let seen: Arc<Mutex<Vec<u8>>> = Arc::default();
        let kept = Arc::clone(&seen);
        let mut backend = Self::start(move |mut client, _| {
            while let Some(request) = client.next_request() {
                kept.lock().unwrap().extend_from_slice(&request);
                if client.try_send(&answer).is_err() {
                    return;
                }
            }
        });
        backend.seen = seen;
        backend
    }

    /// Everything that was sent to it, heads and bodies.
    pub fn seen(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap()).into_owned()
    }

    /// Connections it got.
    pub fn accepted(&self) -> usize {
        *self.accepted.lock().unwrap()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Client {
    /// As a backend: one whole request as it came, head and body; `None` at the end of the stream or on a reset.
    pub fn next_request(&mut self) -> Option<Vec<u8>> {
        let head = self.next_head()?;
        let text = String::from_utf8_lossy(&head).to_ascii_lowercase();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        let mut request = head;
        if text.contains("transfer-encoding: chunked") {
            loop {
                while find(&self.pending, b"\r\n").is_none() {
                    self.try_fill()?;
                }
                let end = find(&self.pending, b"\r\n")? + 2;
                let line: Vec<u8> = self.pending.drain(..end).collect();
                let size = usize::from_str_radix(std::str::from_utf8(&line).ok()?.trim(), 16).ok()?;
                request.extend_from_slice(&line);
                while self.pending.len() < size + 2 {
                    self.try_fill()?;
                }
                request.extend(self.pending.drain(..size + 2));
                if size == 0 {
                    return Some(request);
                }
            }
        }
        for _ in 0..length.unwrap_or(0) {
            if self.pending.is_empty() {
                self.try_fill()?;
            }
            request.push(self.pending.remove(0));
        }
        Some(request)
    }

    /// As a backend: one request head.
    pub fn next_head(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = find(&self.pending, b"\r\n\r\n") {
                return Some(self.pending.drain(..at + 4).collect());
            }
            self.try_fill()?;
        }
    }

    pub fn try_fill(&mut self) -> Option<usize> {
        let mut piece = [0; 65536];
        let count = read(&self.stream, &mut piece).ok().filter(|count| *count > 0)?;
        self.received += count as u64;
        self.pending.extend_from_slice(&piece[..count]);
        Some(count)
    }
}

/// A small complete answer.
pub const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
/// Lavalink's 101.
pub const SWITCHING: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// The length of `Via: 1.1 lavaproxy-<16 digits>` with its CRLF.
pub const VIA: usize = "Via: 1.1 lavaproxy-0123456789abcdef\r\n".len();

/// The line that the proxy adds as the last one of a head, if it is there.
pub fn own_via(request: &str) -> Option<&str> {
    let end = request.find("\r\n\r\n")? + 2;
    let line = request.get(end.checked_sub(VIA)?..end)?;
    let name = line.strip_prefix("Via: 1.1 lavaproxy-")?.strip_suffix("\r\n")?;
    name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')).then_some(line)
}

pub fn without_via(request: &str) -> String {
    own_via(request).map_or_else(|| request.to_owned(), |line| request.replacen(line, "", 1))
}

/// How many threads this process has.
pub fn threads() -> usize {
    thread_ids().len()
}

/// The threads of this process.
pub fn thread_ids() -> HashSet<OsString> {
    std::fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().file_name()).collect()
}

/// Open descriptors of this process.
pub fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// A backend that keeps what comes on each connection, to the byte and as it comes.
pub struct Tap {
    pub backend: Backend,
    connections: Arc<Mutex<Vec<Kept>>>,
}

#[derive(Clone, Default)]
struct Kept {
    bytes: Vec<u8>,
    ended: bool,
}

impl Tap {
    /// Answers nothing.
    pub fn silent() -> Self {
        Self::answering("")
    }

    /// Sends these bytes for each head, without waiting for its body.
    pub fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let answer = answer.into();
        let connections: Arc<Mutex<Vec<Kept>>> = Arc::default();
        let kept = Arc::clone(&connections);
        let backend = Backend::start(move |mut client, number| {
            let here = |act: &mut dyn FnMut(&mut Kept)| {
                let mut all = kept.lock().unwrap();
                let length = all.len().max(number + 1);
                all.resize(length, Kept::default());
                act(&mut all[number]);
            };
            here(&mut |_| {});
            let mut answered = 0;
            while client.try_fill().is_some() {
                let mut heads = 0;
                here(&mut |kept| {
                    kept.bytes.append(&mut client.pending);
                    heads = kept.bytes.windows(4).filter(|window| *window == b"\r\n\r\n").count();
                });
                for _ in answered..heads {
                    let _ = client.try_send(&answer);
                }
                answered = heads;
            }
            here(&mut |kept| kept.ended = true);
        });
        Self { backend, connections }
    }

    /// All that came so far.
    pub fn seen(&self) -> String {
        let all = self.connections.lock().unwrap();
        all.iter().map(|connection| String::from_utf8_lossy(&connection.bytes)).collect()
    }

    /// Waits until nothing more can come on the connections that there are.
    pub fn wait_until_closed(&self) {
        eventually("the backend's connections are closed", || {
            self.connections.lock().unwrap().iter().all(|connection| connection.ended)
        });
    }
}

impl Client {
    /// Everything until the end of the stream, and the error when that is not a proper one.
    pub fn rest_or_error(&mut self) -> (Vec<u8>, Option<io::ErrorKind>) {
        let mut piece = [0; 65536];
        loop {
            match read(&self.stream, &mut piece) {
                Ok(0) => return (std::mem::take(&mut self.pending), None),
                Ok(count) => {
                    self.received += count as u64;
                    self.pending.extend_from_slice(&piece[..count]);
                }
                Err(error) => return (std::mem::take(&mut self.pending), Some(error.kind())),
            }
        }
    }
    /// What a read of so long comes to when nothing is sent: `None` when something is, or the end of the stream.
    pub fn silent_for(&mut self, time: Duration) -> Option<io::ErrorKind> {
        assert!(self.pending.is_empty(), "{:?}", String::from_utf8_lossy(&self.pending));
        self.stream.set_read_timeout(Some(time)).unwrap();
        let read = self.stream.peek(&mut [0]);
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        read.err().map(|error| error.kind())
    }

    /// Sends back what comes until the end of the stream.
    pub fn echo(&mut self) {
        while self.try_fill().is_some() {
            let bytes = std::mem::take(&mut self.pending);
            if self.try_send(&bytes).is_err() {
                return;
            }
        }
    }
}
