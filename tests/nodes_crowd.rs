//! Two thousand bots on three nodes, of which one is killed: each is back soon, on one of the others.
//!
//! A process of its own, for its threads and descriptors.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/nodes.rs"]
mod nodes;
mod support;

use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use lavaproxy::config::Lavalink::V4;
use lavaproxy::demo::Close;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use nodes::{Nodes, row};
use support::{HANDSHAKE, PASSWORD, eventually, find};

const BOTS: usize = 2000;
/// Both ends of a bot's two connections are in this process.
const DESCRIPTORS_PER_BOT: usize = 4;
/// A bound for a busy machine; the time that it took is printed.
const SOON: Duration = Duration::from_secs(30);

/// A bot that reconnects at once when its WebSocket ends.
struct Bot {
    stream: TcpStream,
    got: Vec<u8>,
    sent: bool,
    /// The node that its session is on.
    node: Option<String>,
    connected: usize,
}

/// All bots on one thread, as an event loop would run them.
struct Crowd {
    proxy: SocketAddr,
    poll: Poll,
    bots: Vec<Bot>,
    refusals: Vec<String>,
}

impl Crowd {
    fn start(proxy: SocketAddr, count: usize) -> Self {
        let poll = Poll::new().unwrap();
        let bots = (0..count).map(|number| Self::connect(&poll, proxy, number)).collect();
        Self { proxy, poll, bots, refusals: Vec::new() }
    }

    fn connect(poll: &Poll, proxy: SocketAddr, number: usize) -> Bot {
        let mut stream = TcpStream::connect(proxy).unwrap();
        poll.registry().register(&mut stream, Token(number), Interest::READABLE | Interest::WRITABLE).unwrap();
        Bot { stream, got: Vec::new(), sent: false, node: None, connected: 0 }
    }

    /// Runs them until every one has a session again and `is_over` says so, for `time` at the most.
    fn run(&mut self, time: Duration, mut is_over: impl FnMut(&[Bot]) -> bool) {
        let deadline = Instant::now() + time;
        let mut events = Events::with_capacity(1024);
        while !(self.bots.iter().all(|bot| bot.node.is_some()) && is_over(&self.bots)) {
            assert!(Instant::now() < deadline, "{}", self.why_not_over());
            self.poll.poll(&mut events, Some(Duration::from_millis(50))).unwrap();
            for event in &events {
                self.serve(event.token().0);
            }
        }
    }

    fn why_not_over(&self) -> String {
        let waiting: Vec<&Bot> = self.bots.iter().filter(|bot| bot.node.is_none()).collect();
        let first =
            waiting.first().map(|bot| (bot.sent, bot.connected, String::from_utf8_lossy(&bot.got).into_owned()));
        format!("{} bots have no session; the first has sent, reconnected and got {first:?}", waiting.len())
    }

    fn serve(&mut self, number: usize) {
        use std::io::{ErrorKind, Read, Write};
        let bot = &mut self.bots[number];
        if !bot.sent {
            let head =
                format!("GET /v4/websocket HTTP/1.1\r\nHost: bot\r\nAuthorization: {PASSWORD}\r\n{HANDSHAKE}\r\n");
            match bot.stream.write(head.as_bytes()) {
                Ok(count) => {
                    assert_eq!(count, head.len());
                    bot.sent = true;
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => return,
                Err(error) => return self.again(number, Some(format!("connect: {error}"))),
            }
        }
        let mut piece = [0; 4096];
        loop {
            let bot = &mut self.bots[number];
            match bot.stream.read(&mut piece) {
                Ok(0) => {
                    let refusal = bot.node.is_none().then(|| String::from_utf8_lossy(&bot.got).into_owned());
                    return self.again(number, refusal.map(|got| format!("ended after {got:?}")));
                }
                Ok(count) => {
                    if bot.node.is_none() {
                        bot.got.extend_from_slice(&piece[..count]);
                        bot.node = node_in_ready(&bot.got);
                        if bot.got.starts_with(b"HTTP/1.1 5") {
                            let got = String::from_utf8_lossy(&bot.got).into_owned();
                            return self.again(number, Some(got));
                        }
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => {
                    let refusal = bot.node.is_none().then(|| format!("read: {error}"));
                    return self.again(number, refusal);
                }
            }
        }
    }

    fn again(&mut self, number: usize, refusal: Option<String>) {
        self.refusals.extend(refusal);
        let connected = self.bots[number].connected + 1;
        // It would go on for ever.
        assert!(self.refusals.len() < 10, "{:?}", self.refusals);
        self.bots[number] = Bot { connected, ..Self::connect(&self.poll, self.proxy, number) };
    }

    fn on(&self, node: &str) -> usize {
        self.bots.iter().filter(|bot| bot.node.as_deref() == Some(node)).count()
    }
}

/// The name of the node in the session id, once it has come.
fn node_in_ready(got: &[u8]) -> Option<String> {
    const FIELD: &[u8] = br#""sessionId":""#;
    let start = find(got, FIELD)? + FIELD.len();
    let id = &got[start..];
    let dot = id.iter().position(|byte| *byte == b'.')?;
    Some(String::from_utf8(id[..dot].to_vec()).unwrap())
}

#[test]
fn two_thousand_bots_of_three_nodes_are_back_after_one_is_killed() {
    let limit = rlimit::increase_nofile_limit(u64::MAX).unwrap();
    let count = BOTS.min((usize::try_from(limit).unwrap() - 1000) / DESCRIPTORS_PER_BOT);
    if count < BOTS {
        eprintln!("only {count} bots: the limit of open files is {limit}");
    }
    let nodes = Nodes::start(V4, &["eu1", "eu2", "eu3"]);
    // The nodes are in this process too: on a busy machine their queues are full for a while.
    let proxy = nodes.proxy(&[("CONNECT_TIMEOUT", "60s"), ("SESSION_TAKEOVER", "off")]);
    let web = nodes::web(&proxy);
    let mut crowd = Crowd::start(proxy.address(), count);
    crowd.run(SOON * 2, |_| true);
    assert!(crowd.refusals.is_empty(), "{:?}", crowd.refusals);
    let before: Vec<usize> = ["eu1", "eu2", "eu3"].iter().map(|name| crowd.on(name)).collect();
    assert!(before.iter().all(|on| on.abs_diff(count / 3) <= count / 30), "{before:?}");

    let (killed, when) = mpsc::channel();
    let taken = thread::scope(|scope| {
        scope.spawn(|| {
            killed.send(Instant::now()).unwrap();
            nodes.named("eu2").die(Close::Fin);
        });
        let start = when.recv().unwrap();
        crowd.run(SOON, |bots| bots.iter().all(|bot| bot.node.as_deref() != Some("eu2")));
        start.elapsed()
    });
    let after = [crowd.on("eu1"), crowd.on("eu2"), crowd.on("eu3")];
    println!("{count} tunnels on three nodes, {before:?}; all back {taken:?} after one was killed: {after:?}");
    assert!(crowd.refusals.is_empty(), "{:?}", crowd.refusals);
    assert_eq!(after[1], 0);
    assert!(after[0].abs_diff(after[2]) <= count / 10, "{after:?}");
    let moved = crowd.bots.iter().filter(|bot| bot.connected > 0).count();
    assert_eq!(moved, before[1], "no bot of another node noticed anything");
    eventually("the sessions are counted where they are", || {
        row(web, "eu1")["sessions"] == after[0]
            && row(web, "eu2")["sessions"] == 0
            && row(web, "eu3")["sessions"] == after[2]
    });
    drop(crowd);
    proxy.wait_until_empty();
    eventually("nothing is counted any more", || ["eu1", "eu3"].iter().all(|name| row(web, name)["sessions"] == 0));
}
