//! Tunnels with both of their ends in the test's hands.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::io::Read;
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};

use crate::support::{Backend, Client, PATIENCE, Proxy, SWITCHING};

/// A proxy before a backend that agrees to every handshake and hands its end of the tunnel over.
pub struct Tunnels {
    pub proxy: Proxy,
    ends: Mutex<Receiver<Client>>,
    _backend: Backend,
}

impl Tunnels {
    pub fn start(set: &[(&str, &str)]) -> Self {
        Self::prepared(set, |_| {})
    }

    /// `prepare` gets each of the backend's sockets before its 101 is sent.
    pub fn prepared(set: &[(&str, &str)], prepare: impl Fn(&Client) + Send + Sync + 'static) -> Self {
        let (hand_over, ends) = mpsc::channel();
        let hand_over = Mutex::new(hand_over);
        let backend = Backend::start(move |mut end, _| {
            if end.next_head().is_some() {
                prepare(&end);
                end.send(SWITCHING);
                let _ = hand_over.lock().unwrap().send(end);
            }
        });
        let proxy = Proxy::before(backend.address, backend.address, set);
        Self { proxy, ends: Mutex::new(ends), _backend: backend }
    }

    /// A tunnel: the client's end and the backend's.
    pub fn open(&self) -> (Client, Client) {
        self.open_over(self.proxy.connect())
    }

    /// A tunnel over a connection that stands already.
    pub fn open_over(&self, mut client: Client) -> (Client, Client) {
        assert_eq!(client.upgrade("/v4/websocket").status, 101);
        (client, self.end())
    }

    /// The backend's end of the tunnel that was opened last.
    pub fn end(&self) -> Client {
        self.ends.lock().unwrap().recv_timeout(PATIENCE).expect("the backend got no handshake")
    }

    /// How often connections ended for this reason.
    pub fn ended(&self, reason: &str) -> u64 {
        self.proxy.server.ledger().snapshot().ended[reason]
    }
}

/// Bytes of which none can be lost, doubled or moved unseen; different for each `seed`.
pub fn pattern(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    for (word, number) in bytes.chunks_mut(8).zip(seed << 32..) {
        let value = u64::wrapping_mul(number, 0x9E37_79B9_7F4A_7C15).to_le_bytes();
        word.copy_from_slice(&value[..word.len()]);
    }
    bytes
}

/// Compares without printing megabytes.
pub fn assert_same(got: &[u8], expected: &[u8], what: &str) {
    if got != expected {
        let differs = got.iter().zip(expected).position(|(got, expected)| got != expected);
        panic!("{what}: {} bytes, expected {}, the first that differs is {differs:?}", got.len(), expected.len());
    }
}

/// Sends in a thread of its own, so that the test can read meanwhile.
pub fn send_aside(client: &Client, bytes: Vec<u8>) -> JoinHandle<()> {
    let mut sender = Client::over(client.stream.try_clone().unwrap());
    thread::spawn(move || {
        sender.send(&bytes);
    })
}

/// Reads exactly so many bytes, straight from the socket.
pub fn receive(client: &mut Client, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    client.stream.read_exact(&mut bytes).unwrap();
    client.received += count as u64;
    bytes
}
