//! Thousands of tunnels that are cut in the middle leave nothing behind: no thread, no descriptor, no row.
//!
//! A process of its own, since it counts what the process holds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;
#[path = "support/tunnels.rs"]
mod tunnels;

use std::io::ErrorKind;

use lavaproxy::proxy::carriers::IDLE_TIME;
use support::*;
use tunnels::Tunnels;

/// Both ends of the clients' and of the backend's connections are in this process.
const DESCRIPTORS_PER_TUNNEL: u64 = 4;
const CROWD: u64 = 2000;
/// As many as fit the backend's queue.
const TOGETHER: usize = 50;
/// Workers that stay for the next client.
const MAX_IDLE_WORKERS: usize = 256;

#[test]
fn two_thousand_tunnels_cut_by_resets_leave_nothing_behind() {
    let limit = rlimit::increase_nofile_limit(u64::MAX).unwrap();
    let crowd = CROWD.min((limit - 1000) / DESCRIPTORS_PER_TUNNEL) / TOGETHER as u64 * TOGETHER as u64;
    if crowd < CROWD {
        tool::say(&format!("skipped in part: only {crowd} tunnels, as the limit of open files is {limit}"));
    }
    let (threads_before, descriptors_before) = (threads(), descriptors());
    let tunnels = Tunnels::start(&[]);
    // One tunnel first, so that what is made on first use is there when the counting starts.
    drop(tunnels.open());
    tunnels.proxy.wait_until_empty();
    eventually("the first tunnel's sockets are closed", || descriptors() <= descriptors_before + 16);
    let (threads_idle, descriptors_idle) = (threads(), descriptors());

    let mut open = Vec::new();
    while (open.len() as u64) < crowd {
        open.append(&mut open_together(&tunnels));
    }
    assert_eq!(tunnels.proxy.server.ledger().snapshot().totals.websockets, crowd);
    let (threads_of_crowd, carriers) = (threads(), 2 * crowd as usize);
    assert!(threads_of_crowd >= carriers, "two threads per tunnel");
    assert!(threads_of_crowd <= threads_idle + carriers + MAX_IDLE_WORKERS, "more workers stay than should");
    for (client, backend) in &mut open {
        client.send(b"cut off");
        backend.send(b"cut off");
    }
    let mut left = Vec::new();
    for (number, (client, backend)) in open.into_iter().enumerate() {
        let (cuts, stays) = if number % 2 == 0 { (client, backend) } else { (backend, client) };
        cuts.reset();
        left.push(stays);
    }
    for mut end in left {
        assert_eq!(end.read_error(), Some(ErrorKind::ConnectionReset));
    }

    tunnels.proxy.wait_until_empty();
    let snapshot = tunnels.proxy.server.ledger().snapshot();
    assert!(snapshot.connections.is_empty());
    assert_eq!(snapshot.usage.iter().map(|row| row.used.active).sum::<u64>(), 0);
    assert_eq!((snapshot.ended["client-reset"], snapshot.ended["backend-reset"]), (crowd / 2, crowd / 2));
    eventually("no descriptor is left", || descriptors() <= descriptors_idle);
    assert!(threads() <= threads_of_crowd, "carriers start each other");
    eventually_within(2 * IDLE_TIME, "no thread is left but idle workers", || {
        threads() <= threads_idle + MAX_IDLE_WORKERS
    });

    drop(tunnels);
    eventually("no thread of the server is left", || threads() <= threads_before);
    eventually("no descriptor of the server is left", || descriptors() <= descriptors_before);
}

/// Opens some tunnels at once, which is faster than one after the other on a busy machine.
fn open_together(tunnels: &Tunnels) -> Vec<(Client, Client)> {
    let handshake = format!("GET /v4/websocket HTTP/1.1\r\nHost: bot\r\nAuthorization: {PASSWORD}\r\n{HANDSHAKE}\r\n");
    let mut clients: Vec<Option<Client>> = (0..TOGETHER).map(|_| Some(tunnels.proxy.connect())).collect();
    for (number, client) in clients.iter_mut().flatten().enumerate() {
        client.send(handshake.as_bytes()).send(&[number as u8]);
    }
    for client in clients.iter_mut().flatten() {
        assert_eq!(client.response().status, 101);
    }
    let pair = |mut backend: Client| {
        let number = usize::from(backend.exactly(1)[0]);
        let mut client = clients[number].take().expect("two backends got the same client");
        backend.send(b"news");
        assert_eq!(client.exactly(4), b"news");
        (client, backend)
    };
    (0..TOGETHER).map(|_| tunnels.end()).map(pair).collect()
}
