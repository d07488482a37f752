//! What the first answers to loads cost that wait while another node is asked.
//!
//! A process of its own, since it measures its memory.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/nodes.rs"]
mod nodes;
mod support;

use std::collections::HashSet;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;

use lavaproxy::config::Lavalink::V4;
use nodes::{FakeNode, list, ok};
use support::eventually;

const FAILED: &str = r#"{"loadType":"error","data":{"message":"blocked"}}"#;
const BOTS: usize = 16;
/// Of each first answer.
const SIZE: usize = 8 * 1024 * 1024;
/// What may be held of each first answer.
const MAX_HELD: u64 = 64 * 1024;
/// What the threads and sockets of the bots and of the nodes may cost; far less than the answers.
const SLACK: u64 = 12 * 1024 * 1024;

fn memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[test]
fn first_answers_that_wait_cost_no_memory() {
    let (gate, waiting) = (Arc::<Mutex<()>>::default(), Arc::<AtomicUsize>::default());
    let failed: Arc<Mutex<HashSet<Vec<u8>>>> = Arc::default();
    let closed = gate.lock().unwrap();
    let start = || {
        let (gate, waiting, failed) = (Arc::clone(&gate), Arc::clone(&waiting), Arc::clone(&failed));
        FakeNode::start(move |client, request| {
            let line = request.split(|byte| *byte == b'\r').next().unwrap().to_vec();
            if !failed.lock().unwrap().insert(line) {
                waiting.fetch_add(1, SeqCst);
                drop(gate.lock().unwrap());
                return client.try_send(&ok("the other's")).is_ok();
            }
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{FAILED}", FAILED.len() + SIZE);
            let piece = [b'x'; 16 * 1024];
            client.try_send(head.as_bytes()).is_ok() && (0..SIZE / piece.len()).all(|_| client.try_send(&piece).is_ok())
        })
    };
    let nodes = [start(), start()];
    let list = list(&[("a", nodes[0].address()), ("b", nodes[1].address())]);
    let proxy = nodes::proxy(V4, &list, &[nodes::UNASKED]);
    let address = proxy.address();
    let before = memory();
    let bots: Vec<_> = (0..BOTS)
        .map(|number| {
            thread::spawn(move || {
                support::Client::connect(address).get(&format!("/v4/loadtracks?identifier={number}"), "").text()
            })
        })
        .collect();
    eventually("every load waits for the other node", || waiting.load(SeqCst) == BOTS);
    let growth = memory().saturating_sub(before);
    println!("{BOTS} first answers of {} MiB each that wait: the process grew by {} KiB", SIZE >> 20, growth >> 10);
    drop(closed);
    for bot in bots {
        assert_eq!(bot.join().unwrap(), "the other's");
    }
    assert!(growth <= BOTS as u64 * MAX_HELD + SLACK, "{growth} bytes");
}
