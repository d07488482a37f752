//! Connections whose last answer is sent, until their clients end their side. One thread reads from all of them, so that
//! no worker waits and most ends cost no switch between threads. It touches their sockets and the ledger.

use std::io::{self, Read};
use std::sync::mpsc::{self, Receiver, SendError, Sender};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use super::admitted::Admitted;
use super::client::{Client, LINGER, MAX_LINGER_BYTES};
use super::closing_line;
use super::limits::Holds;
use crate::error::{End, is_timeout};

/// The pause between two looks at the clients: at first, and at the most. It doubles while none ends. Most clients have
/// ended their side at the first look.
const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_millis(64);
/// The most reads from one client at each look, and the bytes of a read.
const READS: usize = 16;
const SINK: usize = 16 * 1024;
/// The stack of the thread. Its deepest frames are the logger's.
const STACK: usize = 96 * 1024;

/// A connection whose proxy side is ended. Its ledger row is closed when it is dropped.
pub struct Lingering {
    listener: &'static str,
    admitted: Arc<Admitted>,
    _holds: Holds,
    end: End,
    detail: String,
    until: Instant,
    /// How many bytes may still come.
    left: usize,
}

impl Lingering {
    /// A connection with the reason of its end. It counts for `holds` until it is dropped. Its reads must not wait.
    pub fn new(listener: &'static str, admitted: &Arc<Admitted>, holds: Holds, end: End, detail: String) -> Self {
        let (admitted, until) = (Arc::clone(admitted), Instant::now() + LINGER);
        Self { listener, admitted, _holds: holds, end, detail, until, left: MAX_LINGER_BYTES }
    }

    /// Waits for its end in this thread.
    pub fn wait(mut self) {
        let mut sink = vec![0; SINK];
        while !self.is_over(&mut sink) {
            thread::sleep(LONGEST);
        }
    }

    /// Reads and drops what has come. True once the client has ended its side, or has had its time or its bytes.
    fn is_over(&mut self, sink: &mut [u8]) -> bool {
        let mut client = Client::new(&self.admitted.stream, self.admitted.entry.meter());
        for _ in 0..READS {
            match client.read(sink) {
                Ok(count @ 1..) if count < self.left => self.left -= count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_timeout(&error) => break,
                Ok(_) | Err(_) => return true,
            }
        }
        Instant::now() >= self.until
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        closing_line::close(self.listener, &self.admitted, self.end, &self.detail);
    }
}

/// The way to the thread, which the first connection starts.
#[derive(Default)]
pub struct LingerThread(OnceLock<Option<Sender<Lingering>>>);

impl LingerThread {
    /// Leaves a connection to the thread.
    ///
    /// # Errors
    /// The connection, where no thread could be started.
    pub fn take(&self, connection: Lingering) -> Result<(), Lingering> {
        match self.0.get_or_init(|| start().ok()) {
            Some(thread) => thread.send(connection).map_err(|SendError(connection)| connection),
            None => Err(connection),
        }
    }
}

fn start() -> io::Result<Sender<Lingering>> {
    let (sender, arriving) = mpsc::channel();
    thread::Builder::new().name("linger".to_owned()).stack_size(STACK).spawn(move || linger(&arriving))?;
    Ok(sender)
}

/// Reads from the connections that arrive until their service is gone.
fn linger(arriving: &Receiver<Lingering>) {
    let mut sink = vec![0; SINK];
    while let Ok(first) = arriving.recv() {
        let (mut open, mut pause) = (vec![first], SHORTEST);
        while !open.is_empty() {
            // Only what is longer than the shortest pause is cut short by an arrival, which then wakes this thread.
            if let Ok(next) = arriving.recv_timeout(pause - SHORTEST) {
                open.push(next);
                pause = SHORTEST;
            }
            thread::sleep(SHORTEST);
            open.extend(arriving.try_iter());
            let before = open.len();
            open.retain_mut(|connection| !connection.is_over(&mut sink));
            pause = if open.len() < before { SHORTEST } else { (2 * pause).min(LONGEST) };
        }
    }
}
