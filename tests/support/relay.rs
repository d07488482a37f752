//! A plain TCP pipe between a bot library and the proxy that a test can cut.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use crate::support::{eventually, find, reset};

/// Connections that the kernel holds for a relay until they are taken.
const BACKLOG: i32 = 128;
/// The longest wait of a connect that may meet a full backlog.
const PROMPT: Duration = Duration::from_millis(100);

pub struct Relay {
    pub address: SocketAddr,
    listener: TcpListener,
    /// Connections that were taken.
    taken: Arc<AtomicUsize>,
    open: Arc<Mutex<Vec<TcpStream>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Leads to `target`; what follows a 101 on its connection comes `pause` later.
    pub fn to(target: SocketAddr, pause: Duration) -> Self {
        Self::from(Ipv4Addr::UNSPECIFIED, target, pause)
    }

    /// The same, and its connections to `target` come from `source`.
    pub fn from(source: Ipv4Addr, target: SocketAddr, pause: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let open: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let (stop, taken) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let thread = thread::spawn({
            let (open, stop, taken) = (Arc::clone(&open), Arc::clone(&stop), Arc::clone(&taken));
            let listener = listener.try_clone().unwrap();
            move || {
                for client in listener.incoming().map(Result::unwrap) {
                    if stop.load(SeqCst) {
                        return;
                    }
                    taken.fetch_add(1, SeqCst);
                    let mut open = open.lock().unwrap();
                    let server = connect_from(source, target);
                    client.set_nodelay(true).unwrap();
                    server.set_nodelay(true).unwrap();
                    open.extend([client.try_clone().unwrap(), server.try_clone().unwrap()]);
                    drop(open);
                    let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                    thread::spawn(move || pipe(from, to, Duration::ZERO));
                    thread::spawn(move || pipe(server, client, pause));
                }
            }
        });
        Self { address, listener, taken, open, stop, thread: Some(thread) }
    }

    /// Resets every connection that is open; new ones are welcome.
    pub fn cut(&self) {
        self.cut_during(|| ());
    }

    /// The same, and new ones wait until `act` is done.
    pub fn cut_during(&self, act: impl FnOnce()) {
        let mut open = self.open.lock().unwrap();
        cut(&mut open);
        act();
    }

    /// What is open goes on, but the kernel drops the first segment of each new connection; who connects sends it again
    /// after a second, or later.
    pub fn fill(&self) -> Full<'_> {
        let open = self.open.lock().unwrap();
        // The thread waits with the first one, and the backlog has room for one.
        let taken = self.taken.load(SeqCst);
        let first = TcpStream::connect(self.address).unwrap();
        eventually("the relay has taken it", || self.taken.load(SeqCst) > taken);
        SockRef::from(&self.listener).listen(0).unwrap();
        let second = TcpStream::connect_timeout(&self.address, PROMPT).ok();
        Full { listener: &self.listener, open, _held: (first, second) }
    }
}

/// A relay that takes no new connection, until this is dropped.
pub struct Full<'r> {
    listener: &'r TcpListener,
    open: MutexGuard<'r, Vec<TcpStream>>,
    _held: (TcpStream, Option<TcpStream>),
}

impl Full<'_> {
    /// True while somebody waits for a connection.
    pub fn is_wanted(&self) -> bool {
        const SYN_SENT: &str = "02";
        let port = format!(":{:04X}", self.listener.local_addr().unwrap().port());
        let sockets = fs::read_to_string("/proc/self/net/tcp").unwrap();
        sockets.lines().any(|line| {
            let mut fields = line.split_whitespace().skip(2);
            fields.next().is_some_and(|peer| peer.ends_with(&port)) && fields.next() == Some(SYN_SENT)
        })
    }

    /// Resets every connection that is open.
    pub fn cut(&mut self) {
        cut(&mut self.open);
    }
}

impl Drop for Full<'_> {
    fn drop(&mut self) {
        SockRef::from(self.listener).listen(BACKLOG).unwrap();
    }
}

fn cut(open: &mut Vec<TcpStream>) {
    for stream in open.drain(..) {
        reset(&stream);
        let _ = stream.shutdown(Shutdown::Both);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
        self.cut();
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// A connection from an address of this machine's own choice, or from the one that is named.
pub fn connect_from(source: Ipv4Addr, target: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, None).unwrap();
    if !source.is_unspecified() {
        socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
    }
    socket.connect(&target.into()).unwrap();
    socket.into()
}

fn pipe(mut from: TcpStream, mut to: TcpStream, pause: Duration) {
    let mut buffer = [0; 65536];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let piece = &buffer[..count];
        let head =
            if piece.starts_with(b"HTTP/1.1 101 ") { find(piece, b"\r\n\r\n").map_or(0, |end| end + 4) } else { 0 };
        if head > 0 {
            if to.write_all(&piece[..head]).is_err() {
                return;
            }
            thread::sleep(pause);
        }
        if to.write_all(&piece[head..]).is_err() {
            return;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
