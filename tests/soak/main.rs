//! The long run: everything that clients and nodes do, well or badly, at once and for a while, and every byte of it
//! checked at both ends. A minute unless SOAK_MINUTES says more; SOAK_SEED repeats a load.
//!
//! Clients come from 127.0.0.2 when they end every connection properly and from 127.0.0.3 when they do not: of the
//! former lavaproxy's ledger must say exactly what the clients counted, of the latter what they cannot rule out. There
//! are one node of v3 and two of v4, which restart now and then, also two at once and while they take sessions over. Bots
//! that play do not notice: at the end, their players are as they have set them. At first lavaproxy is upgraded again and
//! again under the load, then it is restarted; its figures go on from process to process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "../support/mod.rs"]
mod support;

mod abrupt;
mod connection;
mod findings;
mod lavaproxy;
mod ledger;
mod load;
mod music;
mod node;
mod random;
mod relay;
mod report;
mod rest;
mod script;
mod storm;
mod tunnels;
mod web;
mod wire;

use std::env;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::{Duration, Instant};

use connection::{Connection, Request};
use findings::Findings;
use lavaproxy::{Held, Lavaproxy};
use ledger::{Counted, Group, Known};
use load::{Kind, Load, within};
use node::Node;
use random::{Random, mix};
use report::{Peak, Run};
use serde_json::Value;

pub const PASSWORD: &str = "soaked-through";
pub const MAX_BODY: u64 = 2 * 1024 * 1024;
pub const RESPONSE_TIMEOUT: Duration = Duration::from_secs(8);

/// Long enough for every thread, buffer and page of the allocators to have been used once.
const WARM_UP: Duration = Duration::from_secs(10);
/// The part of the time that is added before it with upgrades.
const UPGRADING: u32 = 4;
/// How long idle workers stay, and much more.
const REST: Duration = Duration::from_secs(60);
/// What allocators may keep beyond what they kept after the warm-up, in KiB.
const SLACK: u64 = 16 * 1024;

/// The node of v3 is alone.
pub const V4_NODES: [&str; 2] = ["a4", "b4"];

const MOST_MINUTES: f64 = 24.0 * 60.0;

const CLEAN: Group = Group::Clean;
const ABRUPT: Group = Group::Abrupt;

#[rustfmt::skip]
const KINDS: &[Kind] = &[
    Kind { name: "REST connections, kept alive", group: CLEAN, threads: 90, pause: (10, 500), act: rest::kept_alive },
    Kind { name: "REST requests, a connection each", group: CLEAN, threads: 20, pause: (50, 400), act: rest::one_shot },
    Kind { name: "requests to a slow node", group: CLEAN, threads: 40, pause: (10, 500), act: rest::slow_node },
    Kind { name: "readers that stop for a while", group: CLEAN, threads: 3, pause: (200, 1500), act: rest::slow_reader },
    Kind { name: "pipelined rows of requests", group: CLEAN, threads: 3, pause: (200, 1000), act: rest::pipelined },
    Kind { name: "loads that fail on one node", group: CLEAN, threads: 4, pause: (50, 400), act: rest::failing_load },
    Kind { name: "connections with uploads", group: CLEAN, threads: 5, pause: (200, 1500), act: rest::upload },
    Kind { name: "refused requests' connections", group: CLEAN, threads: 4, pause: (100, 500), act: rest::refused },
    Kind { name: "tunnels in dialogue", group: CLEAN, threads: 160, pause: (10, 1000), act: tunnels::dialogue },
    Kind { name: "quiet tunnels", group: CLEAN, threads: 100, pause: (10, 1000), act: tunnels::quiet },
    Kind { name: "tunnels full both ways", group: CLEAN, threads: 3, pause: (300, 1500), act: tunnels::flood },
    Kind { name: "bots that play", group: ABRUPT, threads: 40, pause: (10, 1000), act: music::play },
    Kind { name: "bots that lose their node at once", group: ABRUPT, threads: 1, pause: (5000, 20_000), act: storm::reconnect },
    Kind { name: "tunnels that are cut", group: ABRUPT, threads: 40, pause: (10, 500), act: tunnels::cut },
    Kind { name: "full tunnels that are cut", group: ABRUPT, threads: 3, pause: (200, 1500), act: tunnels::cut_flood },
    Kind { name: "clients gone within a head", group: ABRUPT, threads: 3, pause: (50, 500), act: abrupt::within_a_head },
    Kind { name: "heads that never come", group: ABRUPT, threads: 3, pause: (50, 500), act: abrupt::slow_head },
    Kind { name: "clients gone within an upload", group: ABRUPT, threads: 4, pause: (100, 1000), act: abrupt::within_an_upload },
    Kind { name: "uploads over the limit", group: ABRUPT, threads: 2, pause: (300, 2000), act: abrupt::too_large },
    Kind { name: "clients gone within an answer", group: ABRUPT, threads: 4, pause: (100, 1000), act: abrupt::within_an_answer },
    Kind { name: "nodes gone within an answer", group: ABRUPT, threads: 4, pause: (100, 800), act: abrupt::broken_answer },
    Kind { name: "readers that stop for good", group: ABRUPT, threads: 5, pause: (300, 2000), act: abrupt::stalled_reader },
    Kind { name: "bytes that are no HTTP", group: ABRUPT, threads: 2, pause: (100, 1000), act: abrupt::garbage },
    Kind { name: "nodes drained and activated", group: CLEAN, threads: 1, pause: (3000, 12_000), act: web::drain },
    Kind { name: "pages, lists and scrapes", group: CLEAN, threads: 3, pause: (50, 600), act: web::look },
];

#[test]
fn a_load_of_everything_is_served_to_the_byte_and_leaves_nothing_behind() {
    let minutes = env::var("SOAK_MINUTES").map_or(1.0, |text| text.parse().expect("SOAK_MINUTES is a number"));
    let seed = env::var("SOAK_SEED").map_or(1, |text| text.parse().expect("SOAK_SEED is a number"));
    let time = Duration::from_secs_f64(60.0 * minutes);
    assert!(minutes > 0.0 && minutes <= MOST_MINUTES, "SOAK_MINUTES is up to {MOST_MINUTES}");
    println!("seed {seed}, {minutes} minutes");
    rlimit::increase_nofile_limit(u64::MAX).unwrap();

    let findings: Arc<Findings> = Arc::default();
    let [a4, b4] = V4_NODES;
    let nodes = [("v3", "v3", 4), (a4, "v4", 5), (b4, "v4", 6)];
    let nodes = nodes.map(|(name, version, host)| Node::start(name, version, [127, 0, 0, host], &findings));
    let mut lavaproxy = start(&nodes);
    let load = Load::new(lavaproxy.proxy, lavaproxy.web, nodes.into(), findings);

    let mut peak = Peak::default();
    run(&load, &lavaproxy, WARM_UP.max(time / UPGRADING), mix(!seed), &mut peak, true);
    let _ = rest(&load, &lavaproxy, None);
    lavaproxy.restart();

    let start = rest(&load, &lavaproxy, None);
    run(&load, &lavaproxy, WARM_UP.min(time), seed, &mut peak, false);
    let warm = rest(&load, &lavaproxy, Some(start));
    run(&load, &lavaproxy, time.saturating_sub(WARM_UP), mix(seed), &mut peak, false);
    let end = rest(&load, &lavaproxy, Some(start));

    assert!(lavaproxy.is_running(), "it has ended");
    let cpu = lavaproxy.cpu_seconds();
    let ledger = compare(&load, &lavaproxy);
    let upgrades = lavaproxy.upgrades();
    let taken_over = lavaproxy.log(|log| (log.takeovers, log.players));
    let run = Run { seed, time, load: &load, start, warm, peak: &peak, end, cpu, upgrades, taken_over, ledger };
    println!("\n{}", report::markdown(&run));

    assert!(upgrades > 0, "no successor took over");
    assert!(lavaproxy.log(|log| log.players) > 0, "no player was taken over");
    assert!(lavaproxy.loads_retried(&V4_NODES) > 0.0, "no load was tried on another node");
    assert!(end.memory <= warm.memory + SLACK, "memory grew from {} to {} KiB", warm.memory, end.memory);
    let alarming = lavaproxy.log(|log| log.alarming.clone());
    assert!(alarming.is_empty(), "{alarming:#?}");
    assert!(lavaproxy.stop(), "it has not stopped as it should");
}

fn start([v3, a4, b4]: &[Arc<Node>; 3]) -> Lavaproxy {
    let (v3_host, v3_port) = (v3.address.ip().to_string(), v3.address.port().to_string());
    let v4_nodes = [a4, b4].map(|node| format!("{}={}", node.name, node.address)).join(", ");
    let response_timeout = format!("{}s", RESPONSE_TIMEOUT.as_secs());
    let state = Path::new(env!("CARGO_TARGET_TMPDIR")).join("soak-state");
    let _ = fs::remove_dir_all(&state);
    fs::create_dir_all(&state).unwrap();
    Lavaproxy::start(&[
        ("PROXY_HOST", "127.0.0.1"),
        ("PROXY_PORT", "0"),
        ("WEB_PORT", "0"),
        ("PROXY_PASSWORD", PASSWORD),
        ("LAVALINK_V3_HOST", &v3_host),
        ("LAVALINK_V3_PORT", &v3_port),
        ("LAVALINK_V4_NODES", &v4_nodes),
        ("MAX_BODY", &MAX_BODY.to_string()),
        ("RESPONSE_TIMEOUT", &response_timeout),
        // The nodes here refuse or take a connection. One that is slow to take it shows a busy machine, and no fault.
        ("CONNECT_TIMEOUT", "30s"),
        // Longer than any tunnel: a predecessor carries its own to their ends.
        ("DRAIN_TIMEOUT", "1h"),
        ("STATE_DIR", state.to_str().unwrap()),
    ])
}

/// All kinds at once for so long, and upgrades under them if there shall be any.
fn run(load: &Load, lavaproxy: &Lavaproxy, time: Duration, seed: u64, peak: &mut Peak, upgrades: bool) {
    let started = Instant::now();
    load.begin();
    thread::scope(|scope| {
        for (number, kind) in (0..).zip(KINDS) {
            load.start(scope, kind, mix(seed ^ mix(number)));
        }
        for (number, version) in [(100, "v3"), (101, "v4")] {
            scope.spawn(move || load.restart_now_and_then(version, mix(seed ^ number)));
        }
        scope.spawn(|| lavaproxy.reload_now_and_then(load, mix(seed ^ 103)));
        if upgrades {
            scope.spawn(|| lavaproxy.upgrade_now_and_then(load, mix(seed ^ 102)));
        }
        let mut said = 0;
        while started.elapsed() < time && load.findings.all_wrong().is_empty() {
            load.pause(Duration::from_secs(1).min(time.saturating_sub(started.elapsed())));
            peak.look(lavaproxy.held(), load.open.load(SeqCst));
            if started.elapsed().as_secs() / 10 > said {
                said = started.elapsed().as_secs() / 10;
                report::progress(load, lavaproxy, started);
            }
        }
        load.end();
    });
    assert!(load.findings.all_wrong().is_empty(), "{:#?}", load.findings.all_wrong());
}

/// All clients have left: what lavaproxy holds once it has noticed, which must not be more than `before`. The idle
/// connections that it keeps to its nodes are closed there, and a request to each makes it find out.
fn rest(load: &Load, lavaproxy: &Lavaproxy, before: Option<Held>) -> Held {
    let is_empty = || lavaproxy.is_alone() && lavaproxy.stats()["totals"]["active"] == 0;
    assert!(within(REST, is_empty), "connections are still in the ledger: {}", lavaproxy.stats()["connections"]);
    let mut random = Random::new(0);
    for node in &load.nodes {
        node.restart(Duration::ZERO, &mut random);
        let mut connection = Connection::open(load, CLEAN).unwrap();
        let (version, nonce) = (node.version, random.next());
        // A node that is alone is not named.
        let fields = if version == "v4" { format!("Lavalink-Node: {}\r\n", node.name) } else { String::new() };
        let ask = Request { method: "GET", version, what: "load", nonce, length: 9, query: "", fields: &fields };
        assert_eq!(connection.exchange(&ask).unwrap().status, 200);
        connection.close().unwrap();
    }
    assert!(within(REST, is_empty), "{}", lavaproxy.stats()["connections"]);
    let mut now = lavaproxy.held();
    let is_settled = || {
        let last = now;
        thread::sleep(Duration::from_millis(500));
        now = lavaproxy.held();
        before.map_or((now.threads, now.descriptors) == (last.threads, last.descriptors), |before| {
            now.threads <= before.threads && now.descriptors <= before.descriptors
        })
    };
    assert!(within(REST, is_settled), "{now:?} is still held, it was {before:?}");
    now
}

/// What the clients know against lavaproxy's ledger and its log.
fn compare(load: &Load, lavaproxy: &Lavaproxy) -> [(Group, u64, Known, Counted); 2] {
    let stats = lavaproxy.stats();
    let number = |row: &Value, name: &str| row[name].as_u64().unwrap_or_else(|| panic!("no {name} in {row}"));
    let counted = |row: &Value| Counted {
        requests: number(row, "requests"),
        bytes_in: number(row, "bytesIn"),
        bytes_out: number(row, "bytesOut"),
    };
    let all = Group::ALL.map(|group| {
        let address = group.address().to_string();
        let rows = stats["usage"].as_array().unwrap();
        let row = rows.iter().find(|row| row["address"] == *address).unwrap_or_else(|| panic!("no row of {address}"));
        let (connections, known, counted) = (load.ledger.connections(group), load.ledger.sum(group), counted(row));
        assert_eq!(number(row, "connections"), connections, "connections of {address}");
        assert_eq!(number(row, "active"), 0);
        let logged = || lavaproxy.log(|log| log.connections(group)) == connections;
        assert!(within(REST, logged), "the log has no line for some of {connections} connections of {address}");
        assert_eq!(lavaproxy.log(|log| log.sum(group)), counted, "the log against the API, for {address}");
        assert!(group == ABRUPT || known.is_exact(), "of connections that ended properly all is known: {known:?}");
        let differences = lavaproxy.log(|log| load.ledger.differences(&log.ended));
        assert!(
            differences.is_empty(),
            "{} connections: {:#?}",
            differences.len(),
            &differences[..differences.len().min(9)]
        );
        assert!(known.admits(&counted), "{address}: the clients know {known:?}, lavaproxy says {counted:?}");
        (group, connections, known, counted)
    });
    let [(_, clean, _, of_clean), (_, abrupt, _, of_abrupt)] = &all;
    assert_eq!(counted(&stats["totals"]), *of_clean + *of_abrupt);
    assert_eq!(number(&stats["totals"], "connections"), clean + abrupt);
    assert_eq!(stats["connections"].as_array().map(Vec::len), Some(0));
    assert_eq!(number(&stats["ended"], "internal-error"), 0);
    all
}
