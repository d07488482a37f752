//! The corridor that every connection goes through, one file per stage, in their order:
//!
//! ```text
//! accept (here) -> admit (capacity) -> session: proxy_protocol, [ head (client) -> forwarded -> auth -> route
//!     -> forward -> backend (resolve) -> exchange ]* -> tunnel -> ledger
//! ```
//!
//! Worker threads take turns to accept: each idle one blocks in `accept`, and the one that takes the last free
//! turn starts its successor before it serves. A failed accept is waited out; nothing ends the turns but stopping.
//! A tunnel gets two threads of its own, and the worker that led to it is back at the door.

pub mod admit;
pub mod auth;
pub mod backend;
pub mod capacity;
mod client;
mod exchange;
mod forward;
mod forwarded;
mod frames;
pub mod health;
pub mod prober;
mod proxy_protocol;
mod resolve;
mod route;
mod seldom;
mod session;
mod tunnel;

use std::fmt::Display;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use log::{error, warn};
use parking_lot::Mutex;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::config::{Lavalink, Timeouts, Trusted};
use crate::error::Fault;
use crate::ledger::Ledger;
use crate::logfmt::Quoted;
use admit::Admission;
use auth::Auth;
use backend::Backend;
use exchange::{Bounds, Buffers};
use seldom::Seldom;
use session::Visit;

/// The stack of a worker: the corridor's frames, the deepest of them in the parser and the logger.
const STACK: usize = 128 * 1024;
/// Idle workers that stay for the next client; more leave.
const MAX_IDLE: usize = 256;
/// Idle workers that stay when nobody has come for a while.
const MIN_IDLE: usize = 2;
/// How long an idle worker waits for a client before it looks whether it should go.
const TURN: Duration = Duration::from_millis(250);
/// So many turns without a client let a worker go.
const IDLE_TURNS: u32 = 40;
/// Connections that the kernel holds until they are accepted; it caps this at net.core.somaxconn.
const BACKLOG: i32 = 4096;
/// How long to wait after an accept that failed for want of descriptors or memory.
const BACK_OFF: Duration = Duration::from_millis(50);
/// How often a door that was closed is looked at until its workers have left.
const LOOK: Duration = Duration::from_millis(10);
/// How long it is waited for them.
const DESERTED: Duration = Duration::from_secs(2);

/// How a door's own answers sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voice {
    /// Lavalink's error JSON.
    Lavalink,
    /// A line of text.
    Plain,
}

/// Where a door's requests can go.
pub enum Routes {
    /// By version.
    Lavalink {
        /// For requests that name no version on a connection that has used none.
        default: Lavalink,
        /// What there is.
        nodes: Nodes,
    },
    /// To the web pages.
    Monitor {
        /// Where they are.
        pages: Arc<Backend>,
        /// Who stops when lavaproxy does; `/healthz` tells.
        bots: Arc<Admission>,
    },
}

/// The backend of each version that has one.
#[derive(Clone, Default)]
pub struct Nodes {
    /// Lavalink v3.
    pub v3: Option<Arc<Backend>>,
    /// Lavalink v4.
    pub v4: Option<Arc<Backend>>,
}

impl Nodes {
    /// The backend of this version.
    pub fn get(&self, version: Lavalink) -> Option<&Arc<Backend>> {
        match version {
            Lavalink::V3 => self.v3.as_ref(),
            Lavalink::V4 => self.v4.as_ref(),
        }
    }

    /// All there are.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Backend>> {
        [&self.v3, &self.v4].into_iter().flatten()
    }
}

/// What a door goes by. It is swapped whole while the door is open: each request goes by what held when it came.
pub struct Rules {
    /// Who may pass.
    pub auth: Auth,
    /// Where requests go.
    pub routes: Routes,
    /// The fronts whose word counts on where a request comes from.
    pub trusted: Trusted,
    /// True when their connections begin with a PROXY header.
    pub proxy_protocol: bool,
    /// How long to wait for whom.
    pub timeouts: Timeouts,
    /// The largest request body, in bytes.
    pub max_body: u64,
}

impl Rules {
    /// True when a connection from this address must begin with a PROXY header.
    fn expects_header(&self, peer: IpAddr) -> bool {
        self.proxy_protocol && self.trusted.contains(peer)
    }

    fn bounds(&self) -> Bounds {
        Bounds { max_body: self.max_body, pause: self.timeouts.head, response: self.timeouts.response }
    }
}

/// A listener with its rules, its limits and the voice of its errors.
pub struct Door {
    name: &'static str,
    address: SocketAddr,
    /// Gone when the door is closed.
    listener: Mutex<Option<Arc<TcpListener>>>,
    voice: Voice,
    rules: Mutex<Arc<Rules>>,
    admission: Arc<Admission>,
    ledger: Arc<Ledger>,
    workers: AtomicUsize,
    idle: AtomicUsize,
    arriving: AtomicUsize,
    complaints: Seldom,
    wrong_passwords: Seldom,
}

/// What doors of one kind have in common.
pub struct House {
    /// How their own answers sound.
    pub voice: Voice,
    /// The places inside.
    pub admission: Arc<Admission>,
    /// Where use is entered.
    pub ledger: Arc<Ledger>,
}

/// Opens a listening socket with a long queue.
///
/// # Errors
/// When the address is taken or not ours.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

impl Door {
    /// A door that nobody serves yet.
    ///
    /// # Errors
    /// When the listener's options cannot be set.
    pub fn new(name: &'static str, listener: TcpListener, rules: Rules, house: &House) -> io::Result<Arc<Self>> {
        let address = listener.local_addr()?;
        // Linux hands a listener's options down to the connections it accepts, which saves them on each.
        let socket = SockRef::from(&listener);
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_keepalive(&backend::keepalive())?;
        socket.set_tcp_user_timeout(Some(backend::USER_TIMEOUT))?;
        socket.set_write_timeout(Some(rules.timeouts.response))?;
        socket.set_read_timeout(Some(TURN))?;
        Ok(Arc::new(Self {
            name,
            address,
            listener: Mutex::new(Some(Arc::new(listener))),
            voice: house.voice,
            rules: Mutex::new(Arc::new(rules)),
            admission: Arc::clone(&house.admission),
            ledger: Arc::clone(&house.ledger),
            workers: AtomicUsize::new(0),
            idle: AtomicUsize::new(0),
            arriving: AtomicUsize::new(0),
            complaints: Seldom::default(),
            wrong_passwords: Seldom::default(),
        }))
    }

    /// Lets the first worker in; from then on the workers see to their own number.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn open(self: &Arc<Self>) -> io::Result<()> {
        self.start_worker()
    }

    /// Its name in logs and in the API.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Where it listens, or listened.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The listening socket, until the door is closed.
    pub fn listener(&self) -> Option<Arc<TcpListener>> {
        self.listener.lock().clone()
    }

    /// Changes the rules. Requests under way and tunnels go on as they began.
    pub fn change_rules(&self, rules: Rules) {
        let set =
            |listener: Arc<TcpListener>| SockRef::from(&*listener).set_write_timeout(Some(rules.timeouts.response));
        if let Some(Err(error)) = self.listener().map(set) {
            warn!("event=settings door={} warning={}", self.name, Quoted(error));
        }
        *self.rules.lock() = Arc::new(rules);
    }

    fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.lock())
    }

    /// Lets nobody in any more. Workers that wait at the door leave with their turn, and whom they take in by then is
    /// served. The socket closes after them; where another process has it too, it goes on to listen.
    pub fn close(&self) {
        *self.listener.lock() = None;
    }

    /// Waits until every worker has left a closed door, so that nobody is let in and then forgotten.
    pub fn wait_until_deserted(&self) {
        let deadline = Instant::now() + DESERTED;
        while self.idle.load(SeqCst) + self.arriving.load(SeqCst) > 0 && Instant::now() < deadline {
            thread::sleep(LOOK);
        }
    }

    fn check_method(&self, method: &str) -> Result<(), Fault> {
        match method {
            // TRACE would echo the password (Lavalink has it on); CONNECT is for forward proxies.
            "TRACE" | "CONNECT" => Err(Fault::Method {
                allow: match self.voice {
                    Voice::Lavalink => "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
                    Voice::Plain => "GET, HEAD, POST",
                },
            }),
            _ => Ok(()),
        }
    }

    /// Starts a worker that counts as idle already.
    fn start_worker(self: &Arc<Self>) -> io::Result<()> {
        let door = Arc::clone(self);
        self.workers.fetch_add(1, SeqCst);
        self.idle.fetch_add(1, SeqCst);
        let started = thread::Builder::new().name(self.name.to_owned()).stack_size(STACK).spawn(move || {
            door.work();
            door.workers.fetch_sub(1, SeqCst);
        });
        if started.is_err() {
            self.workers.fetch_sub(1, SeqCst);
            self.idle.fetch_sub(1, SeqCst);
        }
        started.map(drop)
    }

    /// A worker's life: turns at the door until there are idle ones enough, or until it closes.
    fn work(self: &Arc<Self>) {
        let mut buffers = Buffers::default();
        let mut turns = 0;
        while let Some(listener) = self.listener() {
            let accepted = listener.accept();
            drop(listener);
            match accepted {
                Ok((stream, client)) => {
                    turns = 0;
                    if !self.receive(stream, client, &mut buffers) {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    turns += 1;
                    if turns >= IDLE_TURNS && self.leave(MIN_IDLE) {
                        return;
                    }
                }
                Err(error) => self.wait_out(&error),
            }
        }
        self.idle.fetch_sub(1, SeqCst);
    }

    /// Takes a client in, with a successor at the door first. False when this worker is not needed any more.
    fn receive(self: &Arc<Self>, stream: TcpStream, client: SocketAddr, buffers: &mut Buffers) -> bool {
        let arriving = Arriving::at(self);
        let was_last = self.idle.fetch_sub(1, SeqCst) == 1;
        // Where workers are few, those who come wait in the kernel's queue until one has time again.
        let may_grow = self.workers.load(SeqCst) < self.admission.max_workers();
        let successor = if was_last && may_grow { self.start_worker() } else { Ok(()) };
        self.contain(&client, || self.serve(stream, client, arriving, successor.is_ok(), buffers));
        buffers.clear();
        if let Err(error) = successor {
            self.complain("no-thread", &error);
        }
        self.idle.fetch_add(1, SeqCst);
        !self.leave(MAX_IDLE)
    }

    /// Does what there is to do for one client; a panic ends that client alone.
    fn contain(&self, client: &impl Display, task: impl FnOnce()) {
        if catch_unwind(AssertUnwindSafe(task)).is_err() {
            error!("event=panic door={} client={client} hint=\"a defect in lavaproxy; please report it\"", self.name);
        }
    }

    fn serve(
        self: &Arc<Self>,
        stream: TcpStream,
        client: SocketAddr,
        arriving: Arriving<'_>,
        has_successor: bool,
        buffers: &mut Buffers,
    ) {
        let stream = Arc::new(stream);
        let entry = self.ledger.open(client, self.name);
        if !has_successor {
            return session::refuse(self, &stream, &entry, &Fault::NoThread, false, buffers);
        }
        let permit = self.admission.admit(Arc::clone(&stream));
        drop(arriving);
        match permit {
            Some(permit) => session::serve(self, Visit { entry, permit, stream }, buffers),
            None => {
                let capacity = self.admission.capacity();
                let fault = Fault::Full { limit: capacity.connections, rule: capacity.rule };
                let patience = self.admission.patience();
                session::refuse(self, &stream, &entry, &fault, patience.is_some(), buffers);
            }
        }
    }

    /// Gives this worker's turn up if more than `enough` are idle.
    fn leave(&self, enough: usize) -> bool {
        self.idle.fetch_update(SeqCst, SeqCst, |idle| (idle > enough).then(|| idle - 1)).is_ok()
    }

    /// An accept can fail for what the client did (it is gone already) or for what we lack; neither ends a door.
    fn wait_out(&self, error: &io::Error) {
        let of_the_client = matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted);
        if !of_the_client {
            self.complain("accept-failed", error);
            thread::sleep(BACK_OFF);
        }
    }

    /// Logs a lack at most once a second.
    fn complain(&self, event: &str, error: &io::Error) {
        if let Some(count) = self.complaints.count() {
            warn!(
                "event={event} door={} count={count} error={} hint=\"raise the limits of open files and threads\"",
                self.name,
                Quoted(error)
            );
        }
    }
}

/// A client on its way from the door to its place.
struct Arriving<'d>(&'d AtomicUsize);

impl<'d> Arriving<'d> {
    fn at(door: &'d Door) -> Self {
        door.arriving.fetch_add(1, SeqCst);
        Self(&door.arriving)
    }
}

impl Drop for Arriving<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}
