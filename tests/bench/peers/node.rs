//! The pretend Lavalink, a process of its own: one thread and epoll, so that it is never what is measured.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Ipv4Addr;
use std::rc::Rc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

use crate::wire;

/// Its two listeners' tokens; what is below belongs to connections.
const V3: Token = Token(usize::MAX - 1);
const V4: Token = Token(usize::MAX - 2);
const MAX_FIELDS: usize = 32;
const BUFFER: usize = 64 * 1024;

struct Node {
    poll: Poll,
    connections: Slab<Connection>,
    answers: Answers,
    /// How many connections there were.
    accepted: usize,
    buffer: Vec<u8>,
}

/// What it answers to requests.
struct Answers {
    small: Rc<[u8]>,
    large: Rc<[u8]>,
    player: Rc<[u8]>,
    last_chunk: Rc<[u8]>,
    /// The `ready` of a session comes at once.
    greets: bool,
}

struct Connection {
    number: usize,
    stream: TcpStream,
    received: Vec<u8>,
    /// What the socket did not take yet, each with how much of it is gone.
    queue: VecDeque<(Rc<[u8]>, usize)>,
    is_tunnel: bool,
    /// Its `ready` comes before the first echo.
    owes_ready: bool,
    closes: bool,
}

/// Serves until it is killed, v4 on this port, which may be 0. Says its two ports, v3's and v4's, on standard output. `greets`
/// is true for one whose sessions have their `ready` at once, as lavaproxy needs it for a takeover: the load itself does not
/// take it together with the 101.
pub fn run(port: u16, greets: bool) -> io::Result<()> {
    rlimit::increase_nofile_limit(u64::MAX)?;
    let answers = Answers {
        small: wire::chunked(&wire::small_body()).into(),
        large: wire::chunked(&wire::large_body()).into(),
        player: wire::chunked(&wire::player_body()).into(),
        last_chunk: wire::LAST_CHUNK.into(),
        greets,
    };
    let (poll, connections, buffer) = (Poll::new()?, Slab::new(), vec![0; BUFFER]);
    let mut node = Node { poll, connections, answers, accepted: 0, buffer };
    let (mut v3, mut v4) = (listen(0)?, listen(port)?);
    node.poll.registry().register(&mut v3, V3, Interest::READABLE)?;
    node.poll.registry().register(&mut v4, V4, Interest::READABLE)?;
    println!("{} {}", v3.local_addr()?.port(), v4.local_addr()?.port());
    let mut events = Events::with_capacity(1024);
    loop {
        node.poll.poll(&mut events, None)?;
        for event in &events {
            match event.token() {
                V3 => node.accept(&v3)?,
                V4 => node.accept(&v4)?,
                Token(key) => {
                    if !node.serve(key, event.is_read_closed()) {
                        node.connections.try_remove(key);
                    }
                }
            }
        }
    }
}

fn listen(port: u16) -> io::Result<TcpListener> {
    let address = std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = lavaproxy::listener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(TcpListener::from_std(listener))
}

impl Node {
    fn accept(&mut self, listener: &TcpListener) -> io::Result<()> {
        loop {
            let mut stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            stream.set_nodelay(true)?;
            let place = self.connections.vacant_entry();
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut stream, Token(place.key()), interest)?;
            self.accepted += 1;
            let (number, received, queue) = (self.accepted, Vec::new(), VecDeque::new());
            let (is_tunnel, owes_ready, closes) = (false, false, false);
            place.insert(Connection { number, stream, received, queue, is_tunnel, owes_ready, closes });
        }
    }

    /// False when the connection is over, for whatever reason.
    fn serve(&mut self, key: usize, read_closed: bool) -> bool {
        let Some(connection) = self.connections.get_mut(key) else { return true };
        if connection.flush().is_err() {
            return false;
        }
        loop {
            if connection.closes && connection.queue.is_empty() {
                return false;
            }
            let count = match connection.stream.read(&mut self.buffer) {
                Ok(0) => return false,
                Ok(count) => count,
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            };
            connection.received.extend_from_slice(&self.buffer[..count]);
            let answered = loop {
                match connection.answer_next(&self.answers) {
                    Ok(true) => {}
                    other => break other,
                }
            };
            if answered.is_err() {
                return false;
            }
            // A short read has emptied the socket, so that the next event comes by itself.
            if count < self.buffer.len() && !read_closed && !connection.closes {
                return true;
            }
        }
    }
}

impl Connection {
    /// Answers what came first; false when nothing complete is left.
    fn answer_next(&mut self, answers: &Answers) -> io::Result<bool> {
        if self.is_tunnel {
            return self.echo();
        }
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut request = httparse::Request::new(&mut fields);
        let length = match request.parse(&self.received).map_err(io::Error::other)? {
            httparse::Status::Complete(length) => length,
            httparse::Status::Partial => return Ok(false),
        };
        let field = |name: &str| request.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
        let closes = field("connection").is_some_and(|field| field.value.eq_ignore_ascii_case(b"close"));
        let key = field("sec-websocket-key").map(|field| accept_key(field.value));
        let body = field("content-length").and_then(|field| std::str::from_utf8(field.value).ok()?.parse().ok());
        let answer = match (request.path, request.method) {
            (Some(wire::LARGE), _) => &answers.large,
            (_, Some("PATCH")) => &answers.player,
            _ => &answers.small,
        };
        let owes_ready = request.path == Some(wire::SESSION);
        let whole = length + body.unwrap_or(0);
        if self.received.len() < whole {
            return Ok(false);
        }
        self.received.drain(..whole);
        if let Some(key) = key {
            (self.is_tunnel, self.owes_ready) = (true, owes_ready && !answers.greets);
            self.send(wire::switching(&key).into())?;
            if owes_ready && answers.greets {
                self.send(wire::ready(self.number).into())?;
            }
            return Ok(true);
        }
        self.closes = closes;
        self.send(Rc::clone(answer))?;
        self.send(Rc::clone(&answers.last_chunk))?;
        Ok(true)
    }

    fn echo(&mut self) -> io::Result<bool> {
        let (mut taken, mut answer) = (0, Vec::new());
        while let Some(length) = wire::echo(&self.received[taken..], &mut answer) {
            taken += length;
        }
        self.received.drain(..taken);
        if taken > 0 && std::mem::take(&mut self.owes_ready) {
            self.send(wire::ready(self.number).into())?;
        }
        if taken > 0 {
            self.send(answer.into())?;
        }
        Ok(false)
    }

    fn send(&mut self, bytes: Rc<[u8]>) -> io::Result<()> {
        let is_first = self.queue.is_empty();
        self.queue.push_back((bytes, 0));
        if is_first { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        while let Some((bytes, gone)) = self.queue.front_mut() {
            match self.stream.write(&bytes[*gone..]) {
                Ok(count) => *gone += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
            if *gone == bytes.len() {
                self.queue.pop_front();
            }
        }
        Ok(())
    }
}

fn accept_key(key: &[u8]) -> String {
    let mut digest = sha1_smol::Sha1::new();
    digest.update(key);
    digest.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(digest.digest().bytes())
}
