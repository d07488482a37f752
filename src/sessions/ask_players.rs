//! Asks a node about a session that was resumed and that this process does not know: another lavaproxy had it, or the
//! process before this one. Until the answer is in, the session cannot be taken over.
//!
//! Threads of their own do it, so that the client's frames do not wait. They are few, also when thousands of bots come
//! back at once; the other sessions wait for their turn. An answer is bounded in time, and in size by SESSION_MEMORY.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use log::info;
use parking_lot::Mutex;

use super::context::LOOK;
use super::kept::Kept;
use super::memory::Memory;
use super::request::{get, patch};
use super::resuming::Resuming;
use super::seat::Place;
use crate::config::Secret;
use crate::error::{Fault, is_timeout};
use crate::http::peer::{Peer, Reply};
use crate::nodes::backend::{Backend, Link};
use crate::nodes::gate::Pass;

/// After `ready` the node sends what its client has missed. What it answers later than that is newer.
const MISSED_TIME: Duration = Duration::from_millis(100);
/// The longest wait at the node's gate.
const GATE_TIME: Duration = Duration::from_secs(60);
/// The longest wait for one answer.
const ANSWER_TIME: Duration = Duration::from_secs(10);
const STACK: usize = 128 * 1024;
/// The most threads that ask at once.
const MAX_THREADS: usize = 16;

/// Why the players are not known.
enum AskError {
    /// The client has left meanwhile.
    Left,
    /// Too many ask this node.
    Gate,
    Connect(Fault),
    Io(io::Error),
    Status(u16),
    NotUnderstood,
}

impl fmt::Display for AskError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Left => out.write_str("its client has left"),
            Self::Gate => write!(out, "the node has had no time for it within {}s", GATE_TIME.as_secs()),
            Self::Connect(fault) => fault.fmt(out),
            Self::Io(error) if is_timeout(error) => {
                write!(out, "the node does not answer within {}s", ANSWER_TIME.as_secs())
            }
            Self::Io(error) => write!(out, "the node's answer breaks off: {error}"),
            Self::Status(status) => write!(out, "the node answers {status}"),
            Self::NotUnderstood => out.write_str("the node's answer is not understood, or a player is over 64 KiB"),
        }
    }
}

/// The sessions that are to be asked about.
#[derive(Default)]
pub(super) struct Askers(Mutex<Queue>);

#[derive(Default)]
struct Queue {
    threads: usize,
    waiting: VecDeque<Arc<Kept>>,
}

impl Askers {
    /// Asks the node that has this session, at once or when it has its turn.
    pub fn ask(self: &Arc<Self>, kept: &Arc<Kept>) {
        {
            let mut queue = self.0.lock();
            queue.waiting.push_back(Arc::clone(kept));
            if queue.threads == MAX_THREADS {
                return;
            }
            queue.threads += 1;
        }
        let own = Arc::clone(self);
        let thread = thread::Builder::new().name("players".to_owned()).stack_size(STACK);
        if let Err(error) = thread.spawn(move || own.work()) {
            self.0.lock().threads -= 1;
            self.give_up(&error);
        }
    }

    /// A thread's life.
    fn work(&self) {
        while let Some(kept) = self.next() {
            run(&kept);
        }
    }

    /// The next session. Without one the thread that has asked for it ends.
    fn next(&self) -> Option<Arc<Kept>> {
        let mut queue = self.0.lock();
        let next = queue.waiting.pop_front();
        queue.threads -= usize::from(next.is_none());
        next
    }

    /// No thread could be started. If there is none at all, nobody asks about those that wait.
    fn give_up(&self, error: &io::Error) {
        let given_up = {
            let mut queue = self.0.lock();
            if queue.threads > 0 { VecDeque::new() } else { std::mem::take(&mut queue.waiting) }
        };
        for kept in given_up {
            kept.refuse(&format!("it was resumed, and its players are not known: no thread can be started: {error}"));
        }
    }
}

fn run(kept: &Kept) {
    let Some(place) = kept.seat().last_place() else { return };
    let started = Instant::now();
    match ask(kept, &place) {
        Ok(_) if kept.is_refused() => {}
        Ok(players) => {
            let (label, ms) = (place.node.label(), started.elapsed().as_millis());
            info!("event=session-known session={} {label} players={players} ms={ms}", place.id);
        }
        Err(_) if kept.client_left() => {}
        Err(error) => kept.refuse(&format!("it was resumed, and its players are not known: {error}")),
    }
}

/// Asks for the session's players and for how it is resumed. A PATCH that changes nothing is answered with the latter.
fn ask(kept: &Kept, place: &Place) -> Result<usize, AskError> {
    kept.seat().pause(MISSED_TIME);
    let _pass = enter(kept, &place.node)?;
    let (node, target) = (&place.node, format!("/{}/sessions/{}", kept.version(), place.id));
    let session = reply(node, kept.memory(), &patch(node, &target, &Secret::new("{}".to_owned())))?;
    kept.note_resuming_of_node(Resuming::of_answer(&session.body));
    kept.with_players(|players| players.begin_list());
    let list = reply(node, kept.memory(), &get(node, &format!("{target}/players")))?;
    kept.note_list(&list.body).ok_or(AskError::NotUnderstood)
}

/// Waits for room at the node's gate.
fn enter(kept: &Kept, node: &Backend) -> Result<Pass, AskError> {
    let until = Instant::now() + GATE_TIME;
    while !kept.client_left() {
        if let Some(pass) = node.load().gate().enter(Instant::now() + LOOK) {
            return Ok(pass);
        }
        if Instant::now() >= until {
            return Err(AskError::Gate);
        }
    }
    Err(AskError::Left)
}

/// The answer to this request, which has the status 200.
fn reply(node: &Backend, memory: &Memory, request: &[u8]) -> Result<Reply, AskError> {
    let link = node.fresh_link(node.connect_timeout()).map_err(AskError::Connect)?;
    let until = Instant::now() + ANSWER_TIME;
    let mut peer = Peer::new(Counted { link: &link, memory, taken: 0 });
    let reply = peer.ask(request, u64::MAX, |counted| counted.link.read_until(until)).map_err(AskError::Io)?;
    if reply.status == 200 { Ok(reply) } else { Err(AskError::Status(reply.status)) }
}

/// A connection that takes the memory for what is read from it, until it is dropped.
struct Counted<'l> {
    link: &'l Link,
    memory: &'l Memory,
    taken: usize,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = (&mut &*self.link).read(buffer)?;
        if !self.memory.change(self.taken, self.taken + count) {
            return Err(io::Error::new(ErrorKind::OutOfMemory, "SESSION_MEMORY is used up"));
        }
        self.taken += count;
        Ok(count)
    }
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&mut &*self.link).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.memory.change(self.taken, 0);
    }
}
