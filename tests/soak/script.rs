//! What a node does with a connection: the request's target says what is wanted. All that comes is checked.
//!
//! | path | |
//! |---|---|
//! | `/v4/load` | a body of `length` bytes, `framing` chunked or length, `pause` before it and between its pieces, broken off after `stop` bytes |
//! | `/v4/loadtracks` | the same, but a failed load at the node that `fails` names |
//! | `/v4/upload` | a body of `length` bytes from the client |
//! | `/v4/websocket` | `ready`, then a tunnel in dialogue, or both ways at once |
//!
//! `/v4/sessions/ID/load` is `/v4/load`: the node has no sessions to look up. Behind `ready` comes a frame that Lavalink
//! never sends: no node takes such a session over. What has no `nonce` comes from bots that play: `relay` has it.

use std::io::{self, ErrorKind, Write as _};
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::Duration;

use crate::node::{Connection, Node};
use crate::random::{Pattern, Random, mix};
use crate::relay;
use crate::wire::{Tried, Trouble, Wire, number, parameter, send, value};

pub fn serve(node: &Node, connection: &Connection) {
    let served = Wire::over(connection.stream.clone()).map_err(Trouble::from).and_then(|wire| {
        let mut script = Script { node, connection, wire };
        script.run()
    });
    if let Err(Trouble::Wrong(what)) = served {
        // Group stalls or is cut on purpose keeps a node waiting too.
        if !what.starts_with("nothing moved") {
            node.findings.wrong(format!("at {}: {what}", node.version));
        }
    }
}

struct Script<'n> {
    node: &'n Node,
    connection: &'n Connection,
    wire: Wire,
}

impl Script<'_> {
    fn run(&mut self) -> Tried<()> {
        while let Some(head) = self.next_head()? {
            let path = head.split([' ', '?']).nth(1).unwrap_or_default();
            if path.contains('.') || value(&head, "lavalink-node").is_some() {
                return Err(Trouble::wrong(format!("what is for lavaproxy came to a node: {head:?}")));
            }
            let last = path.rsplit('/').next().unwrap_or_default();
            if parameter(&head, "nonce").is_none() && !matches!(last, "version" | "stats") {
                let lavalink = self.node.lavalink.address();
                if last == "websocket" {
                    return relay::tunnel(&mut self.wire, &head, lavalink);
                }
                if !relay::request(&mut self.wire, &head, lavalink)? {
                    return Ok(());
                }
                continue;
            }
            let goes_on = match last {
                "websocket" => return self.tunnel(&head),
                "upload" => self.take(&head)?,
                "loadtracks" if parameter(&head, "fails") == Some(self.node.name) => self.fail(&head)?,
                "load" | "loadtracks" => self.give(&head)?,
                "version" => self.tell(if self.node.version == "v3" { "3.7.13" } else { "4.2.2" })?,
                "stats" => self.tell(STATS)?,
                _ => return Err(Trouble::wrong(format!("a request that no client sent: {head:?}"))),
            };
            if !goes_on {
                return Ok(());
            }
        }
        Ok(())
    }

    /// A cut connection's next head is none of its peer's making.
    fn next_head(&mut self) -> io::Result<Option<String>> {
        self.connection.stream.set_read_timeout(None)?;
        let head = self.wire.head();
        self.connection.stream.set_read_timeout(Some(crate::wire::PATIENCE))?;
        head
    }

    /// For lavaproxy's own look at its nodes.
    fn tell(&mut self, body: &str) -> Tried<bool> {
        let length = body.len();
        self.wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}").as_bytes())?;
        Ok(true)
    }

    fn begin(&self, head: &str, status: &str, fields: &str) -> String {
        let (Node { version, name, .. }, nonce) = (self.node, number(head, "nonce"));
        format!("HTTP/1.1 {status}\r\nX-Node: {version}\r\nX-Name: {name}\r\nX-Nonce: {nonce}\r\n{fields}\r\n")
    }

    fn give(&mut self, head: &str) -> Tried<bool> {
        let (length, pause) = (number(head, "length"), Duration::from_millis(number(head, "pause")));
        thread::sleep(pause);
        if head.starts_with("DELETE ") {
            // It is idempotent: it is sent again when a connection that was used before dies without an answer.
            self.node.findings.note_processed(number(head, "nonce"), self.node.name, 2);
            self.wire.send(self.begin(head, "204 No Content", "").as_bytes())?;
            return Ok(true);
        }
        let chunked = parameter(head, "framing") == Some("chunked");
        let fields =
            if chunked { "Transfer-Encoding: chunked\r\n".to_owned() } else { format!("Content-Length: {length}\r\n") };
        let begin = self.begin(head, "200 OK", &fields);
        if head.starts_with("HEAD ") {
            self.wire.send(begin.as_bytes())?;
            return Ok(true);
        }
        let stop = parameter(head, "stop").map(|_| number(head, "stop"));
        let mut body = Pattern::down(number(head, "nonce"));
        let mut random = Random::new(mix(number(head, "nonce")));
        let mut out = begin.into_bytes();
        while body.at() < stop.unwrap_or(length) {
            let most = if pause.is_zero() { 256 * 1024 } else { length.div_ceil(4).max(256) };
            let piece = random.between(most / 2, most).min(stop.unwrap_or(length) - body.at());
            if chunked {
                write!(out, "{piece:x}\r\n")?;
            }
            out.extend(body.make(piece));
            if chunked {
                out.extend_from_slice(b"\r\n");
            }
            self.wire.send(&out)?;
            out.clear();
            thread::sleep(pause);
            if self.connection.is_cut() {
                return Ok(false);
            }
        }
        if stop.is_some() {
            self.wire.send(&out)?;
            if parameter(head, "how") == Some("reset") {
                self.wire.will_reset();
            }
            return Ok(false);
        }
        if chunked {
            // Alone, as Lavalink sends it.
            out.extend_from_slice(b"0\r\n\r\n");
        }
        self.wire.send(&out)?;
        Ok(true)
    }

    fn fail(&mut self, head: &str) -> Tried<bool> {
        let begin = self.begin(head, "200 OK", &format!("Content-Length: {}\r\n", FAILED.len()));
        self.wire.send(format!("{begin}{FAILED}").as_bytes())?;
        Ok(true)
    }

    fn take(&mut self, head: &str) -> Tried<bool> {
        let nonce = number(head, "nonce");
        self.node.findings.note_processed(nonce, self.node.name, 1);
        let mut body = Pattern::up(nonce);
        let pause = Duration::from_millis(number(head, "pause"));
        if value(head, "transfer-encoding") == Some("chunked") {
            loop {
                let line = self.wire.line()?;
                let size =
                    u64::from_str_radix(&line, 16).map_err(|_| Trouble::wrong(format!("chunk line {line:?}")))?;
                self.wire.expect(&mut body, size)?;
                if !self.wire.line()?.is_empty() {
                    return Err(Trouble::wrong("something else than an empty line after a chunk"));
                }
                if size == 0 {
                    break;
                }
            }
        } else {
            self.wire
                .expect(&mut body, value(head, "content-length").and_then(|text| text.parse().ok()).unwrap_or(0))?;
        }
        thread::sleep(pause);
        if body.at() != number(head, "length") {
            return Err(Trouble::wrong(format!("{} bytes of an upload came: {head}", body.at())));
        }
        let text = body.at().to_string();
        let begin = self.begin(head, "200 OK", &format!("X-Took: {text}\r\nContent-Length: 0\r\n"));
        self.wire.send(begin.as_bytes())?;
        Ok(true)
    }

    fn tunnel(&mut self, head: &str) -> Tried<()> {
        let (nonce, clean) = (number(head, "nonce"), parameter(head, "clean").is_some());
        self.connection.spared.store(clean, SeqCst);
        let switching =
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
        self.send_cut(
            &[self.begin(head, "101 Switching Protocols", switching).into_bytes(), ready(nonce)].concat(),
            nonce,
        )?;
        let mut up = Pattern::up(nonce);
        let sent = match parameter(head, "down") {
            Some(_) => self.flood(head, &mut up),
            None => self.dialogue(head, &mut up),
        };
        match parameter(head, "end") {
            Some("node-resets") if sent.is_ok() => self.wire.will_reset(),
            Some("client-resets") if !self.connection.is_cut() && !is_reset(&sent) => {
                return Err(Trouble::wrong(format!("a client's reset came as {sent:?}")));
            }
            _ => {}
        }
        if sent.is_ok() && clean {
            self.node.findings.note_arrived(nonce, up.at());
        }
        sent
    }

    /// In two pieces, cut anywhere before the end of `ready`.
    fn send_cut(&mut self, bytes: &[u8], nonce: u64) -> io::Result<()> {
        let mut random = Random::new(mix(nonce ^ 5));
        let (first, second) =
            bytes.split_at(usize::try_from(random.between(0, (bytes.len() - STRANGE.len() - 1) as u64)).unwrap());
        self.wire.send(first)?;
        thread::sleep(random.millis(0, 10));
        self.wire.send(second)
    }

    /// Both ways at once, each direction with an end of its own.
    fn flood(&mut self, head: &str, up: &mut Pattern) -> Tried<()> {
        let (nonce, down) = (number(head, "nonce"), number(head, "down"));
        let stream = &*self.connection.stream;
        thread::scope(|scope| {
            let writer = scope.spawn(move || pour(stream, Pattern::down(nonce), down, nonce));
            let read = self.wire.expect_all(up);
            let wrote = writer.join().unwrap();
            read.and(wrote.map(drop).map_err(Trouble::from))
        })
    }

    /// A message, its answer, the next message. The target says which side ends it.
    fn dialogue(&mut self, head: &str, up: &mut Pattern) -> Tried<()> {
        let nonce = number(head, "nonce");
        let (mut down, mut sizes) = (Pattern::down(nonce), Dialogue::new(nonce));
        let rounds = parameter(head, "rounds").map_or(u64::MAX, |_| number(head, "rounds"));
        for _ in 0..rounds {
            let (message, answer) = sizes.next_round();
            let begun = up.at();
            match self.wire.expect(up, message) {
                Err(Trouble::Broken(error)) if error.kind() == ErrorKind::UnexpectedEof && up.at() == begun => {
                    return Ok(());
                }
                other => other?,
            }
            self.wire.send(&down.make(answer))?;
        }
        match parameter(head, "end") {
            Some("node-resets") => return Ok(()),
            Some(_) => {}
            None => self.wire.half_close()?,
        }
        self.wire.expect_all(up)
    }
}

/// The body of a load that failed.
pub const FAILED: &str = r#"{"loadType":"error","data":{"message":"Please sign in","severity":"common","cause":""}}"#;

/// A node's own figures, in a message and at /vN/stats.
const STATS: &str = r#"{"op":"stats","players":0,"playingPlayers":0,"uptime":61000,"memory":{"free":1,"used":1,"allocated":2,"reservable":2},"cpu":{"cores":2,"systemLoad":0.25,"lavalinkLoad":0.1}}"#;

/// The id of the session that this request opens, as its node has it.
pub fn session_id(nonce: u64) -> String {
    format!("{nonce:016x}")
}

/// A compressed frame.
pub const STRANGE: [u8; 3] = [0xc1, 1, b'x'];

/// What a node sends first on a WebSocket: `ready`, now and then with stats before it, then a strange frame.
fn ready(nonce: u64) -> Vec<u8> {
    let ready = format!(r#"{{"op":"ready","resumed":false,"sessionId":"{}"}}"#, session_id(nonce));
    let ready = if nonce % 3 == 0 { [text_frame(STATS), text_frame(&ready)].concat() } else { text_frame(&ready) };
    [&ready[..], &STRANGE].concat()
}

fn text_frame(payload: &str) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap();
    let head = if length < 126 { vec![0x81, length as u8] } else { [&[0x81, 126], &length.to_be_bytes()[..]].concat() };
    [&head, payload.as_bytes()].concat()
}

fn is_reset(sent: &Tried<()>) -> bool {
    matches!(sent, Err(Trouble::Broken(error)) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe))
}

/// Sends so much of a pattern in pieces of all sizes, then closes this direction.
pub fn pour(stream: &std::net::TcpStream, mut pattern: Pattern, length: u64, seed: u64) -> io::Result<u64> {
    let (mut random, mut sent) = (Random::new(seed), 0);
    while pattern.at() < length {
        let piece = random.size(128 * 1024).min(length - pattern.at());
        send(stream, &pattern.make(piece), &mut sent)?;
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    Ok(sent)
}

/// The sizes of a tunnel's messages and their answers, known to both ends.
pub struct Dialogue(Random);

impl Dialogue {
    pub fn new(nonce: u64) -> Self {
        Self(Random::new(mix(nonce ^ 3)))
    }

    pub fn next_round(&mut self) -> (u64, u64) {
        (self.size(), self.size())
    }

    /// Mostly small as Lavalink's are, now and then huge.
    fn size(&mut self) -> u64 {
        match self.0.between(0, 99) {
            0 => self.0.size(1024 * 1024),
            1..=9 => self.0.size(64 * 1024),
            _ => self.0.size(2048),
        }
    }
}
