//! The threads of tunnels stay for the next tunnels. A process of its own, for its threads.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;
#[path = "support/tunnels.rs"]
mod tunnels;

use std::collections::HashSet;
use std::ffi::OsString;

use support::*;
use tunnels::Tunnels;

const BOTS: usize = 20;

/// Opens a tunnel for each bot, uses it and closes it. The threads that there were meanwhile.
fn storm(tunnels: &Tunnels) -> HashSet<OsString> {
    let mut open: Vec<_> = (0..BOTS).map(|_| tunnels.open()).collect();
    let used = thread_ids();
    for (client, backend) in &mut open {
        client.send(b"ping");
        assert_eq!(backend.exactly(4), b"ping");
        backend.send(b"pong");
        assert_eq!(client.exactly(4), b"pong");
    }
    drop(open);
    tunnels.proxy.wait_until_empty();
    used
}

#[test]
fn bots_that_connect_again_get_the_threads_of_the_tunnels_before() {
    let none = threads();
    let tunnels = Tunnels::start(&[]);
    let idle = threads();
    let mut before = storm(&tunnels);
    let per_tunnel = (before.len() - idle) / BOTS;
    assert_eq!(per_tunnel, 2, "{} threads for {BOTS} tunnels", before.len() - idle);
    // A carrier is idle a moment after its tunnel has ended.
    eventually("a storm starts no thread", || {
        let now = storm(&tunnels);
        let is_same = now.is_subset(&before);
        before = now;
        is_same
    });
    assert!(threads() < idle + 4 * BOTS);
    drop(tunnels);
    eventually("no thread is left", || threads() <= none);
}
