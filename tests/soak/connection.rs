//! One connection of a client to lavaproxy, from its first byte to its row in the clients' ledger.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::IpBindAddressNoPort;
use socket2::{Domain, Socket, Type};

use crate::PASSWORD;
use crate::ledger::{Bounds, Group, Known};
use crate::load::{Load, Open};
use crate::node::Weather;
use crate::random::Pattern;
use crate::script::FAILED;
use crate::wire::{Tried, Trouble, Wire, value};

/// What comes with a body at the most.
const AROUND: u64 = 4096;

pub struct Connection<'l> {
    pub load: &'l Load,
    pub wire: Wire,
    group: Group,
    port: u16,
    /// Requests that were sent, wholly or in part, and those that were answered.
    requested: u64,
    answered: u64,
    /// Bytes of requests that were answered.
    read: u64,
    /// The most that can come back.
    promised: u64,
    in_is_known: bool,
    out_is_known: bool,
    /// The message of the last error of lavaproxy's own.
    pub complaint: String,
    _open: Open<'l>,
}

/// What a client asks a node for.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    pub method: &'a str,
    pub version: &'a str,
    /// The last part of the path.
    pub what: &'a str,
    pub nonce: u64,
    /// The body that comes back.
    pub length: u64,
    /// More of the query, each with a `&` before it.
    pub query: &'a str,
    pub fields: &'a str,
}

impl Request<'_> {
    pub fn path(&self) -> String {
        format!("/{}/{}", self.version, self.what)
    }

    /// The node that must answer, if it is named.
    fn node(&self) -> Option<&str> {
        let field = || self.fields.strip_prefix("Lavalink-Node: ")?.split_once("\r\n");
        let session = || self.what.strip_prefix("sessions/")?.split_once('.');
        field().or_else(session).map(|(node, _)| node)
    }

    /// True when the node of this answer lets the load fail.
    fn fails_at(&self, answer: &str) -> bool {
        self.query.strip_prefix("&fails=").is_some_and(|node| value(answer, "x-name") == Some(node))
    }

    pub fn head(&self) -> String {
        let Self { method, nonce, length, query, fields, .. } = self;
        let path = self.path();
        format!(
            "{method} {path}?nonce={nonce}&length={length}{query} HTTP/1.1\r\nHost: soak\r\nAuthorization: {PASSWORD}\r\n{fields}\r\n"
        )
    }
}

/// What an answer came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// Its connection closes.
    pub closes: bool,
}

impl<'l> Connection<'l> {
    pub fn open(load: &'l Load, group: Group) -> Tried<Self> {
        Self::open_with(load, group, None)
    }

    /// With a small window for what comes, so that a reader that stalls is felt.
    pub fn open_with(load: &'l Load, group: Group, window: Option<usize>) -> Tried<Self> {
        let stream =
            connect(group, load.proxy, window).map_err(|error| Trouble::wrong(format!("no connection: {error}")))?;
        let port = stream.local_addr()?.port();
        Ok(Self {
            load,
            wire: Wire::over(Arc::new(stream))?,
            group,
            port,
            requested: 0,
            answered: 0,
            read: 0,
            promised: AROUND,
            in_is_known: false,
            out_is_known: false,
            complaint: String::new(),
            _open: Open::count(load),
        })
    }

    /// Sends a request's head with what goes in the same write.
    pub fn send_head(&mut self, ask: &Request<'_>, behind: &[u8]) -> io::Result<()> {
        // The lines of the chunks are less than a sixteenth of them.
        self.promise(if ask.method == "GET" { ask.length + ask.length / 16 } else { 0 });
        self.requested += 1;
        self.wire.send(&[ask.head().as_bytes(), behind].concat())
    }

    /// Sends bytes that are a request or, unless `counts`, no head that could be counted as one.
    pub fn send_raw(&mut self, bytes: &[u8], counts: bool) -> io::Result<()> {
        self.promise(0);
        self.requested += u64::from(counts);
        self.wire.send(bytes)
    }

    /// So much may come back, with what is around it.
    pub fn promise(&mut self, bytes: u64) {
        self.promised += bytes + AROUND;
    }

    /// A request without a body and its whole answer, both checked.
    pub fn exchange(&mut self, ask: &Request<'_>) -> Tried<Answer> {
        self.send_head(ask, b"")?;
        self.answer(ask)
    }

    /// Reads the answer to the last request. Every byte must be the one that the request asks for, or belong to
    /// an error of lavaproxy's own.
    pub fn answer(&mut self, ask: &Request<'_>) -> Tried<Answer> {
        let head = self.answer_head()?;
        let answer = read_status(&head)?;
        if value(&head, "x-node").is_none() {
            self.own_error(ask, &head, answer)?;
        } else {
            check_origin(&head, ask)?;
            match (ask.method, answer.status) {
                ("HEAD", 200) if !framing_fits(&head, ask.length) => {
                    return Err(Trouble::wrong(format!("the answer to a HEAD for {}: {head}", ask.length)));
                }
                ("HEAD", 200) | ("DELETE", 204) => {}
                ("GET", 200) if ask.fails_at(&head) => {
                    if self.wire.exactly(FAILED.len())? != FAILED.as_bytes() {
                        return Err(Trouble::wrong("something else than the answer of the load that failed"));
                    }
                    self.load.trouble("a failed load was not tried on another node");
                }
                ("GET", 200) => self.body(&head, ask)?,
                ("POST", 200) if value(&head, "x-took") == Some(&ask.length.to_string()) => {}
                _ => return Err(Trouble::wrong(format!("an answer to {}: {head}", ask.head()))),
            }
        }
        self.answered += 1;
        self.all_was_read();
        Ok(answer)
    }

    /// What was sent so far was answered, hence read.
    pub fn all_was_read(&mut self) {
        self.read = self.wire.sent;
    }

    /// The last request was answered to its end.
    pub fn all_was_answered(&mut self) {
        self.answered = self.requested;
        self.all_was_read();
    }

    /// The answer came before all was read, and lavaproxy need not read the rest to its end.
    pub fn rest_may_be_unread(&mut self) {
        self.read = 0;
    }

    pub fn answer_head(&mut self) -> Tried<String> {
        Ok(self.wire.head()?.ok_or(io::Error::from(io::ErrorKind::UnexpectedEof))?)
    }

    fn body(&mut self, head: &str, ask: &Request<'_>) -> Tried<()> {
        let (length, mut body) = (ask.length, Pattern::down(ask.nonce));
        if !framing_fits(head, length) {
            return Err(Trouble::wrong(format!("an answer of another length than {length}: {head}")));
        }
        if value(head, "content-length").is_some() {
            return self.wire.expect(&mut body, length);
        }
        loop {
            let line = self.wire.line()?;
            let size = u64::from_str_radix(&line, 16).map_err(|_| Trouble::wrong(format!("chunk line {line:?}")))?;
            if body.at() + size > length || (size == 0 && body.at() != length) {
                return Err(Trouble::wrong(format!("a chunk of {size} at {} of {length} bytes", body.at())));
            }
            self.wire.expect(&mut body, size)?;
            if !self.wire.line()?.is_empty() {
                return Err(Trouble::wrong("something else than an empty line after a chunk"));
            }
            if size == 0 {
                return Ok(());
            }
        }
    }

    /// An error of lavaproxy's own must be one in Lavalink's manner, and about this request.
    pub fn own_error(&mut self, ask: &Request<'_>, head: &str, answer: Answer) -> Tried<()> {
        let length: usize = value(head, "content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        self.complaint.clear();
        if ask.method == "HEAD" {
            return Ok(());
        }
        let body = self.wire.exactly(length)?;
        let body: serde_json::Value =
            serde_json::from_slice(&body).map_err(|error| Trouble::wrong(format!("{error} in {head}")))?;
        self.complaint = body["message"].as_str().unwrap_or_default().to_owned();
        let fits = body["status"] == answer.status && body["path"] == ask.path();
        if fits { Ok(()) } else { Err(Trouble::wrong(format!("an error about something else: {body}"))) }
    }

    /// True when the last error of lavaproxy's own says that no connection to a node was to be had.
    pub fn was_unreachable(&self) -> bool {
        self.complaint.contains("cannot be reached")
    }

    /// That no node can be reached must not be the last error while a node of the version was there all the time,
    /// unless the request is for one node.
    pub fn check_complaint(&self, ask: &Request<'_>, before: &[Weather]) -> Tried<()> {
        match self.was_unreachable() && ask.node().is_none() && self.load.had_a_node_since(ask.version, before) {
            true => Err(Trouble::wrong(format!("another node is there: {}", self.complaint))),
            false => Ok(()),
        }
    }

    /// The answer to what is no head that names a path: its status.
    pub fn refusal(&mut self) -> Tried<Answer> {
        let head = self.answer_head()?;
        let answer = read_status(&head)?;
        let length: usize = value(&head, "content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        self.wire.exactly(length)?;
        self.all_was_answered();
        Ok(answer)
    }

    /// Ends our side with nothing under way: all is known.
    pub fn close(mut self) -> Tried<()> {
        (self.in_is_known, self.out_is_known) = (true, true);
        Ok(())
    }

    /// Reads to the end that lavaproxy makes of it after it has read all that was sent.
    pub fn close_at_end(mut self) -> Tried<()> {
        if !self.wire.is_at_end()? {
            return Err(Trouble::wrong("more comes after what must be the last"));
        }
        self.close()
    }

    /// The same where the last answer may have broken off: reads to the end, whatever still comes.
    pub fn close_after_rest(mut self) -> Tried<()> {
        self.wire.read_out()?;
        self.close()
    }

    /// Both directions of a tunnel have ended properly: all is known.
    pub fn close_tunnel(mut self, nonce: u64, handshake: u64) -> Tried<()> {
        (self.in_is_known, self.out_is_known) = (true, true);
        self.load.findings.await_arrival(nonce, self.wire.sent - handshake)
    }

    /// All that was sent to us has come, to a proper end. How much was read of what we sent is unknown.
    pub fn saw_the_end(&mut self) {
        self.out_is_known = true;
    }
}

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        let wire = &self.wire;
        let (requests, bytes_in) = match self.in_is_known {
            true => (Bounds::exactly(self.requested), Bounds::exactly(wire.sent)),
            false => {
                (Bounds { least: self.answered, most: self.requested }, Bounds { least: self.read, most: wire.sent })
            }
        };
        let most = if self.out_is_known { wire.received } else { self.promised };
        let bytes_out = Bounds { least: wire.received, most };
        self.load.ledger.enter((self.group, self.port), Known { requests, bytes_in, bytes_out });
    }
}

fn connect(group: Group, listener: SocketAddr, window: Option<usize>) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    if let Some(window) = window {
        socket.set_recv_buffer_size(window)?;
    }
    // Otherwise each bind seeks a port that no connection of the last minute had to anywhere. When most are taken, that
    // search keeps the processors for seconds.
    setsockopt(&socket, IpBindAddressNoPort, &true)?;
    socket.bind(&SocketAddr::from((group.address(), 0)).into())?;
    socket.connect_timeout(&listener.into(), Duration::from_secs(20))?;
    Ok(socket.into())
}

pub fn read_status(head: &str) -> Tried<Answer> {
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| Trouble::wrong(format!("no status in {head:?}")))?;
    let closes = value(head, "connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    Ok(Answer { status, closes })
}

/// One framing, and it is the right one.
fn framing_fits(head: &str, length: u64) -> bool {
    match (value(head, "content-length"), value(head, "transfer-encoding")) {
        (Some(text), None) => text == length.to_string(),
        (None, coding) => coding == Some("chunked"),
        _ => false,
    }
}

/// The answer must be this request's, from a node of this version, and from the one that the request names.
pub fn check_origin(head: &str, ask: &Request<'_>) -> Tried<()> {
    let fits = value(head, "x-nonce") == Some(&ask.nonce.to_string())
        && value(head, "x-node").is_some_and(|node| node == ask.version)
        && ask.node().is_none_or(|node| value(head, "x-name") == Some(node));
    if fits { Ok(()) } else { Err(Trouble::wrong(format!("another's answer: {head} to {}", ask.head()))) }
}
