//! The load of REST requests: so many connections, each with one request under way.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::answer::Answer;
use crate::tally::Tally;
use crate::wire;

/// An exchange that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(20);
const BUFFER: usize = 256 * 1024;

/// What is requested, and how.
#[derive(Clone, Copy)]
pub struct Asking {
    pub target: &'static str,
    pub body: usize,
    pub connections: usize,
    /// One connection for all requests, or a new one for each.
    pub is_kept: bool,
}

/// Connections in their rounds of request and answer.
pub struct Rest {
    asking: Asking,
    /// Those of the connections, which take turns at them.
    requests: Vec<Vec<u8>>,
    address: SocketAddr,
    poll: Poll,
    exchanges: Vec<Exchange>,
    buffer: Vec<u8>,
}

struct Exchange {
    stream: TcpStream,
    is_connected: bool,
    /// No request is under way.
    rests: bool,
    answer: Answer,
    since: Instant,
}

impl Rest {
    pub fn new(address: SocketAddr, asking: Asking) -> io::Result<Self> {
        let request = wire::get(asking.target, if asking.is_kept { "keep-alive" } else { "close" });
        Self::with(address, asking, vec![request])
    }

    /// A kept connection for each of these sessions, which starts a track in a player of it.
    pub fn playing(address: SocketAddr, sessions: &[String]) -> io::Result<Self> {
        let body = wire::player_body().len();
        let asking = Asking { target: wire::PLAYER, body, connections: sessions.len(), is_kept: true };
        Self::with(address, asking, sessions.iter().map(|session| wire::play(session)).collect())
    }

    fn with(address: SocketAddr, asking: Asking, requests: Vec<Vec<u8>>) -> io::Result<Self> {
        let mut rest =
            Self { asking, requests, address, poll: Poll::new()?, exchanges: Vec::new(), buffer: vec![0; BUFFER] };
        for index in 0..asking.connections {
            let exchange = rest.connect(index)?;
            rest.exchanges.push(exchange);
        }
        Ok(rest)
    }

    /// Asks for so long, each connection as fast as it is answered.
    pub fn run(&mut self, duration: Duration) -> io::Result<Tally> {
        let mut tally = Tally::default();
        let mut events = Events::with_capacity(256);
        let start = Instant::now();
        let end = start + duration;
        for index in 0..self.exchanges.len() {
            if self.exchanges[index].rests {
                self.ask_again(index)?;
            }
        }
        while !self.exchanges.iter().all(|exchange| exchange.rests) {
            self.poll.poll(&mut events, Some(PATIENCE))?;
            if events.is_empty() || Instant::now() > end + PATIENCE {
                return Err(io::Error::new(ErrorKind::TimedOut, "a request was not answered"));
            }
            for event in &events {
                if self.advance(event.token().0, &mut tally)? && Instant::now() < end {
                    self.ask_again(event.token().0)?;
                }
            }
        }
        tally.took = start.elapsed();
        Ok(tally)
    }

    fn connect(&self, index: usize) -> io::Result<Exchange> {
        let since = Instant::now();
        let mut stream = TcpStream::connect(self.address)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(index), interest)?;
        Ok(Exchange { stream, is_connected: false, rests: false, answer: Answer::default(), since })
    }

    fn ask_again(&mut self, index: usize) -> io::Result<()> {
        if !self.asking.is_kept {
            self.exchanges[index] = self.connect(index)?;
            return Ok(());
        }
        let exchange = &mut self.exchanges[index];
        (exchange.since, exchange.rests) = (Instant::now(), false);
        exchange.stream.write_all(&self.requests[index % self.requests.len()])
    }

    /// Goes on with an exchange as far as it can; true when it is over.
    fn advance(&mut self, index: usize, tally: &mut Tally) -> io::Result<bool> {
        let exchange = &mut self.exchanges[index];
        if !exchange.is_connected {
            if let Some(error) = exchange.stream.take_error()? {
                return Err(error);
            }
            exchange.stream.set_nodelay(true)?;
            exchange.stream.write_all(&self.requests[index % self.requests.len()])?;
            exchange.is_connected = true;
        }
        loop {
            let count = match exchange.stream.read(&mut self.buffer) {
                Ok(0) if exchange.answer.is_complete() && !self.asking.is_kept => {
                    exchange.rests = true;
                    return Ok(true);
                }
                Ok(0) => return Err(io::Error::new(ErrorKind::UnexpectedEof, "closed in the middle of an answer")),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            };
            if !exchange.answer.take(&self.buffer[..count])? {
                continue;
            }
            if (exchange.answer.status, exchange.answer.body) != (200, self.asking.body) {
                let found = format!("answered {} with {} bytes", exchange.answer.status, exchange.answer.body);
                return Err(io::Error::other(found));
            }
            tally.note(exchange.since.elapsed());
            if self.asking.is_kept {
                exchange.answer = Answer::default();
                exchange.rests = true;
                return Ok(true);
            }
        }
    }
}
