//! The load of WebSocket tunnels: opens them, sends messages and checks every byte of the echoes.

use std::cell::Cell;
use std::collections::HashSet;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::answer::Answer;
use crate::message::Message;
use crate::source;
use crate::tally::Tally;
use crate::wire;

/// A handshake or an echo that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(20);
/// The pause between two looks at tunnels that are to close.
const LOOK: Duration = Duration::from_millis(2);
const BUFFER: usize = 64 * 1024;
/// How many addresses many are.
const SOURCES: u8 = 200;

/// Connections that became tunnels.
pub struct Tunnels {
    poll: Poll,
    tunnels: Vec<Tunnel>,
    message: Message,
    buffer: Vec<u8>,
    epoch: Instant,
}

/// The outcome of opening many tunnels.
pub struct Opening {
    pub tunnels: Tunnels,
    /// The answers to those that were refused: status and body.
    pub refusals: Vec<(u16, String)>,
    /// Why the first of those without any answer has none, and how many there are.
    pub broken: Option<(io::Error, usize)>,
    pub took: Duration,
}

struct Tunnel {
    stream: TcpStream,
    /// How long what comes before the first echo is, and as much of it as is there.
    preface: usize,
    said: Vec<u8>,
    /// How much of the next echo is there, and its beginning.
    received: usize,
    beginning: Vec<u8>,
    /// What the socket did not take yet.
    unsent: Vec<u8>,
}

impl Tunnels {
    /// Opens so many at once and wants every one.
    pub fn open(address: SocketAddr, count: usize, payload: usize) -> io::Result<(Self, Duration)> {
        Self::all_of(Opening::ask(address, count, payload)?)
    }

    /// So many for sessions, whose messages are watched where lavaproxy does that.
    pub fn open_sessions(address: SocketAddr, count: usize) -> io::Result<Self> {
        let opening = Opening::ask_by(|| TcpStream::connect(address), count, Message::update())?;
        Ok(Self::all_of(opening)?.0)
    }

    /// The same from many addresses.
    pub fn open_sessions_from_many(address: SocketAddr, count: usize) -> io::Result<Self> {
        Ok(Self::all_of(Opening::ask_from_many(address, count, Message::update())?)?.0)
    }

    /// So many to the v3 node.
    pub fn open_v3(address: SocketAddr, count: usize, payload: usize) -> io::Result<Self> {
        let opening = Opening::ask_by(|| TcpStream::connect(address), count, Message::binary_of_v3(payload))?;
        Ok(Self::all_of(opening)?.0)
    }

    /// The same from this address.
    pub fn open_from(
        from: Ipv4Addr,
        address: SocketAddr,
        count: usize,
        payload: usize,
    ) -> io::Result<(Self, Duration)> {
        Self::all_of(Opening::ask_by(|| source::connect(from, address), count, Message::binary(payload))?)
    }

    /// The same from many addresses.
    pub fn open_from_many(address: SocketAddr, count: usize, payload: usize) -> io::Result<(Self, Duration)> {
        Self::all_of(Opening::ask_from_many(address, count, Message::binary(payload))?)
    }

    fn all_of(opening: Opening) -> io::Result<(Self, Duration)> {
        if let Some((error, count)) = opening.broken {
            return Err(io::Error::new(error.kind(), format!("{count} tunnels were not opened: {error}")));
        }
        match opening.refusals.first() {
            Some((status, body)) => Err(io::Error::other(format!("a tunnel was refused: {status} {body}"))),
            None => Ok((opening.tunnels, opening.took)),
        }
    }

    pub fn count(&self) -> usize {
        self.tunnels.len()
    }

    /// The ids of the sessions, after the first echoes.
    pub fn sessions(&self) -> io::Result<Vec<String>> {
        let id = |tunnel: &Tunnel| Some(wire::session_id(&tunnel.said)?.to_owned());
        let ids = self.tunnels.iter().map(id).collect::<Option<_>>();
        ids.ok_or_else(|| io::Error::other("a session has no ready"))
    }

    /// Each tunnel sends its next message when the last one is back.
    pub fn run_closed(&mut self, duration: Duration) -> io::Result<Tally> {
        let (start, mut tally) = (Instant::now(), Tally::default());
        for index in 0..self.tunnels.len() {
            self.send(index)?;
        }
        let mut under_way = self.tunnels.len();
        let mut events = Events::with_capacity(1024);
        while under_way > 0 {
            self.wait(&mut events, PATIENCE, start + duration + PATIENCE)?;
            for event in &events {
                for _ in 0..self.receive(event, &mut tally)? {
                    if start.elapsed() < duration {
                        self.send(event.token().0)?;
                    } else {
                        under_way -= 1;
                    }
                }
            }
        }
        tally.took = start.elapsed();
        Ok(tally)
    }

    /// Each tunnel sends `rate` messages a second, whether or not they come back; all of them must in the end.
    pub fn run_paced(&mut self, rate: f64, duration: Duration) -> io::Result<Tally> {
        let (start, mut tally) = (Instant::now(), Tally::default());
        let gap = 1.0 / (rate * self.tunnels.len() as f64);
        let total = (duration.as_secs_f64() / gap).ceil() as usize;
        let (mut sent, mut back) = (0, 0);
        let mut events = Events::with_capacity(1024);
        while back < total {
            let due = |number: usize| start + Duration::from_secs_f64(gap * number as f64);
            while sent < total && due(sent) <= Instant::now() {
                self.send(sent % self.tunnels.len())?;
                sent += 1;
            }
            let until_next = due(sent).saturating_duration_since(Instant::now());
            self.wait(&mut events, if sent < total { until_next } else { PATIENCE }, start + duration + PATIENCE)?;
            for event in &events {
                back += self.receive(event, &mut tally)?;
            }
        }
        tally.took = start.elapsed();
        Ok(tally)
    }

    /// Each tunnel sends a message again and again, until one has come back.
    pub fn send_until_all_answer(&mut self, pause: Duration) -> io::Result<()> {
        let (start, mut events, mut tally) = (Instant::now(), Events::with_capacity(1024), Tally::default());
        let mut waiting: HashSet<usize> = (0..self.tunnels.len()).collect();
        while !waiting.is_empty() {
            for index in &waiting {
                self.send(*index)?;
            }
            let next = Instant::now() + pause;
            while !waiting.is_empty() && Instant::now() < next {
                self.wait(&mut events, next.saturating_duration_since(Instant::now()), start + PATIENCE)?;
                for event in &events {
                    if self.receive(event, &mut tally)? > 0 {
                        waiting.remove(&event.token().0);
                    }
                }
            }
        }
        Ok(())
    }

    /// Waits until the other side has ended all of them.
    pub fn wait_until_closed(mut self) -> io::Result<()> {
        let (start, mut events) = (Instant::now(), Events::with_capacity(1024));
        for index in 0..self.tunnels.len() {
            loop {
                match self.tunnels[index].stream.read(&mut self.buffer) {
                    Ok(1..) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        self.wait(&mut events, LOOK, start + PATIENCE)?;
                    }
                    Ok(0) | Err(_) => break,
                }
            }
        }
        Ok(())
    }

    fn wait(&mut self, events: &mut Events, at_most: Duration, bound: Instant) -> io::Result<()> {
        self.poll.poll(events, Some(at_most))?;
        if Instant::now() > bound {
            return Err(io::Error::new(ErrorKind::TimedOut, "messages did not come back"));
        }
        Ok(())
    }

    fn send(&mut self, index: usize) -> io::Result<()> {
        self.message.stamp(self.epoch.elapsed());
        let tunnel = &mut self.tunnels[index];
        tunnel.unsent.extend_from_slice(&self.message.sent);
        tunnel.flush()
    }

    /// Takes what came; the number of echoes that it completed.
    fn receive(&mut self, event: &Event, tally: &mut Tally) -> io::Result<usize> {
        let tunnel = &mut self.tunnels[event.token().0];
        tunnel.flush()?;
        let mut echoes = 0;
        loop {
            let count = match tunnel.stream.read(&mut self.buffer) {
                Ok(0) => return Err(io::Error::new(ErrorKind::UnexpectedEof, "a tunnel was closed")),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(echoes),
                Err(error) => return Err(error),
            };
            echoes += tunnel.check(&self.buffer[..count], &self.message, self.epoch, tally)?;
            if count < self.buffer.len() && !event.is_read_closed() {
                return Ok(echoes);
            }
        }
    }
}

impl Tunnel {
    fn flush(&mut self) -> io::Result<()> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn check(&mut self, mut bytes: &[u8], message: &Message, epoch: Instant, tally: &mut Tally) -> io::Result<usize> {
        let mut echoes = 0;
        let preface = (self.preface - self.said.len()).min(bytes.len());
        self.said.extend_from_slice(&bytes[..preface]);
        bytes = &bytes[preface..];
        while !bytes.is_empty() {
            let beginning = message.beginning();
            let piece = if self.received < beginning {
                let piece = bytes.len().min(beginning - self.received);
                self.beginning.extend_from_slice(&bytes[..piece]);
                piece
            } else {
                let piece = bytes.len().min(message.echo.len() - self.received);
                if bytes[..piece] != message.echo[self.received..self.received + piece] {
                    return Err(io::Error::other("an echo differs from its message"));
                }
                piece
            };
            self.received += piece;
            bytes = &bytes[piece..];
            if self.received == message.echo.len() {
                let sent = message.moment(&self.beginning);
                let sent = sent.ok_or_else(|| io::Error::other("an echo has a strange beginning"))?;
                tally.note(epoch.elapsed().saturating_sub(sent));
                self.received = 0;
                self.beginning.clear();
                echoes += 1;
            }
        }
        Ok(echoes)
    }
}

/// A connection on its way to a tunnel.
struct Asker {
    stream: TcpStream,
    has_asked: bool,
    answer: Answer,
    body: Vec<u8>,
    /// Became a tunnel, was refused, or got no answer.
    fate: Option<io::Result<bool>>,
}

impl Opening {
    /// Asks for so many tunnels at once and waits for all the answers.
    pub fn ask(address: SocketAddr, count: usize, payload: usize) -> io::Result<Self> {
        Self::ask_by(|| TcpStream::connect(address), count, Message::binary(payload))
    }

    /// The same from many addresses, as bots are.
    pub fn ask_from_many(address: SocketAddr, count: usize, message: Message) -> io::Result<Self> {
        let last = Cell::new(0);
        let connect = || {
            last.set(last.get() % SOURCES + 1);
            source::connect(Ipv4Addr::new(127, 0, 5, last.get()), address)
        };
        Self::ask_by(connect, count, message)
    }

    fn ask_by(connect: impl Fn() -> io::Result<TcpStream>, count: usize, message: Message) -> io::Result<Self> {
        let (poll, start) = (Poll::new()?, Instant::now());
        let mut poll = poll;
        let mut askers = Vec::with_capacity(count);
        for index in 0..count {
            let mut stream = connect()?;
            poll.registry().register(&mut stream, Token(index), Interest::READABLE | Interest::WRITABLE)?;
            askers.push(Asker { stream, has_asked: false, answer: Answer::default(), body: Vec::new(), fate: None });
        }
        let (handshake, mut events, mut pending) =
            (wire::handshake(message.target), Events::with_capacity(1024), count);
        while pending > 0 {
            poll.poll(&mut events, Some(PATIENCE))?;
            if events.is_empty() || start.elapsed() > 2 * PATIENCE {
                break;
            }
            for event in &events {
                let asker = &mut askers[event.token().0];
                if asker.fate.is_none() {
                    asker.fate = asker.advance(&handshake).transpose();
                    pending -= usize::from(asker.fate.is_some());
                }
            }
        }
        Self::sort(poll, askers, message, start.elapsed())
    }

    fn sort(poll: Poll, askers: Vec<Asker>, message: Message, took: Duration) -> io::Result<Self> {
        let (mut tunnels, mut refusals, mut broken) = (Vec::new(), Vec::new(), None);
        for mut asker in askers {
            match asker.fate {
                Some(Ok(true)) => {
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    poll.registry().reregister(&mut asker.stream, Token(tunnels.len()), interest)?;
                    let (stream, preface, received) = (asker.stream, message.preface, 0);
                    let (said, beginning, unsent) = Default::default();
                    tunnels.push(Tunnel { stream, preface, said, received, beginning, unsent });
                }
                Some(Ok(false)) => {
                    refusals.push((asker.answer.status, String::from_utf8_lossy(&asker.body).into_owned()));
                }
                Some(Err(error)) => broken = Some(count_one_more(broken, error)),
                None => broken = Some(count_one_more(broken, io::Error::new(ErrorKind::TimedOut, "no answer"))),
            }
        }
        let (buffer, epoch) = (vec![0; BUFFER], Instant::now());
        Ok(Self { tunnels: Tunnels { poll, tunnels, message, buffer, epoch }, refusals, broken, took })
    }
}

fn count_one_more(broken: Option<(io::Error, usize)>, error: io::Error) -> (io::Error, usize) {
    broken.map_or((error, 1), |(first, count)| (first, count + 1))
}

impl Asker {
    /// Goes on as far as it can; whether it became a tunnel, once that is known.
    fn advance(&mut self, handshake: &[u8]) -> io::Result<Option<bool>> {
        if !self.has_asked {
            if let Some(error) = self.stream.take_error()? {
                return Err(error);
            }
            self.stream.set_nodelay(true)?;
            self.stream.write_all(handshake)?;
            self.has_asked = true;
        }
        let mut buffer = [0; 4096];
        loop {
            let count = match self.stream.read(&mut buffer) {
                Ok(0) => return Err(io::Error::new(ErrorKind::UnexpectedEof, "closed without an answer")),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
            };
            self.body.extend_from_slice(&buffer[..count]);
            if self.answer.take(&buffer[..count])? {
                return Ok(Some(self.answer.status == 101));
            }
        }
    }
}
