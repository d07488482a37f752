//! The accept loop of one listening socket. It knows sockets and threads, and hands each connection to its service.
//!
//! A connection that the limits refuse is closed here with a reset, before a worker is spent on it. A few of them get
//! an answer with the reason.
//!
//! Worker threads take turns: each idle worker blocks in `accept`. The worker that takes the last idle turn starts
//! another worker before it serves its client. After a failed accept a worker pauses and tries again; only a stop ends
//! the turns. A tunnel gets two threads of its own, and its worker returns to the accept loop.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use log::warn;
use parking_lot::Mutex;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::admission::LingerPermit;
use crate::error::Fault;
use crate::log_limit::LogLimit;
use crate::logfmt::Quoted;
use crate::nodes::backend;
use crate::proxy::Buffers;
use crate::proxy::admitted::Admitted;
use crate::proxy::connection;
use crate::proxy::limits::Holds;
use crate::proxy::refuse;
use crate::proxy::service::{Rules, Service};

/// The stack of a worker. Its deepest frames are in the head parser and the logger.
const STACK: usize = 128 * 1024;
/// Idle workers that stay for the next client, at all listeners with the same slots together; more leave.
const MAX_IDLE: usize = 256;
/// Idle workers that stay when no client has connected for a while.
const MIN_IDLE: usize = 2;
/// Idle workers that stay while clients are refused. Each refused client would wake the next of several.
const MIN_REFUSING: usize = 1;
/// How long an idle worker blocks in `accept` before it checks whether to leave.
const TURN: Duration = Duration::from_millis(500);
/// After so many turns without a client a worker leaves.
const IDLE_TURNS: u32 = 20;
/// Connections that the kernel holds until they are accepted; it caps this at net.core.somaxconn.
const BACKLOG: i32 = 4096;
/// The pause after an accept that failed because descriptors or memory are short.
const BACK_OFF: Duration = Duration::from_millis(50);
/// The pause between two checks whether workers of a closed listener still accept.
const LOOK: Duration = Duration::from_millis(10);
/// The longest wait for these workers.
const DESERTED: Duration = Duration::from_secs(2);

/// A listening socket with its workers.
pub struct Listener {
    service: Arc<Service>,
    address: SocketAddr,
    /// `None` once the listener is closed.
    socket: Mutex<Option<Arc<TcpListener>>>,
    workers: AtomicUsize,
    /// Its share of [`MAX_IDLE`].
    max_idle: usize,
    idle: AtomicUsize,
    arriving: AtomicUsize,
    shortages: LogLimit,
}

/// Opens a listening socket with a long accept queue.
///
/// # Errors
/// When the address is in use or not an address of this machine.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

impl Listener {
    /// A listener without workers. It is one of `sharing` listeners with the same slots.
    ///
    /// # Errors
    /// When the socket's options cannot be set.
    pub fn new(socket: TcpListener, service: Arc<Service>, sharing: usize) -> io::Result<Arc<Self>> {
        let address = socket.local_addr()?;
        // On Linux accepted connections inherit the listener's options, which saves system calls on each.
        let options = SockRef::from(&socket);
        options.set_tcp_nodelay(true)?;
        options.set_tcp_keepalive(&backend::keepalive())?;
        options.set_tcp_user_timeout(Some(backend::USER_TIMEOUT))?;
        options.set_write_timeout(Some(service.rules().timeouts.response))?;
        options.set_read_timeout(Some(TURN))?;
        Ok(Arc::new(Self {
            service,
            address,
            socket: Mutex::new(Some(Arc::new(socket))),
            workers: AtomicUsize::new(0),
            max_idle: MAX_IDLE / sharing.max(1),
            idle: AtomicUsize::new(0),
            arriving: AtomicUsize::new(0),
            shortages: LogLimit::default(),
        }))
    }

    /// Starts the first worker. From then on the workers start and end each other.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn open(self: &Arc<Self>) -> io::Result<()> {
        self.start_worker()
    }

    /// Its name in logs and in the API.
    pub fn name(&self) -> &'static str {
        self.service.name()
    }

    /// The address of the socket, also once it is closed.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The listening socket, until the listener is closed.
    pub fn socket(&self) -> Option<Arc<TcpListener>> {
        self.socket.lock().clone()
    }

    /// Changes the rules of its service. Requests under way and tunnels keep the old ones.
    pub fn change_rules(&self, rules: Rules) {
        let set = |socket: Arc<TcpListener>| SockRef::from(&*socket).set_write_timeout(Some(rules.timeouts.response));
        if let Some(Err(error)) = self.socket().map(set) {
            warn!("event=settings listener={} warning={}", self.name(), Quoted(error));
        }
        self.service.change_rules(rules);
    }

    /// Stops accepting. Each worker leaves at the end of its turn and still serves a client that it accepts until then.
    /// The socket closes after the last one. A successor with the same socket goes on to listen.
    pub fn close(&self) {
        *self.socket.lock() = None;
    }

    /// Waits until no worker of a closed listener accepts any more, so that every accepted client has its slot.
    pub fn wait_until_deserted(&self) {
        let deadline = Instant::now() + DESERTED;
        while self.idle.load(SeqCst) + self.arriving.load(SeqCst) > 0 && Instant::now() < deadline {
            thread::sleep(LOOK);
        }
    }

    /// Starts a worker. Its caller has counted it as idle already.
    fn start_worker(self: &Arc<Self>) -> io::Result<()> {
        let listener = Arc::clone(self);
        self.workers.fetch_add(1, SeqCst);
        self.idle.fetch_add(1, SeqCst);
        let started = thread::Builder::new().name(self.name().to_owned()).stack_size(STACK).spawn(move || {
            listener.work();
            listener.workers.fetch_sub(1, SeqCst);
        });
        if started.is_err() {
            self.workers.fetch_sub(1, SeqCst);
            self.idle.fetch_sub(1, SeqCst);
        }
        started.map(drop)
    }

    /// A worker's life: it accepts and serves until enough others are idle, or until the listener closes.
    fn work(self: &Arc<Self>) {
        let mut buffers = Buffers::default();
        let mut turns = 0;
        while let Some(socket) = self.socket() {
            let accepted = socket.accept();
            drop(socket);
            match accepted {
                Ok((stream, client)) => {
                    let Some(screened) = self.screen(&stream, client) else {
                        // Whoever is refused again and again would keep all workers.
                        if self.leave(MIN_REFUSING) {
                            return;
                        }
                        // A row of such clients must not hold up the threads that have bytes to carry.
                        thread::yield_now();
                        continue;
                    };
                    turns = 0;
                    if !self.receive(stream, client, screened, &mut buffers) {
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

    /// The result of the limits for a new connection. `None` for one that gets no answer and is reset.
    fn screen(&self, stream: &TcpStream, client: SocketAddr) -> Option<Screened<'_>> {
        let refused = match self.service.screen(client) {
            Ok(Some(hold)) => return Some(Screened::Admit(hold)),
            Ok(None) => None,
            Err(fault) => self.service.admission().linger_permit().map(|permit| Screened::Refuse(fault, permit)),
        };
        if refused.is_none() {
            backend::close_with_reset(stream);
        }
        refused
    }

    /// Makes sure that another worker accepts, then serves the client. False when this worker is not needed any more.
    fn receive(
        self: &Arc<Self>,
        stream: TcpStream,
        client: SocketAddr,
        screened: Screened<'_>,
        buffers: &mut Buffers,
    ) -> bool {
        let arriving = Arriving::at(self);
        let was_last = self.idle.fetch_sub(1, SeqCst) == 1;
        // At the limit of workers, clients wait in the kernel's queue until a worker is free.
        let may_grow = self.workers.load(SeqCst) < self.service.admission().max_workers();
        let successor = if was_last && may_grow { self.start_worker() } else { Ok(()) };
        self.service.contain(&client, || match screened {
            Screened::Admit(holds) => self.serve(stream, client, holds, arriving, successor.is_ok(), buffers),
            Screened::Refuse(fault, _permit) => {
                let entry = self.service.ledger().open(client, self.service.name());
                refuse::connection(&self.service, &stream, &entry, &fault, true, buffers);
            }
        });
        buffers.clear();
        if let Err(error) = successor {
            self.log_shortage("no-thread", &error);
        }
        self.idle.fetch_add(1, SeqCst);
        !self.leave(self.max_idle)
    }

    fn serve(
        &self,
        stream: TcpStream,
        client: SocketAddr,
        holds: Holds,
        arriving: Arriving<'_>,
        has_successor: bool,
        buffers: &mut Buffers,
    ) {
        let service = &self.service;
        let stream = Arc::new(stream);
        let entry = service.ledger().open(client, service.name());
        if !has_successor {
            return refuse::connection(service, &stream, &entry, &Fault::NoThread, false, buffers);
        }
        let permit = service.admission().admit(Arc::clone(&stream));
        drop(arriving);
        match permit {
            Some(permit) => {
                let admitted = Admitted { entry, permit, stream, holds: Mutex::default() };
                connection::serve(service, admitted, holds, buffers);
            }
            None => {
                let fault = service.admission().capacity().fault();
                let linger = service.admission().linger_permit();
                refuse::connection(service, &stream, &entry, &fault, linger.is_some(), buffers);
            }
        }
    }

    /// Ends this worker's turn in `accept`. True, and the worker leaves, if more than `enough` are idle.
    fn leave(&self, enough: usize) -> bool {
        self.idle.fetch_update(SeqCst, SeqCst, |idle| (idle > enough).then(|| idle - 1)).is_ok()
    }

    /// Pauses after a failed accept if descriptors or memory are short. An accept also fails when its client is gone
    /// already. Neither ends a listener.
    fn wait_out(&self, error: &io::Error) {
        let of_the_client = matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted);
        if !of_the_client {
            self.log_shortage("accept-failed", error);
            thread::sleep(BACK_OFF);
        }
    }

    /// Logs a shortage at most once a second.
    fn log_shortage(&self, event: &str, error: &io::Error) {
        if let Some(count) = self.shortages.count() {
            warn!(
                "event={event} listener={} count={count} error={} hint=\"raise the limits of open files and threads\"",
                self.name(),
                Quoted(error)
            );
        }
    }
}

/// What the limits say of a new connection.
enum Screened<'l> {
    Admit(Holds),
    Refuse(Fault, LingerPermit<'l>),
}

/// A client that is accepted and has no slot yet.
struct Arriving<'l>(&'l AtomicUsize);

impl<'l> Arriving<'l> {
    fn at(listener: &'l Listener) -> Self {
        listener.arriving.fetch_add(1, SeqCst);
        Self(&listener.arriving)
    }
}

impl Drop for Arriving<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}
