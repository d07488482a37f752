//! A line to a node that dies after a number of bytes, as a machine does.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

/// What a line that does not die may still carry.
const ENDLESS: i64 = i64::MAX;

/// Listens in a node's stead.
pub struct Doomed {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    target: SocketAddr,
    /// Bytes of the node that may still pass.
    left: AtomicI64,
    is_dead: AtomicBool,
    stop: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

impl Doomed {
    pub fn before(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            target,
            left: AtomicI64::new(ENDLESS),
            is_dead: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            open: Mutex::default(),
        });
        let own = Arc::clone(&shared);
        let thread = Some(thread::spawn(move || accept(&listener, &own)));
        Self { address, shared, thread }
    }

    /// It dies when the node has sent so many more bytes, on all its connections together.
    pub fn dies_after(&self, bytes: i64) {
        self.shared.left.store(bytes, SeqCst);
    }

    pub fn is_dead(&self) -> bool {
        self.shared.is_dead.load(SeqCst)
    }

    pub fn die(&self) {
        self.shared.die();
    }

    /// It takes connections again.
    pub fn revive(&self) {
        self.shared.left.store(ENDLESS, SeqCst);
        self.shared.is_dead.store(false, SeqCst);
    }
}

impl Shared {
    fn die(&self) {
        let open = std::mem::take(&mut *self.open.lock().unwrap());
        self.is_dead.store(true, SeqCst);
        open.iter().for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
    }
}

impl Drop for Doomed {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        self.shared.die();
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming().map(Result::unwrap) {
        if shared.stop.load(SeqCst) {
            return;
        }
        let Ok(server) = TcpStream::connect(shared.target) else { continue };
        let mut open = shared.open.lock().unwrap();
        if shared.is_dead.load(SeqCst) {
            continue;
        }
        client.set_nodelay(true).unwrap();
        server.set_nodelay(true).unwrap();
        open.extend([client.try_clone().unwrap(), server.try_clone().unwrap()]);
        drop(open);
        let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        thread::spawn(move || pipe(from, to, None));
        let shared = Arc::clone(shared);
        thread::spawn(move || pipe(server, client, Some(&shared)));
    }
}

fn pipe(mut from: TcpStream, mut to: TcpStream, shared: Option<&Shared>) {
    let mut piece = [0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut piece) {
        let left = shared.map_or(ENDLESS, |shared| shared.left.fetch_sub(count as i64, SeqCst));
        let passes = count.min(usize::try_from(left).unwrap_or(0));
        if to.write_all(&piece[..passes]).is_err() {
            break;
        }
        if let Some(shared) = shared.filter(|_| passes < count) {
            shared.die();
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
