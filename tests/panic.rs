//! A panic in one worker ends that worker's client and nothing else.
//!
//! The logger is what panics, at the closing line of a client that the test names; a process of its own, since a
//! process has one logger, and the limit of open files is lowered so that a lost slot shows.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;
#[path = "support/tunnels.rs"]
mod tunnels;

use std::sync::Mutex;

use lavaproxy::proxy::carriers::IDLE_TIME;
use log::{LevelFilter, Log, Metadata, Record};
use support::*;
use tunnels::Tunnels;

/// Leaves few slots, by the arithmetic of `admission::capacity`.
const OPEN_FILES: u64 = 384 + 2 * SLOTS;
const SLOTS: u64 = 5;
/// Half of them end a tunnel.
const ROUNDS: u64 = 2 * SLOTS;

static DOOMED: Mutex<Option<String>> = Mutex::new(None);
static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Panicky;

impl Log for Panicky {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let line = record.args().to_string();
        let doomed = DOOMED.lock().unwrap().clone();
        let strikes = doomed.is_some_and(|client| line.starts_with("event=ended ") && line.contains(&client));
        LINES.lock().unwrap().push(line);
        assert!(!strikes, "the logger was set to");
    }

    fn flush(&self) {}
}

/// Lets the worker of this client panic when it ends.
fn doom(client: &Client) {
    *DOOMED.lock().unwrap() = Some(format!("client={} ", client.stream.local_addr().unwrap()));
}

fn panics() -> usize {
    LINES.lock().unwrap().iter().filter(|line| line.starts_with("event=panic ")).count()
}

#[test]
fn a_panic_ends_one_client_and_the_others_keep_their_slots() {
    rlimit::Resource::NOFILE.set(OPEN_FILES, OPEN_FILES).unwrap();
    log::set_logger(&Panicky).unwrap();
    log::set_max_level(LevelFilter::Trace);
    let v3 = Backend::answering(OK);
    let tunnels = Tunnels::start(&[("LAVALINK_V3_PORT", &v3.address.port().to_string())]);
    let proxy = &tunnels.proxy;
    let (mut bystander, mut bystanders_backend) = tunnels.open();
    let mut kept = proxy.connect();
    assert_eq!(kept.get("/v3/info", "").status, 200);
    let mut warm = proxy.connect();
    assert_eq!(warm.get("/v3/info", "").status, 200);
    drop(warm);
    eventually("the first ones left", || proxy.server.ledger().snapshot().totals.active == 2);
    let (threads_before, descriptors_before) = (threads(), descriptors());

    for round in 1..=ROUNDS {
        if round % 2 == 0 {
            let mut client = proxy.connect();
            assert_eq!(client.get("/v3/info", "").status, 200, "round {round}");
            doom(&client);
            client.half_close();
            assert!(client.is_at_end());
        } else {
            let (mut client, mut backend) = tunnels.open();
            doom(&client);
            client.half_close();
            assert!(backend.is_at_end());
            drop(backend);
            assert!(client.is_at_end());
        }
        eventually("the row is closed", || tunnels.ended("internal-error") == round);
        eventually("the panic is logged", || panics() as u64 == round);
        assert_eq!(proxy.server.ledger().snapshot().totals.active, 2);
    }

    bystander.send(b"still here?");
    assert_eq!(bystanders_backend.exactly(11), b"still here?");
    bystanders_backend.send(b"yes");
    assert_eq!(bystander.exactly(3), b"yes");
    assert_eq!(kept.get("/v3/info", "").status, 200);
    let line = LINES.lock().unwrap().iter().find(|line| line.starts_with("event=panic ")).cloned().unwrap();
    assert!(line.contains("listener=proxy ") && line.contains("hint="), "{line}");
    assert!(threads() >= threads_before, "a thread is lost");
    eventually_within(2 * IDLE_TIME, "no thread is left behind", || threads() <= threads_before);
    eventually("no descriptor is left behind", || descriptors() <= descriptors_before);

    // Every slot can be taken again.
    let mut clients: Vec<Client> = (2..SLOTS).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/v3/info", "").status, 200);
    }
}
