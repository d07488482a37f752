//! A plain TCP pipe between a bot library and the proxy that a test can cut.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::support::{find, reset};

pub struct Relay {
    pub address: SocketAddr,
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
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let (open, stop) = (Arc::clone(&open), Arc::clone(&stop));
            move || {
                for client in listener.incoming().map(Result::unwrap) {
                    if stop.load(SeqCst) {
                        return;
                    }
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
        Self { address, open, stop, thread: Some(thread) }
    }

    /// Resets every connection that is open; new ones are welcome.
    pub fn cut(&self) {
        self.cut_during(|| ());
    }

    /// The same, and new ones wait until `act` is done.
    pub fn cut_during(&self, act: impl FnOnce()) {
        let mut open = self.open.lock().unwrap();
        for stream in open.drain(..) {
            reset(&stream);
            let _ = stream.shutdown(Shutdown::Both);
        }
        act();
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
