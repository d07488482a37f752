//! A pretend Lavalink server: its listener, a thread per connection, how it starts, fails and stops.
//! It touches one loopback port and the threads it started.

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use parking_lot::Mutex;
use socket2::{Domain, SockRef, Socket, Type};

use super::behaviour::{Behaviour, Counts, ReportedLoad};
use super::connection;
use super::server::{Registration, Server};
use super::wire::Wire;
use crate::config::Lavalink;

/// Enough for a request head, its parsed fields and the deepest JSON that is read.
const STACK: usize = 256 * 1024;
/// How long a stop waits for the threads of its connections.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);
/// More than std's 128, so that a thousand bots can reconnect at once. The kernel lowers it to its own limit.
const BACKLOG: i32 = 4096;

/// How the sockets of a node that dies are closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// A bare end of the stream, as the kernel does for a killed process.
    Fin,
    /// A reset, as a machine that was cut off and came back does.
    Reset,
}

/// A pretend Lavalink server on a loopback port, stopped on drop.
pub struct Node {
    name: String,
    version: Lavalink,
    password: String,
    address: SocketAddr,
    /// It stays bound while the node does not listen, so that no other program takes the port.
    listener: Arc<TcpListener>,
    behaviour: Arc<Behaviour>,
    running: Mutex<Running>,
}

/// One life of a node.
struct Running {
    server: Arc<Server>,
    /// `None` while the node refuses connections.
    accept: Option<JoinHandle<()>>,
    /// `None` while the node is dead.
    clock: Option<JoinHandle<()>>,
}

impl Node {
    /// Starts a server of `version` that expects `password`, on a free port of 127.0.0.1. Its name is the version's.
    ///
    /// # Errors
    /// When no port or no thread is available.
    pub fn start(version: Lavalink, password: &str) -> io::Result<Self> {
        Self::start_named(version.name(), version, password)
    }

    /// The same with a name.
    ///
    /// # Errors
    /// When no port or no thread is available.
    pub fn start_named(name: &str, version: Lavalink, password: &str) -> io::Result<Self> {
        Self::new(name, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), version, password)
    }

    /// The same at a given address: one that stopped can come back there.
    ///
    /// # Errors
    /// When the address is taken, or no thread is available.
    pub fn start_at(address: SocketAddr, version: Lavalink, password: &str) -> io::Result<Self> {
        Self::new(version.name(), address, version, password)
    }

    /// Starts the nodes of `--demo`: `eu1` and `eu2` of version 4, and `v3`.
    ///
    /// # Errors
    /// When no port or no thread is available.
    pub fn start_demo(password: &str) -> io::Result<Vec<Self>> {
        [("eu1", Lavalink::V4), ("eu2", Lavalink::V4), ("v3", Lavalink::V3)]
            .into_iter()
            .map(|(name, version)| Self::start_named(name, version, password))
            .collect()
    }

    fn new(name: &str, address: SocketAddr, version: Lavalink, password: &str) -> io::Result<Self> {
        // Linux gives up a port that it chose itself when the listener is shut down, but never one that was named.
        let chosen = bound(address)?;
        let listener = bound(chosen.local_addr()?)?;
        drop(chosen);
        let behaviour = Arc::new(Behaviour::new());
        let server = Arc::new(Server::new(version, password, &behaviour));
        let node = Self {
            name: name.to_owned(),
            version,
            password: password.to_owned(),
            address: listener.local_addr()?,
            listener: Arc::new(listener),
            behaviour,
            running: Mutex::new(Running { server, accept: None, clock: None }),
        };
        node.revive()?;
        Ok(node)
    }

    /// The name it was started with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The version of Lavalink that it pretends to be.
    pub fn version(&self) -> Lavalink {
        self.version
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many WebSocket sessions there are; one that waits to be resumed counts.
    pub fn sessions(&self) -> usize {
        self.running.lock().server.sessions.ids().len()
    }

    /// The ids of these sessions, in no order.
    pub fn session_ids(&self) -> Vec<String> {
        self.running.lock().server.sessions.ids()
    }

    /// How many players all sessions have.
    pub fn players(&self) -> usize {
        self.running.lock().server.sessions.players()
    }

    /// What it has received so far.
    pub fn counts(&self) -> Counts {
        self.behaviour.counts()
    }

    /// Dies as a killed process does: all connections are closed at once, without a close frame, the listener is
    /// closed, and the sessions are gone.
    pub fn die(&self, close: Close) {
        let mut running = self.running.lock();
        let server = Arc::clone(&running.server);
        // The kernel closes the sockets of a killed process in the order of their numbers. The listener is the oldest:
        // a client whose connection has ended finds no listener.
        self.stop_listening(&mut running);
        let wires = server.wires();
        // No answer leaves a killed process, not even that a session is gone.
        wires.iter().for_each(|wire| wire.silence());
        wires.iter().for_each(|wire| match close {
            Close::Fin => wire.end(),
            Close::Reset => wire.reset(),
        });
        drop(wires);
        server.stop_pauses();
        server.sessions.stop(false);
        self.behaviour.set_hanging(false);
        join(running.clock.take());
        server.wait_until_empty(STOP_TIMEOUT);
    }

    /// Closes the listener: new connections are refused, the open ones stay.
    pub fn refuse(&self) {
        self.stop_listening(&mut self.running.lock());
    }

    /// Listens again at the same address; a node that died starts without sessions. It does nothing to a node that
    /// listens already.
    ///
    /// # Errors
    /// When the port cannot be listened on, or no thread is available.
    pub fn revive(&self) -> io::Result<()> {
        let mut running = self.running.lock();
        if running.accept.is_some() {
            return Ok(());
        }
        if running.clock.is_none() {
            running.server = Arc::new(Server::new(self.version, &self.password, &self.behaviour));
            let server = Arc::clone(&running.server);
            let clock = Builder::new().name("demo-clock".to_owned()).stack_size(STACK);
            running.clock = Some(clock.spawn(move || server.sessions.run_clock())?);
        }
        SockRef::from(&*self.listener).listen(BACKLOG)?;
        running.server.listening.store(true, Ordering::Relaxed);
        let (listener, server) = (Arc::clone(&self.listener), Arc::clone(&running.server));
        let accept = Builder::new().name("demo-accept".to_owned()).stack_size(STACK);
        running.accept = Some(accept.spawn(move || accept_all(&listener, &server))?);
        Ok(())
    }

    /// Hangs as a stopped process does (SIGSTOP): connections are accepted, nothing is answered, nothing is sent.
    pub fn hang(&self) {
        self.behaviour.set_hanging(true);
    }

    /// Goes on after [`Self::hang`]: what has come meanwhile is answered.
    pub fn resume(&self) {
        self.behaviour.set_hanging(false);
    }

    /// Delays each REST answer; zero ends it.
    pub fn slow_down(&self, delay: Duration) {
        self.behaviour.set_answer_delay(delay);
    }

    /// Lets each `loadtracks` fail as if the source had blocked the node, or ends it.
    pub fn fail_loads(&self, fails: bool) {
        self.behaviour.set_fails_loads(fails);
    }

    /// Refuses every password as a wrong one (REST 403, WebSocket 401), or ends it.
    pub fn refuse_passwords(&self, refuses: bool) {
        self.behaviour.set_refuses_passwords(refuses);
    }

    /// Reports this load instead of its own; `None` ends it.
    pub fn report_load(&self, load: Option<ReportedLoad>) {
        self.behaviour.set_load(load);
    }

    /// How long a player takes to connect to a voice server; the PATCH that names the server is answered after it.
    pub fn set_voice_handshake(&self, length: Duration) {
        self.behaviour.set_voice_handshake(length);
    }

    /// Resets every open connection (RST), as a machine that was cut off and came back would.
    pub fn cut(&self) {
        self.running.lock().server.wires().iter().for_each(|wire| wire.reset());
    }

    /// Stops as Lavalink does on SIGTERM: no drain; WebSockets get a bare FIN from v3 and a close 1001 from v4,
    /// everything else a FIN. Returns within two seconds, however slow a client is.
    pub fn stop(self) {
        drop(self);
    }

    fn stop_listening(&self, running: &mut Running) {
        // A second shutdown would be inherited by the connections of the next life.
        if running.accept.is_none() {
            return;
        }
        running.server.listening.store(false, Ordering::Relaxed);
        // No other process shares this listener, so shutting it down is the simplest way to wake accept. When
        // that fails, no thread is in accept.
        let _ = SockRef::from(&*self.listener).shutdown(Shutdown::Both);
        join(running.accept.take());
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let mut running = self.running.lock();
        let server = Arc::clone(&running.server);
        self.behaviour.set_hanging(false);
        let wires = server.wires();
        wires.iter().for_each(|wire| wire.abandon_writes());
        server.sessions.stop(self.version == Lavalink::V4);
        wires.iter().for_each(|wire| wire.end());
        drop(wires);
        server.stop_pauses();
        self.stop_listening(&mut running);
        join(running.clock.take());
        // A connection that was accepted during the stop is not in the list above.
        server.wires().iter().for_each(|wire| wire.end());
        server.wait_until_empty(STOP_TIMEOUT);
    }
}

fn bound(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn join(thread: Option<JoinHandle<()>>) {
    if thread.is_some_and(|thread| thread.join().is_err()) {
        log::error!("a thread of a pretend node panicked");
    }
}

fn accept_all(listener: &TcpListener, server: &Arc<Server>) {
    /// A pause that lets descriptors come back when accept has run out of them.
    const PAUSE: Duration = Duration::from_millis(20);
    while server.listening.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, _)) => {
                server.behaviour.count(|counts| counts.connections += 1);
                if let Err(error) = admit(stream, server) {
                    log::warn!("the pretend {} node lost a connection: {error}", server.version.name());
                }
            }
            Err(_) if !server.listening.load(Ordering::Relaxed) => return,
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                log::warn!("the pretend {} node cannot accept: {error}", server.version.name());
                std::thread::sleep(PAUSE);
            }
        }
    }
}

fn admit(stream: TcpStream, server: &Arc<Server>) -> io::Result<()> {
    let wire = Arc::new(Wire::new(stream, &server.behaviour)?);
    let registration = Registration::new(server, &wire);
    Builder::new().name("demo-connection".to_owned()).stack_size(STACK).spawn(move || {
        connection::serve(&registration.server, &wire);
    })?;
    Ok(())
}
