//! The web pages and the API: a tiny_http loop that reads snapshots of the other modules' state and decides nothing.
//! Only `server` uses it: without this module lavaproxy is a proxy without pages.
//!
//! tiny_http listens on a private Unix socket behind the web listener, never on the network. On the network it would
//! abort on absurd lengths, leak threads on `HTTP/2.0` and wait without a limit for a silent client.

mod accounts;
mod answer;
mod api;
mod bans;
mod demo;
mod filter;
mod guard;
mod health;
mod history;
mod lists;
mod metrics;
mod pages;
mod process;
mod rows;
mod security;
mod socket;
mod status;
mod window;

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use log::{error, warn};
use parking_lot::Mutex;
use socket2::{Domain, SockAddr, Socket, Type};
use tiny_http::{Request, Server};

use crate::admission::Admission;
use crate::config::{Lavalink, TakeoverSettings};
use crate::demo::Node;
use crate::error::End;
use crate::history::History;
use crate::ledger::Ledger;
use crate::limits::Limits;
use crate::limits::accounts::Accounts;
use crate::logfmt::Quoted;
use crate::nodes::backend::Backend;
use crate::nodes::pool::is_another_in_rotation;
use crate::sessions::table::Sessions;
use answer::Answer;
use process::Load;
use socket::PrivateSocket;

/// The version that the API and the metrics show.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The paths that need no password with STATUS_PAGE=on: the page and what it loads.
pub const OPEN_WITH_STATUS_PAGE: [&str; 3] = [status::PATH, "/lavaproxy.css", "/icon.svg"];
/// How often the loop checks whether it should stop.
const TURN: Duration = Duration::from_millis(500);
/// How often it checks whether tiny_http still accepts: its accept loop ends for good on one failure.
const CHECK: Duration = Duration::from_secs(1);

/// What the monitor reads.
pub struct Sources {
    /// The ledger of the proxy listeners.
    pub ledger: Arc<Ledger>,
    /// The ledger of the web listener.
    pub web_ledger: Arc<Ledger>,
    /// The slots of the proxy listeners.
    pub proxy: Arc<Admission>,
    /// The proxy listeners: name, address, and the version that one is pinned to.
    pub listeners: Vec<(&'static str, SocketAddr, Option<Lavalink>)>,
    /// True when the web listener has a loopback address.
    pub loopback: bool,
    /// The limits of the proxy listeners, and the bans.
    pub limits: Arc<Limits>,
    /// The sessions, which can be moved to other nodes.
    pub sessions: Arc<Sessions>,
    /// What was used over time.
    pub history: Arc<History>,
    /// The pretend nodes of `--demo`.
    pub demo: OnceLock<Arc<Vec<Node>>>,
    /// What follows from the current settings.
    pub setup: Arc<Mutex<Arc<Setup>>>,
}

/// What a reload of the settings changes.
pub struct Setup {
    /// The nodes, those of v3 first.
    pub nodes: Vec<Arc<Backend>>,
    /// Nodes that a reload removed; they count as long as they have sessions.
    pub leaving: Vec<Arc<Backend>>,
    /// The accounts of bots.
    pub accounts: Arc<Accounts>,
    /// Whether sessions can be moved, and how fast.
    pub takeover: TakeoverSettings,
    /// Every setting with its value, secrets hidden.
    pub settings: Vec<(String, String)>,
}

impl Setup {
    /// The value of a setting as the manual writes it; empty for none.
    fn setting(&self, name: &str) -> &str {
        self.settings.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// True when a node of the same version but this one is in rotation.
    fn has_other(&self, node: &Backend) -> bool {
        is_another_in_rotation(self.nodes.iter().filter(|other| other.version() == node.version()), node)
    }

    /// The nodes of the settings, and those that a reload removed and that still have sessions. No name comes twice.
    fn shown(&self) -> impl Iterator<Item = &Arc<Backend>> {
        let leaving = self.leaving.iter().filter(|node| node.load().sessions() > 0);
        let mut names = HashSet::new();
        self.nodes.iter().chain(leaving).filter(move |node| names.insert(node.name()))
    }
}

impl Sources {
    fn setup(&self) -> Arc<Setup> {
        Arc::clone(&self.setup.lock())
    }
}

/// The running monitor; stops when dropped.
pub struct Monitor {
    site: Arc<Site>,
    thread: Option<JoinHandle<()>>,
}

impl Monitor {
    /// Starts to serve the pages and the API.
    ///
    /// # Errors
    /// When no private socket can be bound, or no thread started.
    pub fn start(sources: Sources) -> io::Result<Self> {
        let (socket, listener) = PrivateSocket::bind()?;
        let site = Arc::new(Site { sources, load: Load::new(), socket, stop: AtomicBool::new(false) });
        let served = Arc::clone(&site);
        let thread = thread::Builder::new().name("monitor".to_owned()).spawn(move || served.run(listener))?;
        Ok(Self { site, thread: Some(thread) })
    }

    /// Lets the API kill these pretend nodes and start them again.
    pub fn show_demo(&self, nodes: &Arc<Vec<Node>>) {
        // There is one demo in a process.
        let _ = self.site.sources.demo.set(Arc::clone(nodes));
    }

    /// Replaces what follows from the settings, after a reload.
    pub fn change_setup(&self, setup: Setup) {
        *self.site.sources.setup.lock() = Arc::new(setup);
    }

    /// The private address that the web listener connects to.
    pub fn address(&self) -> &SockAddr {
        self.site.socket.address()
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.site.stop.store(true, SeqCst);
        if let Some(thread) = self.thread.take() {
            // A panic was logged where it happened.
            let _ = thread.join();
        }
    }
}

/// What the monitor's threads share.
struct Site {
    sources: Sources,
    load: Load,
    socket: PrivateSocket,
    stop: AtomicBool,
}

impl Site {
    /// Serves until `stop` is set; a tiny_http that ended is replaced by another.
    fn run(self: &Arc<Self>, listener: UnixListener) {
        let mut listener = Some(listener);
        while !self.stop.load(SeqCst) {
            let next = match listener.take() {
                Some(listener) => Ok(listener),
                None => self.socket.listen_again(),
            };
            // tiny_http panics where it cannot start a thread.
            let served = catch_unwind(AssertUnwindSafe(|| next.and_then(|listener| self.serve(listener))));
            if let Err(error) = served.unwrap_or_else(|_| Err(io::Error::other("tiny_http panicked"))) {
                warn!("event=monitor-restart error={}", Quoted(error));
                thread::sleep(TURN);
            }
        }
    }

    fn serve(self: &Arc<Self>, listener: UnixListener) -> io::Result<()> {
        let server = Server::from_listener(listener, None).map_err(io::Error::other)?;
        let served = self.answer_all(&server);
        if self.socket.is_abstract() {
            // Its drop connects to a path, and an abstract address has none.
            std::mem::forget(server);
        }
        served
    }

    fn answer_all(self: &Arc<Self>, server: &Server) -> io::Result<()> {
        let mut checked = Instant::now();
        while !self.stop.load(SeqCst) {
            if let Some(request) = server.recv_timeout(TURN)? {
                self.answer(request);
            }
            if checked.elapsed() >= CHECK {
                checked = Instant::now();
                self.load.tick();
                Socket::new(Domain::UNIX, Type::STREAM, None)?.connect(self.socket.address())?;
            }
        }
        Ok(())
    }

    /// Each answer is written by a thread of its own, so that a client that never reads delays no other. The slots of
    /// the web listener bound their number.
    fn answer(self: &Arc<Self>, request: Request) {
        let site = Arc::clone(self);
        // The request goes to the thread once it runs, so that it is still here when none can be started.
        let (sender, receiver) = mpsc::sync_channel::<Request>(1);
        let started = thread::Builder::new().name("monitor-answer".to_owned()).spawn(move || {
            if let Ok(request) = receiver.recv() {
                respond(request, |request| api::answer(request, &site));
            }
        });
        match started {
            // Fails only when the thread is gone.
            Ok(_) => drop(sender.send(request)),
            Err(error) => {
                warn!("event=no-thread listener=web error={}", Quoted(error));
                respond(request, |request| answer::unavailable(request));
            }
        }
    }
}

/// Sends what `answer` returns; a 500 when it panics.
fn respond(mut request: Request, answer: impl FnOnce(&mut Request) -> Answer) {
    let answer = catch_unwind(AssertUnwindSafe(|| answer(&mut request))).unwrap_or_else(|_| {
        error!("event=panic listener=web hint=\"a defect in lavaproxy; please report it\"");
        answer::internal_error(request.url())
    });
    // Fails when the client is gone.
    let _ = request.respond(answer);
}

/// Counts in the order of [`End::ALL`], each with the name of its reason.
fn named(counts: &[u64; End::ALL.len()]) -> impl Iterator<Item = (&'static str, u64)> + '_ {
    End::ALL.iter().map(|end| end.name()).zip(counts.iter().copied())
}
