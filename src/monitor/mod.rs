//! The web pages and the API: a tiny_http loop that reads the ledger's snapshots and decides nothing.
//!
//! tiny_http stands on a private Unix socket behind the people's door, never on the network: alone it would abort
//! on absurd lengths, leak threads on `HTTP/2.0` and wait for ever on a silent client.

mod api;
mod pages;
mod socket;

use std::io;
use std::os::unix::net::UnixListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use log::{error, warn};
use socket2::{Domain, SockAddr, Socket, Type};
use tiny_http::{Request, Server};

use crate::ledger::Ledger;
use crate::logfmt::Quoted;
use socket::PrivateSocket;

/// How often the loop looks whether it should stop.
const TURN: Duration = Duration::from_millis(500);
/// How often it looks whether tiny_http still accepts: its listener ends for ever on one failure.
const CHECK: Duration = Duration::from_secs(5);

/// The running monitor; stops when dropped.
pub struct Monitor {
    socket: Arc<PrivateSocket>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Monitor {
    /// Starts to serve what `ledger` holds.
    ///
    /// # Errors
    /// When no private socket can be had, or no thread.
    pub fn start(ledger: Arc<Ledger>) -> io::Result<Self> {
        let (socket, listener) = PrivateSocket::bind()?;
        let socket = Arc::new(socket);
        let stop = Arc::new(AtomicBool::new(false));
        let service = Service { ledger, socket: Arc::clone(&socket), stop: Arc::clone(&stop) };
        let thread = thread::Builder::new().name("monitor".to_owned()).spawn(move || service.run(listener))?;
        Ok(Self { socket, stop, thread: Some(thread) })
    }

    /// Where it listens, for the people's door alone.
    pub fn address(&self) -> &SockAddr {
        self.socket.address()
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
        if let Some(thread) = self.thread.take() {
            // A panic was logged where it happened.
            let _ = thread.join();
        }
    }
}

struct Service {
    ledger: Arc<Ledger>,
    socket: Arc<PrivateSocket>,
    stop: Arc<AtomicBool>,
}

impl Service {
    /// Serves until it is told to stop; a tiny_http that ended is replaced by another.
    fn run(&self, listener: UnixListener) {
        let mut listener = Some(listener);
        while !self.stop.load(SeqCst) {
            let next = match listener.take() {
                Some(listener) => Ok(listener),
                None => self.socket.listen_again(),
            };
            // tiny_http panics where it gets no thread.
            let served = catch_unwind(AssertUnwindSafe(|| next.and_then(|listener| self.serve(listener))));
            if let Err(error) = served.unwrap_or_else(|_| Err(io::Error::other("it panicked"))) {
                warn!("event=monitor-restart error={}", Quoted(error));
                thread::sleep(TURN);
            }
        }
    }

    fn serve(&self, listener: UnixListener) -> io::Result<()> {
        let server = Server::from_listener(listener, None).map_err(io::Error::other)?;
        let served = self.answer_all(&server);
        if self.socket.is_abstract() {
            // Its drop connects to a path, which an abstract address has not.
            std::mem::forget(server);
        }
        served
    }

    fn answer_all(&self, server: &Server) -> io::Result<()> {
        let mut checked = Instant::now();
        while !self.stop.load(SeqCst) {
            if let Some(request) = server.recv_timeout(TURN)? {
                self.answer(request);
            }
            if checked.elapsed() >= CHECK {
                checked = Instant::now();
                Socket::new(Domain::UNIX, Type::STREAM, None)?.connect(self.socket.address())?;
            }
        }
        Ok(())
    }

    /// Each answer leaves in a thread of its own: a reader that never reads holds up nobody else. Their number is
    /// bounded by the people's door.
    fn answer(&self, request: Request) {
        let ledger = Arc::clone(&self.ledger);
        let started = thread::Builder::new().name("monitor-answer".to_owned()).spawn(move || {
            let answered = catch_unwind(AssertUnwindSafe(|| respond(request, &ledger)));
            if answered.is_err() {
                error!("event=panic door=web hint=\"a defect in lavaproxy; please report it\"");
            }
        });
        if let Err(error) = started {
            warn!("event=no-thread door=web error={}", Quoted(error));
        }
    }
}

fn respond(request: Request, ledger: &Ledger) {
    let path = request.url().split('?').next().unwrap_or_default().to_owned();
    let response = pages::page(&path).or_else(|| api::answer(&path, ledger)).unwrap_or_else(|| api::not_found(&path));
    // Fails when the reader is gone.
    let _ = request.respond(response);
}
