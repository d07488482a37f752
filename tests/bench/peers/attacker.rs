//! The attacker, a process of its own: one thread and epoll, so that it gets many connections out.

use std::collections::VecDeque;
use std::env;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::str::FromStr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::process::Process;
use crate::source;
use crate::wire;

/// Where it connects from.
const SOURCE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 66);
/// How many wrong passwords get it banned.
pub const BAN_AFTER: usize = 20;
/// Connections that it has under way at a time.
const WIDTH: usize = 100;
/// Half-open heads that it holds at a time; it resets the oldest.
const HELD: usize = 1000;
/// The time that its own ban may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// The longest wait for what comes next.
const PAUSE: Duration = Duration::from_millis(1);
/// Connections a second, where that is not as many as the machine lets it.
const RATE: f64 = 10_000.0;

/// What it does, again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It gets itself banned, then connects and waits for the close.
    Banned,
    /// It guesses passwords, a new connection each.
    Guess,
    /// By turns: a connection that it resets at once, a head that it does not end, a request.
    Flood,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Banned => "banned",
            Self::Guess => "guess",
            Self::Flood => "flood",
        }
    }

    fn rate(self) -> f64 {
        if self == Self::Banned { f64::INFINITY } else { RATE }
    }
}

impl FromStr for Kind {
    type Err = io::Error;

    fn from_str(name: &str) -> io::Result<Self> {
        let kinds = [Self::Banned, Self::Guess, Self::Flood];
        kinds.into_iter().find(|kind| kind.name() == name).ok_or_else(|| io::Error::other("no such attack"))
    }
}

/// What it counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Count {
    /// Connections that are over.
    pub connections: usize,
    /// Those of them that were sent a byte, and those that were answered with a 200.
    pub answered: usize,
    pub served: usize,
    /// How long it took.
    pub took: Duration,
}

impl Count {
    pub fn rate(&self) -> f64 {
        self.connections as f64 / self.took.as_secs_f64()
    }
}

/// The attacker while it runs.
pub struct Attacker {
    process: Process,
}

impl Attacker {
    /// Starts it on its processor and waits until it attacks.
    pub fn start(
        kind: Kind,
        target: SocketAddr,
        duration: Duration,
        processor: usize,
        directory: &Path,
    ) -> io::Result<Self> {
        let mut command = Command::new("taskset");
        command.args(["--cpu-list", &processor.to_string()]).arg(env::current_exe()?);
        command.args(["attacker", kind.name(), &target.to_string(), &duration.as_millis().to_string()]);
        let mut process = Process::start(&command, &directory.join("attacker.log"))?;
        match process.first_line()?.as_str() {
            "attacking" => Ok(Self { process }),
            _ => Err(io::Error::other("the attacker did not start")),
        }
    }

    /// Waits for its end.
    pub fn end(mut self) -> io::Result<Count> {
        let line = self.process.first_line()?;
        let numbers: Vec<_> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
        match numbers[..] {
            [connections, answered, served, millis] => {
                Ok(Count { connections, answered, served, took: Duration::from_millis(millis as u64) })
            }
            _ => Err(io::Error::other(format!("the attacker failed: {line}"))),
        }
    }
}

/// Attacks for so many milliseconds. Says when it begins, and what it counted.
pub fn run(kind: &str, target: &str, millis: &str) -> io::Result<()> {
    let kind: Kind = kind.parse()?;
    let target = target.parse().map_err(io::Error::other)?;
    let duration = Duration::from_millis(millis.parse().map_err(io::Error::other)?);
    if kind == Kind::Banned {
        Attack::new(Kind::Guess, target)?.go_on(PATIENCE, BAN_AFTER)?;
    }
    println!("attacking");
    let Count { connections, answered, served, took } = Attack::new(kind, target)?.go_on(duration, usize::MAX)?;
    println!("{connections} {answered} {served} {}", took.as_millis());
    Ok(())
}

struct Attack {
    kind: Kind,
    target: SocketAddr,
    poll: Poll,
    connections: Vec<Option<Connection>>,
    held: VecDeque<TcpStream>,
    begun: usize,
    count: Count,
}

struct Connection {
    stream: TcpStream,
    number: usize,
    has_sent: bool,
    answer: Vec<u8>,
}

/// What becomes of a connection.
enum Fate {
    GoesOn,
    Over,
    /// It stays open, and another one takes its place.
    Held,
}

impl Attack {
    fn new(kind: Kind, target: SocketAddr) -> io::Result<Self> {
        let (connections, held, count) = ((0..WIDTH).map(|_| None).collect(), VecDeque::new(), Count::default());
        Ok(Self { kind, target, poll: Poll::new()?, connections, held, begun: 0, count })
    }

    /// Attacks for so long, with so many connections at most.
    fn go_on(mut self, duration: Duration, at_most: usize) -> io::Result<Count> {
        let start = Instant::now();
        let mut free: Vec<_> = (0..self.connections.len()).collect();
        let mut events = Events::with_capacity(1024);
        loop {
            let due = at_most.min((self.kind.rate() * start.elapsed().as_secs_f64()).ceil() as usize);
            while self.begun < due {
                let Some(index) = free.pop() else { break };
                self.connections[index] = Some(self.connect(index)?);
            }
            let is_over = self.begun == at_most && free.len() == self.connections.len();
            if is_over || start.elapsed() >= duration {
                self.count.took = start.elapsed();
                return Ok(self.count);
            }
            self.poll.poll(&mut events, Some(PAUSE))?;
            for event in &events {
                let index = event.token().0;
                let fate = self.connections[index].as_mut().map(|connection| connection.advance(self.kind));
                let Some(Fate::Over | Fate::Held) = fate else { continue };
                if let Some(connection) = self.connections[index].take() {
                    free.push(index);
                    self.note(&connection.answer);
                    if matches!(fate, Some(Fate::Held)) {
                        self.hold(connection.stream)?;
                    }
                }
            }
        }
    }

    fn connect(&mut self, index: usize) -> io::Result<Connection> {
        let mut stream = source::connect(SOURCE, self.target)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(index), interest)?;
        self.begun += 1;
        Ok(Connection { stream, number: self.begun, has_sent: false, answer: Vec::new() })
    }

    fn note(&mut self, answer: &[u8]) {
        self.count.connections += 1;
        self.count.answered += usize::from(!answer.is_empty());
        self.count.served += usize::from(answer.starts_with(b"HTTP/1.1 200 "));
    }

    fn hold(&mut self, mut stream: TcpStream) -> io::Result<()> {
        self.poll.registry().deregister(&mut stream)?;
        self.held.push_back(stream);
        if self.held.len() > HELD {
            self.held.pop_front().iter().for_each(reset);
        }
        Ok(())
    }
}

/// Makes the close of this socket a reset.
fn reset(stream: &TcpStream) {
    // It fails when the socket is dead.
    let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

impl Connection {
    fn advance(&mut self, kind: Kind) -> Fate {
        if !self.has_sent {
            self.has_sent = true;
            let sent = match (kind, self.number % 3) {
                (Kind::Banned, _) => Ok(0),
                (Kind::Guess, _) => self.stream.write(&wire::get_with("wrong", wire::SMALL, "close")),
                (Kind::Flood, 0) => {
                    reset(&self.stream);
                    return Fate::Over;
                }
                (Kind::Flood, 1) => {
                    return match self.stream.write(b"GET /v4/info HTTP/1.1\r\nHost: ") {
                        Ok(_) => Fate::Held,
                        Err(_) => Fate::Over,
                    };
                }
                (Kind::Flood, _) => self.stream.write(&wire::get(wire::SMALL, "close")),
            };
            if sent.is_err() {
                return Fate::Over;
            }
        }
        let mut buffer = [0; 4096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Fate::Over,
                Ok(count) => self.answer.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Fate::GoesOn,
                // It was reset.
                Err(_) => return Fate::Over,
            }
        }
    }
}
