//! A pretend Lavalink on an address of its own that can be restarted: its listener closes and opens again, its
//! connections are cut. What it says on a connection is in `script`.

use std::collections::HashMap;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, RwLock, RwLockReadGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use lavaproxy::config::Lavalink;
use lavaproxy::demo::{self, Close};

use crate::PASSWORD;
use crate::findings::Findings;
use crate::random::Random;
use crate::script;
use crate::support::reset;

/// How long a node's connections are given to end after a cut before they are shut down altogether.
const GRACE: Duration = Duration::from_secs(1);

pub struct Node {
    pub name: &'static str,
    pub version: &'static str,
    pub address: SocketAddr,
    pub findings: Arc<Findings>,
    /// It has the sessions of bots that play.
    pub lavalink: demo::Node,
    connections: Mutex<HashMap<u64, Arc<Connection>>>,
    next: AtomicU64,
    listening: Mutex<Option<Listening>>,
    begun: AtomicU64,
    finished: AtomicU64,
    /// A reader of it is spared a restart for as long as it holds it.
    calm: RwLock<()>,
}

struct Listening {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// One connection as restarts see it.
pub struct Connection {
    pub stream: Arc<TcpStream>,
    /// True for what restarts leave alone.
    pub spared: AtomicBool,
    cut: AtomicBool,
}

impl Connection {
    /// True from the moment that a restart has cut it.
    pub fn is_cut(&self) -> bool {
        self.cut.load(SeqCst)
    }

    fn end(&self, gently: bool) {
        self.cut.store(true, SeqCst);
        reset(&self.stream);
        // Fails where the peer is gone already.
        let _ = self.stream.shutdown(if gently { Shutdown::Read } else { Shutdown::Both });
    }
}

/// How often a node's restarts have begun, and how often they were finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weather(u64, u64);

impl Weather {
    /// That of several nodes together: how often any of them was being restarted, and had been.
    pub fn of<'n>(nodes: impl IntoIterator<Item = &'n Arc<Node>>) -> Self {
        nodes.into_iter().fold(Self(0, 0), |sum, node| {
            let Self(begun, finished) = node.weather();
            Self(sum.0 + begun, sum.1 + finished)
        })
    }

    /// How many restarts have begun since then, those counted that were under way then.
    pub fn restarts_since(self, before: Self) -> u32 {
        u32::try_from(self.0 - before.1).unwrap()
    }

    /// True when no restart was under way at any time from then to now.
    pub fn is_fair_since(self, before: Self) -> bool {
        before.0 == before.1 && self == before
    }
}

impl Node {
    pub fn start(name: &'static str, version: &'static str, address: [u8; 4], findings: &Arc<Findings>) -> Arc<Self> {
        let listener = TcpListener::bind(SocketAddr::from((address, 0))).unwrap();
        let lavalink = if version == "v3" { Lavalink::V3 } else { Lavalink::V4 };
        let lavalink = demo::Node::start(lavalink, PASSWORD).unwrap();
        let node = Arc::new(Self {
            lavalink,
            name,
            version,
            address: listener.local_addr().unwrap(),
            findings: Arc::clone(findings),
            connections: Mutex::default(),
            next: AtomicU64::new(0),
            listening: Mutex::new(None),
            begun: AtomicU64::new(0),
            finished: AtomicU64::new(0),
            calm: RwLock::new(()),
        });
        node.listen(listener);
        node
    }

    fn listen(self: &Arc<Self>, listener: TcpListener) {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let (node, stop) = (Arc::clone(self), Arc::clone(&stop));
            move || {
                while let Ok((stream, _)) = listener.accept() {
                    if stop.load(SeqCst) {
                        return;
                    }
                    node.receive(stream);
                }
            }
        });
        *self.listening.lock().unwrap() = Some(Listening { stop, thread });
    }

    fn receive(self: &Arc<Self>, stream: TcpStream) {
        let (spared, cut) = (AtomicBool::new(false), AtomicBool::new(false));
        let connection = Arc::new(Connection { stream: Arc::new(stream), spared, cut });
        let key = self.next.fetch_add(1, SeqCst);
        self.connections.lock().unwrap().insert(key, Arc::clone(&connection));
        let node = Arc::clone(self);
        let serve = move || {
            script::serve(&node, &connection);
            node.connections.lock().unwrap().remove(&key);
        };
        thread::Builder::new().stack_size(256 * 1024).spawn(serve).unwrap();
    }

    fn stop_listening(&self) {
        let Some(listening) = self.listening.lock().unwrap().take() else { return };
        listening.stop.store(true, SeqCst);
        let _ = TcpStream::connect(self.address);
        listening.thread.join().unwrap();
    }

    /// Closes the listener, cuts all but the spared, stays away for `down`, and opens again.
    pub fn restart(self: &Arc<Self>, down: Duration, random: &mut Random) {
        let _nobody_wants_calm = self.calm.write().unwrap();
        self.begun.fetch_add(1, SeqCst);
        self.stop_listening();
        let gently = random.one_in(2);
        self.lavalink.die(if gently { Close::Fin } else { Close::Reset });
        self.doomed().iter().for_each(|connection| connection.end(gently));
        let cut = Instant::now();
        while !self.doomed().is_empty() {
            if cut.elapsed() > GRACE {
                self.doomed().iter().for_each(|connection| connection.end(false));
            }
            thread::sleep(Duration::from_millis(5));
        }
        thread::sleep(down);
        self.lavalink.revive().unwrap();
        self.listen(TcpListener::bind(self.address).unwrap());
        self.finished.fetch_add(1, SeqCst);
    }

    fn doomed(&self) -> Vec<Arc<Connection>> {
        let connections = self.connections.lock().unwrap();
        connections.values().filter(|connection| !connection.spared.load(SeqCst)).cloned().collect()
    }

    /// No restart while this is held.
    pub fn calm(&self) -> RwLockReadGuard<'_, ()> {
        self.calm.read().unwrap()
    }

    pub fn weather(&self) -> Weather {
        // In this order: a restart that begins between the two must not seem to be finished.
        let finished = self.finished.load(SeqCst);
        Weather(self.begun.load(SeqCst), finished)
    }

    pub fn restarts(&self) -> u64 {
        self.finished.load(SeqCst)
    }
}
