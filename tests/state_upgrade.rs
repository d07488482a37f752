//! Upgrades (SIGUSR2) lose no figure and count none twice, with and without a STATE_DIR.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/process.rs"]
mod process;
#[path = "support/state.rs"]
mod state;
mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread::{self, JoinHandle};

use process::{FREE, Running, Stray, directory, has_ended, lavaproxy, signal, value};
use serde_json::{Value, json};
use state::{QUIET, Site, folder, node, request, saved, stats, talk, tunnel};
use support::eventually;

/// What clients sent and received.
#[derive(Default)]
struct Used {
    connections: AtomicU64,
    requests: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
    /// Messages and requests so far, to see that the load goes on.
    done: AtomicU64,
}

impl Used {
    fn count(&self, sent: u64, received: u64) {
        self.connections.fetch_add(1, SeqCst);
        self.requests.fetch_add(1, SeqCst);
        self.sent.fetch_add(sent, SeqCst);
        self.received.fetch_add(received, SeqCst);
    }

    /// True when this row or these totals say the same.
    fn is(&self, row: &Value) -> bool {
        let same = |name: &str, counted: &AtomicU64| row[name].as_u64() == Some(counted.load(SeqCst));
        same("connections", &self.connections)
            && same("requests", &self.requests)
            && same("bytesIn", &self.sent)
            && same("bytesOut", &self.received)
    }
}

/// Clients that open connections and talk in tunnels until they are called off.
struct Load {
    bots: SocketAddr,
    used: Arc<Used>,
    over: Arc<AtomicBool>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(bots: SocketAddr) -> Self {
        let mut load = Self { bots, used: Arc::default(), over: Arc::default(), clients: Vec::new() };
        for _ in 0..2 {
            load.spawn(|bots, used, over| {
                while !over.load(SeqCst) {
                    let (sent, received) = request(bots);
                    used.count(sent, received);
                    used.done.fetch_add(1, SeqCst);
                }
            });
        }
        load.open_tunnels();
        load
    }

    /// Tunnels to the process that accepts now. They stay until the end.
    fn open_tunnels(&mut self) {
        for _ in 0..3 {
            let mut tunnel = tunnel(self.bots);
            self.spawn(move |_, used, over| {
                while !over.load(SeqCst) {
                    talk(&mut tunnel);
                    used.done.fetch_add(1, SeqCst);
                }
                tunnel.half_close();
                assert!(tunnel.is_at_end());
                used.count(tunnel.sent, tunnel.received);
            });
        }
        self.goes_on();
    }

    fn spawn(&mut self, act: impl FnOnce(SocketAddr, &Used, &AtomicBool) + Send + 'static) {
        let (bots, used, over) = (self.bots, Arc::clone(&self.used), Arc::clone(&self.over));
        self.clients.push(thread::spawn(move || act(bots, &used, &over)));
    }

    fn goes_on(&self) {
        let before = self.used.done.load(SeqCst);
        eventually("the load goes on", || self.used.done.load(SeqCst) > before + 100);
    }

    /// Ends all clients properly; what they used.
    fn end(self) -> Arc<Used> {
        self.over.store(true, SeqCst);
        self.clients.into_iter().for_each(|client| client.join().unwrap());
        self.used
    }
}

/// Waits until the figures are what the clients used, to the byte.
fn come_to(web: SocketAddr, used: &Used) {
    let mut last = Value::Null;
    let is_same = || {
        last = stats(web);
        used.is(&last["totals"]) && last["totals"]["active"] == 0
    };
    let waited = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| eventually("figures", is_same)));
    if waited.is_err() {
        let (sent, received) = (used.sent.load(SeqCst), used.received.load(SeqCst));
        panic!("sent {sent}, received {received}, {:?} connections: {}", used.connections, last["totals"]);
    }
    assert!(used.is(&last["usage"][0]) && last["usage"][1].is_null(), "{}", last["usage"]);
    assert_eq!(last["ended"]["client-closed"].as_u64(), Some(used.connections.load(SeqCst)), "{}", last["ended"]);
}

fn upgrade(running: &mut Running, pid: u32) -> Stray {
    signal(pid, "USR2");
    Stray(value(&running.line(&["event=upgraded "]), "successor").parse().unwrap())
}

fn upgrades_are_exact(set: &[(&str, &str)]) -> (Stray, SocketAddr, Arc<Used>) {
    let node = node();
    let mut command = lavaproxy(&FREE);
    command.env(QUIET.0, QUIET.1).env("DRAIN_TIMEOUT", "1h");
    command.env("LAVALINK_V4_PORT", node.address.port().to_string()).envs(set.iter().copied());
    let mut running = Running::spawn(command);
    let (bots, web) = (running.listener("proxy"), running.listener("web"));
    let mut load = Load::start(bots);
    let first = Stray(running.child.id());
    let second = upgrade(&mut running, first.0);
    load.open_tunnels();
    let third = upgrade(&mut running, second.0);
    load.open_tunnels();
    assert!(!has_ended(first.0) && !has_ended(second.0));
    let used = load.end();
    come_to(web, &used);
    for pid in [first.0, second.0] {
        eventually("the predecessors end", || has_ended(pid));
    }
    come_to(web, &used);
    drop(node);
    (third, web, used)
}

#[test]
fn two_upgrades_under_load_lose_and_double_nothing() {
    upgrades_are_exact(&[]);
}

#[test]
fn a_restart_after_two_upgrades_has_all_their_figures() {
    let folder = folder("upgrades");
    let (third, _, used) = upgrades_are_exact(&[("STATE_DIR", folder.to_str().unwrap())]);
    signal(third.0, "TERM");
    eventually("it ends", || has_ended(third.0));
    let next = Site::start(&folder, &[]);
    come_to(next.web, &used);
}

#[test]
fn a_predecessor_that_is_killed_loses_a_second_at_the_most() {
    let node = node();
    let folder = folder("killed-predecessor");
    let port = node.address.port().to_string();
    let mut site = Site::start(&folder, &[("LAVALINK_V4_PORT", &port), ("DRAIN_TIMEOUT", "1h")]);
    let mut old = tunnel(site.bots);
    let predecessor = site.running.child.id();
    let _next = upgrade(&mut site.running, predecessor);
    talk(&mut old);
    let counted = || stats(site.web)["totals"]["bytesIn"].as_u64();
    eventually("the report has come", || counted() == Some(old.sent));
    signal(predecessor, "KILL");
    eventually("it has ended", || has_ended(predecessor));
    request(site.bots);
    let requests = || stats(site.web)["totals"]["requests"].as_u64();
    eventually("both are counted once", || requests() == Some(2) && counted() > Some(old.sent));
}

#[test]
fn a_predecessor_carries_its_tunnels_on_when_the_successor_is_killed() {
    let (node, folder) = (node(), folder("killed-successor"));
    let port = node.address.port().to_string();
    let mut site = Site::start(&folder, &[("LAVALINK_V4_PORT", &port), ("DRAIN_TIMEOUT", "1h")]);
    let mut old = tunnel(site.bots);
    let predecessor = site.running.child.id();
    let next = upgrade(&mut site.running, predecessor);
    signal(next.0, "KILL");
    let line = site.running.line(&["level=warn", "event=report-failed"]);
    assert!(line.contains(&format!("successor={} ", next.0)) && line.contains("not counted"), "{line}");
    talk(&mut old);
    old.half_close();
    assert!(old.is_at_end());
    let (status, log) = site.running.end();
    assert!(status.success() && log.matches("event=report-failed").count() == 1, "{log}");
}

#[test]
fn a_stop_of_both_processes_loses_nothing() {
    let (node, folder, used) = (node(), folder("both-stop"), Used::default());
    let port = node.address.port().to_string();
    let mut site = Site::start(&folder, &[("LAVALINK_V4_PORT", &port), ("DRAIN_TIMEOUT", "1h")]);
    let mut old = tunnel(site.bots);
    let predecessor = site.running.child.id();
    let next = upgrade(&mut site.running, predecessor);
    talk(&mut old);
    signal(next.0, "TERM");
    eventually("it serves no pages any more", || TcpStream::connect(site.web).is_err());
    // A stop by systemd reaches the predecessor too.
    signal(predecessor, "TERM");
    while old.try_fill().is_some() {
        old.half_close();
    }
    used.count(old.sent, old.received);
    eventually("both end", || has_ended(next.0) && has_ended(predecessor));
    let restarted = Site::start(&folder, &[]);
    let stats = restarted.stats();
    assert!(used.is(&stats["totals"]), "{} {}: {}", old.sent, old.received, stats["totals"]);
}

#[test]
fn a_large_state_is_handed_over_whole() {
    let folder = folder("large");
    Site::start(&folder, &[]).stop();
    let mut state = saved(&folder);
    let bans = (0..2000).map(|number| {
        let address = format!("203.{}.{}.7", number / 256, number % 256);
        json!({"address": address, "reason": "a large state", "by": "api", "since": number, "until": null})
    });
    state["bans"]["bans"] = bans.collect();
    state["resumeKeys"] = (0..10_000).map(|number| json!([format!("{number:032x}"), "v3"])).collect();
    fs::write(state::file(&folder), state.to_string()).unwrap();
    let mut site = Site::start(&folder, &[]);
    let predecessor = site.running.child.id();
    let next = upgrade(&mut site.running, predecessor);
    eventually("the predecessor ends", || has_ended(predecessor));
    signal(next.0, "TERM");
    eventually("it ends", || has_ended(next.0));
    let after = saved(&folder);
    let sorted = |state: &Value| {
        let mut bans: Vec<String> = state["bans"]["bans"].as_array().unwrap().iter().map(Value::to_string).collect();
        bans.sort();
        bans
    };
    assert!(sorted(&after) == sorted(&state) && after["resumeKeys"] == state["resumeKeys"]);
}

#[test]
fn a_successor_that_does_not_start_leaves_the_figures_here() {
    let (node, folder) = (node(), folder("failed"));
    let home = directory("failed-successor");
    let (binary, settings) = (home.join("lavaproxy"), home.join("lavaproxy.env"));
    fs::copy(env!("CARGO_BIN_EXE_lavaproxy"), &binary).unwrap();
    let good = format!("LAVALINK_V4_PORT={}\nDRAIN_TIMEOUT=1h\n", node.address.port());
    fs::write(&settings, &good).unwrap();
    let mut command = Command::new(&binary);
    command.env_clear().envs(FREE).env(QUIET.0, QUIET.1).env("STATE_DIR", &folder).current_dir(&home);
    let mut running = Running::spawn(command);
    let (bots, web) = (running.listener("proxy"), running.listener("web"));
    let mut load = Load::start(bots);
    let own = running.child.id();
    let mut fails = |words: &str, load: &mut Load| {
        signal(own, "USR2");
        assert!(running.line(&["event=upgrade-failed "]).contains(words));
        load.open_tunnels();
    };
    fs::write(&settings, format!("{good}HEAD_TIMEOUT=ten\n")).unwrap();
    fails("HEAD_TIMEOUT=ten", &mut load);
    fs::write(&settings, &good).unwrap();
    replace(&binary, b"#!/bin/sh\nexit 7\n");
    fails("ended before it served", &mut load);
    // It takes the state and dies.
    replace(&binary, b"#!/bin/sh\nread -r state\nexit 8\n");
    fails("ended before it served", &mut load);
    let used = load.end();
    come_to(web, &used);
    signal(own, "TERM");
    let (status, log) = running.end();
    assert!(status.success(), "{log}");
    assert!(saved(&folder)["savedAt"].as_u64() > Some(0));
    come_to(Site::start(&folder, &[]).web, &used);
}

/// Puts another program at this path, as an installer does.
fn replace(path: &std::path::Path, content: &[u8]) {
    use std::os::unix::fs::PermissionsExt;
    let fresh: PathBuf = path.with_extension("new");
    fs::write(&fresh, content).unwrap();
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(fresh, path).unwrap();
}

/// A successor of this test, which is sent this instead of a state: its report and its exit code.
fn successor_that_is_sent(text: &[u8]) -> (String, Option<i32>) {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let mut command = lavaproxy(&FREE);
    command.env("LAVAPROXY_PREDECESSOR", std::process::id().to_string()).env(QUIET.0, QUIET.1);
    let mut child = command.stdin(OwnedFd::from(theirs)).stderr(Stdio::null()).spawn().unwrap();
    drop(command);
    ours.write_all(text).unwrap();
    ours.shutdown(std::net::Shutdown::Write).unwrap();
    let mut report = String::new();
    ours.read_to_string(&mut report).unwrap();
    (report, child.wait().unwrap().code())
}

#[test]
fn a_successor_starts_with_a_whole_state_or_not_at_all() {
    let state = a_state();
    let newer = state.replacen("\"version\":1", "\"version\":2", 1);
    assert_ne!(newer, state);
    for (text, words) in [
        ("", "end of file"),
        ("\n", "it is damaged"),
        ("{}\n", "it is damaged"),
        (&*newer, "version 2"),
        (state.trim_end(), "end of file"),
        (&state[..state.len() / 2], "end of file"),
    ] {
        let (report, code) = successor_that_is_sent(text.as_bytes());
        assert!(report.contains("the state of the predecessor") && report.contains(words), "{text:?}: {report}");
        assert_eq!(code, Some(1));
    }
}

/// The line that a predecessor sends.
fn a_state() -> String {
    let home = directory("a-state");
    let (binary, line) = (home.join("lavaproxy"), home.join("line"));
    let _ = fs::remove_file(&line);
    fs::copy(env!("CARGO_BIN_EXE_lavaproxy"), &binary).unwrap();
    let mut command = Command::new(&binary);
    command.env_clear().envs(FREE).env("PATH", "/usr/bin:/bin").env(QUIET.0, QUIET.1).current_dir(&home);
    let mut running = Running::spawn(command);
    running.listener("web");
    replace(&binary, b"#!/bin/sh\nhead -n 1 >line\n");
    running.signal("USR2");
    running.line(&["event=upgrade-failed "]);
    let mut state = String::new();
    BufReader::new(fs::File::open(line).unwrap()).read_line(&mut state).unwrap();
    state
}

#[test]
fn bytes_that_are_no_report_change_nothing() {
    let node = node();
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let mut command = lavaproxy(&FREE);
    command.env("LAVAPROXY_PREDECESSOR", std::process::id().to_string()).env(QUIET.0, QUIET.1);
    command.env("LAVALINK_V4_PORT", node.address.port().to_string()).stdin(OwnedFd::from(theirs));
    let mut running = Running::spawn(command);
    ours.write_all(a_state().as_bytes()).unwrap();
    let (bots, web) = (running.listener("proxy"), running.listener("web"));
    let mut report = String::new();
    ours.read_to_string(&mut report).unwrap();
    assert_eq!(report, "ready");
    ours.write_all(b"{\"since\":\n").unwrap();
    running.line(&["level=warn", "event=report-unreadable"]);
    request(bots);
    eventually("it serves", || stats(web)["totals"]["connections"] == 1);
}
