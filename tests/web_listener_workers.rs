//! Clients that take all workers of the web listener: the next client is still served within two seconds, and the
//! workers end afterwards.
//!
//! A process of its own, because it counts what the process holds. One attack at a time, on one proxy for all.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/attack.rs"]
mod attack;
mod support;
#[path = "support/web.rs"]
mod web;

use std::io::Read;
use std::time::Instant;

use attack::*;
use support::*;
use web::{BASIC, WEB_PASSWORD, ask};

#[test]
fn dozens_of_clients_that_guess_passwords() {
    let attack = Attack::begin();
    let proxy = Proxy::start(&[("WEB_PASSWORD", WEB_PASSWORD)]);
    let listener = proxy.listener("web");
    let guesses = b"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic YTpi\r\n\r\n".repeat(10);
    while_under_fire(
        64,
        |_, _| {
            let mut client = Client::connect(listener);
            let _ = client.try_send(&guesses);
            // A refusal, or the end of a connection that was evicted.
            let _ = client.stream.read(&mut [0; 1024]);
        },
        || {
            for _ in 0..20 {
                let started = Instant::now();
                assert_eq!(ask(&proxy, "GET", "/api/version", BASIC).status, 200);
                assert!(started.elapsed() < SOON, "only after {:?}", started.elapsed());
            }
        },
    );
    drop(proxy);
    attack.leaves_no_mark();
}

#[test]
fn workers_started_for_an_attack_end_after_it() {
    let attack = Attack::begin();
    let held: Vec<_> = (0..100).map(|_| attack.connect()).collect();
    attack.serves();
    drop(held);
    let before = TARGET.1.threads;
    eventually("the workers are gone", || threads() <= before + 4);
    attack.leaves_no_mark();
}
