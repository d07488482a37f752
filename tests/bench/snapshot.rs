//! What a snapshot of 5,000 connections of 5,000 bots from 5,000 addresses costs: `cargo bench --bench snapshot`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::HashMap;
use std::fs;
use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;

use lavaproxy::config::{Lavalink, Settings};
use lavaproxy::ledger::ClientInfo;
use lavaproxy::server::Server;

const CONNECTIONS: u32 = 5000;
const ROUNDS: u32 = 200;

fn main() {
    let set = HashMap::from([("PROXY_HOST", "127.0.0.1"), ("PROXY_PORT", "0"), ("WEB_PORT", "0")]);
    let settings = Settings::from_lookup(|name| set.get(name).map(Into::into)).unwrap();
    let server = Server::start(&settings).unwrap();
    let (node, backend): (Arc<str>, Arc<str>) = ("v4".into(), "127.0.0.1:8807".into());
    let account: Arc<str> = "default".into();
    let entries: Vec<_> = (0..CONNECTIONS)
        .map(|number| {
            let entry = server.ledger().open((Ipv4Addr::from(0x0A00_0000 + number), 40_000).into(), "proxy");
            let user_id = (170_939_974_227_591_168 + u64::from(number)).to_string();
            let client_info =
                ClientInfo { user_id: user_id.as_bytes(), client_name: b"bot/1.0", user_agent: b"Lavalink.py/5" };
            entry.note_account(&account);
            entry.note_request(Some(Lavalink::V4), &node, &backend, client_info);
            entry
        })
        .collect();
    let ledger = server.ledger();
    report("snapshot", || drop(black_box(ledger.snapshot())));
    report("snapshot as JSON", || drop(black_box(serde_json::to_string(&ledger.snapshot()).unwrap())));
    report("what each bot used", || drop(black_box(ledger.bots())));
    report("the saved form", || drop(black_box(ledger.save())));
    report("tick of the rates", || ledger.tick());
    report("counters for /metrics", || drop(black_box(ledger.tallies())));
    let web = server.address("web").unwrap();
    for path in ["/api/stats", "/api/stats?limit=60&sort=-bytesOut", "/metrics"] {
        println!("GET {path}: {} bytes", get(web, path));
        report(&format!("GET {path}, including the read of the client"), || {
            black_box(get(web, path));
        });
    }
    drop(entries);
}

fn get(web: SocketAddr, path: &str) -> usize {
    let mut stream = TcpStream::connect(web).unwrap();
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes())
        .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap()
}

fn report(what: &str, mut act: impl FnMut()) {
    act();
    let before = cpu_milliseconds();
    (0..ROUNDS).for_each(|_| act());
    println!("{what}: {:.2} ms of CPU", (cpu_milliseconds() - before) / f64::from(ROUNDS));
}

/// User and system time of this process, all threads; the kernel counts in hundredths of a second.
fn cpu_milliseconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields = stat.rsplit_once(") ").unwrap().1;
    fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<f64>().unwrap() * 10.0).sum()
}
