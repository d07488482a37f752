//! A pretend Lavalink server: its listener, a thread per connection, and how it starts and stops.
//! It touches one loopback port and the threads it started.

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use socket2::SockRef;

use super::connection;
use super::server::{Registration, Server};
use super::wire::Wire;
use crate::config::Lavalink;

/// Enough for a request head, its parsed fields and the deepest JSON that is read.
const STACK: usize = 256 * 1024;
/// How long a stop waits for the threads of its connections.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// A pretend Lavalink server on a loopback port, stopped on drop.
pub struct Node {
    address: SocketAddr,
    listener: TcpListener,
    server: Arc<Server>,
    threads: Vec<JoinHandle<()>>,
}

impl Node {
    /// Starts a server of `version` that asks for `password`, on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// When there is no port or no thread to be had.
    pub fn start(version: Lavalink, password: &str) -> io::Result<Self> {
        Self::start_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), version, password)
    }

    /// The same at a given address: one that stopped can come back where it was.
    ///
    /// # Errors
    /// When the address is taken, or no thread is to be had.
    pub fn start_at(address: SocketAddr, version: Lavalink, password: &str) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let mut node = Self {
            address: listener.local_addr()?,
            server: Arc::new(Server::new(version, password)),
            threads: Vec::with_capacity(2),
            listener,
        };
        let (listener, server) = (node.listener.try_clone()?, Arc::clone(&node.server));
        let accept = Builder::new().name(format!("demo-{}", version.name()));
        node.threads.push(accept.stack_size(STACK).spawn(move || accept_all(&listener, &server))?);
        let server = Arc::clone(&node.server);
        let clock = Builder::new().name(format!("demo-{}-clock", version.name()));
        node.threads.push(clock.stack_size(STACK).spawn(move || server.sessions.run_clock())?);
        Ok(node)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many WebSocket sessions there are; one that waits to be resumed counts.
    pub fn sessions(&self) -> usize {
        self.server.sessions.count()
    }

    /// Resets every open connection (RST), as a machine that was cut off and came back would.
    pub fn cut(&self) {
        for wire in self.server.wires() {
            wire.reset();
        }
    }

    /// Stops as Lavalink does on SIGTERM: no drain; WebSockets get a bare FIN from v3 and a close 1001 from v4,
    /// everything else a FIN. Returns within two seconds, however slow a client is.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.server.stopping.store(true, Ordering::Relaxed);
        // No other process shares this listener, so shutting it down is the simplest way to wake accept. When
        // that fails, no thread is in accept.
        let _ = SockRef::from(&self.listener).shutdown(Shutdown::Both);
        let wires = self.server.wires();
        wires.iter().for_each(|wire| wire.abandon_writes());
        self.server.sessions.stop(self.server.version == Lavalink::V4);
        wires.iter().for_each(|wire| wire.end());
        drop(wires);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                log::error!("a thread of the pretend {} node panicked", self.server.version.name());
            }
        }
        // A connection that was accepted during the stop is not in the list above.
        self.server.wires().iter().for_each(|wire| wire.end());
        self.server.wait_until_empty(STOP_TIMEOUT);
    }
}

fn accept_all(listener: &TcpListener, server: &Arc<Server>) {
    /// A pause that lets descriptors come back when accept has run out of them.
    const PAUSE: Duration = Duration::from_millis(20);
    while !server.stopping.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, _)) => {
                if let Err(error) = admit(stream, server) {
                    log::warn!("the pretend {} node lost a connection: {error}", server.version.name());
                }
            }
            Err(_) if server.stopping.load(Ordering::Relaxed) => return,
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                log::warn!("the pretend {} node cannot accept: {error}", server.version.name());
                std::thread::sleep(PAUSE);
            }
        }
    }
}

fn admit(stream: TcpStream, server: &Arc<Server>) -> io::Result<()> {
    let wire = Arc::new(Wire::new(stream)?);
    let registration = Registration::new(server, &wire);
    Builder::new().name("demo-connection".to_owned()).stack_size(STACK).spawn(move || {
        connection::serve(&registration.server, &wire);
    })?;
    Ok(())
}
