//! Restarts that no client notices: sockets from a supervisor, and a successor that takes over from a predecessor.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/load.rs"]
mod load;
#[path = "support/process.rs"]
mod process;
mod support;

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use command_fds::{CommandFdExt, FdMapping};
use load::Load;
use process::{FREE, Running, SECRET, Stray, directory, has_ended, lavaproxy, signal, value};
use support::{Backend, Client, HANDSHAKE, OK, SWITCHING, eventually};

/// So often lavaproxy is restarted under load.
const TIMES: usize = 10;
/// Connections that must have been answered between two restarts.
const BETWEEN: u64 = 20;
/// No line per connection, which the test would have to read.
const QUIET: (&str, &str) = ("LOG_LEVEL", "warn,lavaproxy::signals=info,lavaproxy::server=info");
/// A WebSocket close frame with the code 1001.
const GOING_AWAY: [u8; 4] = [0x88, 2, 0x03, 0xe9];

/// Well at every moment where a successor serves before its predecessor leaves.
const HEALTHZ: (&str, &str) = ("/healthz", "\r\n\r\nok");
/// Says nothing of stopping.
const VERSION: (&str, &str) = ("/api/version", "}\n");

fn bots_request() -> String {
    format!("GET /v4/info HTTP/1.1\r\nHost: bot\r\nAuthorization: {SECRET}\r\nConnection: close\r\n\r\n")
}

fn load(bots: SocketAddr, web: SocketAddr, (page, ending): (&str, &'static str)) -> Load {
    let pages = format!("GET {page} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let load = Load::start(2, &[(bots, bots_request(), "\r\n\r\nok"), (web, pages, ending)]);
    goes_on(&load);
    load
}

fn goes_on(load: &Load) {
    let before = load.answered();
    eventually("the load goes on", || load.answered() >= before + BETWEEN);
}

fn asserts_none_was_lost(load: Load) {
    let (answered, lost) = load.end();
    assert!(lost.is_empty(), "{} of {} were lost: {:?}", lost.len(), answered, &lost[..lost.len().min(5)]);
}

/// The number of the process that answers now.
fn serving(web: SocketAddr) -> u64 {
    let mut client = Client::connect(web);
    client.send(b"GET /api/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    client.response().json()["process"]["pid"].as_u64().unwrap()
}

fn successor(running: &mut Running) -> u32 {
    value(&running.line(&["event=upgraded "]), "successor").parse().unwrap()
}

#[test]
fn ten_upgrades_under_load_lose_no_client() {
    let v4 = Backend::answering(OK);
    let mut running = Running::start(&[QUIET, ("LAVALINK_V4_PORT", &v4.address.port().to_string())]);
    let (bots, web) = (running.listener("proxy"), running.listener("web"));
    let load = load(bots, web, HEALTHZ);
    let mut present = Stray(running.child.id());
    for _ in 0..TIMES {
        signal(present.0, "USR2");
        let next = successor(&mut running);
        eventually("the predecessor has ended", || has_ended(present.0));
        assert_eq!(serving(web), u64::from(next));
        present = Stray(next);
        goes_on(&load);
    }
    asserts_none_was_lost(load);
    signal(present.0, "TERM");
    running.line(&["event=stopping "]);
    let (status, log) = running.end();
    assert!(status.success() && !log.contains("level=error"), "{log}");
}

#[test]
fn ten_restarts_on_sockets_that_stay_open_lose_no_client() {
    let v4 = Backend::answering(OK);
    let v4_port = v4.address.port().to_string();
    let sockets = Sockets::open(&["", ""]);
    let (bots, web) = (sockets.address(0), sockets.address(1));
    let ports = [bots.port().to_string(), web.port().to_string()];
    let start = || {
        let set = [QUIET, ("PROXY_PORT", &*ports[0]), ("WEB_PORT", &*ports[1]), ("LAVALINK_V4_PORT", &*v4_port)];
        sockets.start(&set)
    };
    let mut running = start();
    running.listener("web");
    let load = load(bots, web, VERSION);
    for _ in 0..TIMES {
        running.signal("TERM");
        let (status, log) = running.end();
        assert!(status.success(), "{log}");
        running = start();
        goes_on(&load);
    }
    asserts_none_was_lost(load);
    let _stray = Stray(running.child.id());
}

/// Listening sockets as a supervisor holds them, with their names.
struct Sockets(Vec<(&'static str, TcpListener)>);

impl Sockets {
    fn open(names: &[&'static str]) -> Self {
        Self(names.iter().map(|name| (*name, TcpListener::bind("127.0.0.1:0").unwrap())).collect())
    }

    fn address(&self, index: usize) -> SocketAddr {
        self.0[index].1.local_addr().unwrap()
    }

    fn start(&self, set: &[(&str, &str)]) -> Running {
        self.start_with(&[], set)
    }

    fn start_with(&self, flags: &[&str], set: &[(&str, &str)]) -> Running {
        let mut command = lavaproxy(&FREE);
        command.args(flags);
        let names: Vec<_> = self.0.iter().map(|(name, _)| *name).collect();
        let mappings = (3..)
            .zip(&self.0)
            .map(|(child_fd, (_, socket))| FdMapping { parent_fd: socket.try_clone().unwrap().into(), child_fd });
        command
            .env("LISTEN_FDS", self.0.len().to_string())
            .env("LISTEN_FDNAMES", names.join(":"))
            .envs(set.iter().copied())
            .fd_mappings(mappings.collect())
            .unwrap();
        Running::spawn(command)
    }
}

#[test]
fn inherited_sockets_are_matched_by_name_or_by_port() {
    let sockets = Sockets::open(&["web", "lavaproxy.socket", "proxy-v4"]);
    let port = sockets.address(1).port().to_string();
    let mut running = sockets.start(&[("PROXY_PORT", &port), ("PROXY_V4_PORT", "1")]);
    for (index, listener) in [(1, "proxy"), (2, "proxy-v4"), (0, "web")] {
        assert_eq!(running.listener(listener), sockets.address(index));
    }
    running.signal("TERM");
    assert!(running.end().0.success());
    sockets.0[0].1.set_nonblocking(true).unwrap();
    assert!(sockets.0[0].1.accept().is_err(), "the supervisor's own handle still listens");
}

#[test]
fn a_socket_that_cannot_be_used_is_an_error_that_says_what_to_do() {
    let fails = |sockets: &Sockets, set: &[(&str, &str)], words: &[&str]| {
        let (status, log) = sockets.start(set).end();
        assert_eq!(status.code(), Some(1), "{log}");
        assert!(words.iter().all(|word| log.contains(word)), "{log}");
    };
    let spare = Sockets::open(&["spare"]);
    fails(&spare, &[], &["spare", &spare.address(0).to_string(), "ListenStream="]);
    let open = Sockets(vec![("web", TcpListener::bind("0.0.0.0:0").unwrap())]);
    fails(&open, &[], &["web", "WEB_PASSWORD"]);
    fails(&open, &[("LISTEN_FDS", "1000000")], &["inherited", "ListenStream="]);

    let mut command = lavaproxy(&FREE);
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let deaf = FdMapping { parent_fd: socket.into(), child_fd: 3 };
    command.env("LISTEN_FDS", "1").fd_mappings(vec![deaf]).unwrap();
    let (status, log) = Running::spawn(command).end();
    assert!(status.code() == Some(1) && log.contains("does not listen"), "{log}");
}

#[test]
fn a_reload_keeps_the_password_of_an_inherited_web_socket_that_others_can_reach() {
    let home = directory("open-socket");
    let file = home.join("lavaproxy.env");
    fs::write(&file, "WEB_PASSWORD=secret\n").unwrap();
    let open = Sockets(vec![("web", TcpListener::bind("0.0.0.0:0").unwrap())]);
    let path = file.to_str().unwrap().to_owned();
    let mut running = open.start_with(&["--env-file", &path], &[]);
    let mut web = running.listener("web");
    web.set_ip([127, 0, 0, 1].into());
    fs::write(&file, "").unwrap();
    running.signal("HUP");
    running.line(&["level=error", "event=reload-refused", "WEB_PASSWORD"]);
    let mut stranger = Client::connect(web);
    stranger.send(b"GET /api/stats HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(stranger.response().status, 401);
}

#[test]
fn tunnels_of_the_predecessor_stay_open_until_its_deadline() {
    let v4 = Backend::start(|mut client, _| {
        if client.next_head().is_some() {
            client.send(SWITCHING);
            client.echo();
        }
    });
    let port = v4.address.port().to_string();
    let mut running = Running::start(&[QUIET, ("LAVALINK_V4_PORT", &port), ("DRAIN_TIMEOUT", "1h")]);
    let (bots, web) = (running.listener("proxy"), running.listener("web"));
    let tunnel = || {
        let mut tunnel = Client::connect(bots);
        let head = format!("GET /v4/websocket HTTP/1.1\r\nHost: x\r\nAuthorization: {SECRET}\r\n{HANDSHAKE}\r\n");
        assert_eq!(tunnel.send(head.as_bytes()).response().status, 101);
        tunnel
    };
    let (mut ends_itself, mut old) = (tunnel(), tunnel());
    let predecessor = running.child.id();
    running.signal("USR2");
    let next = Stray(successor(&mut running));
    running.line(&["event=listeners-closed"]);
    assert_eq!(serving(web), u64::from(next.0));
    for end in [&mut ends_itself, &mut old] {
        assert_eq!(end.send(b"\x81\x02hi").exactly(4), b"\x81\x02hi");
    }
    ends_itself.half_close();
    assert!(ends_itself.is_at_end());
    let mut new = tunnel();
    assert!(!has_ended(predecessor));
    running.signal("TERM");
    assert_eq!(old.rest(), GOING_AWAY);
    old.half_close();
    assert!(running.child.wait().unwrap().success());
    assert_eq!(new.send(b"\x81\x02hi").exactly(4), b"\x81\x02hi");
}

#[test]
fn a_successor_that_does_not_come_up_changes_nothing() {
    let v4 = Backend::answering(OK);
    let home = directory("successor");
    let (binary, settings) = (home.join("lavaproxy"), home.join("lavaproxy.env"));
    let good = format!("LAVALINK_V4_PORT={}\n", v4.address.port());
    replace(&binary, &fs::read(env!("CARGO_BIN_EXE_lavaproxy")).unwrap());
    fs::write(&settings, &good).unwrap();
    let mut command = Command::new(&binary);
    command.env_clear().envs(FREE).env(QUIET.0, QUIET.1).current_dir(&home);
    let mut running = Running::spawn(command);
    let (bots, web) = (running.listener("proxy"), running.listener("web"));
    let load = load(bots, web, HEALTHZ);
    let mut fails = |words: &[&str]| {
        running.signal("USR2");
        let line = running.line(&["event=upgrade-failed "]);
        assert!(words.iter().all(|word| line.contains(word)), "{line}");
        assert_eq!(serving(web), u64::from(running.child.id()));
        goes_on(&load);
    };

    fs::write(&settings, format!("{good}HEAD_TIMEOUT=ten\nMAX_BODY=much\n")).unwrap();
    fails(&["HEAD_TIMEOUT=ten", "MAX_BODY=much"]);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    fs::write(&settings, format!("{good}PROXY_V4_PORT={}\n", taken.local_addr().unwrap().port())).unwrap();
    fails(&["proxy-v4", "another process has this port"]);
    fs::write(&settings, &good).unwrap();
    replace(&binary, b"no program at all");
    fails(&["ended before it served"]);
    replace(&binary, b"#!/bin/sh\nexit 7\n");
    fails(&["ended before it served", "7"]);
    fs::remove_file(&binary).unwrap();
    fails(&["successor/lavaproxy cannot be started", "No such file"]);

    replace(&binary, &fs::read(env!("CARGO_BIN_EXE_lavaproxy")).unwrap());
    running.signal("USR2");
    let next = Stray(successor(&mut running));
    eventually("the predecessor has ended", || has_ended(running.child.id()));
    assert_eq!(serving(web), u64::from(next.0));
    asserts_none_was_lost(load);
}

/// Puts another file at this path, as an installer does: the old one is untouched.
fn replace(path: &Path, content: &[u8]) {
    let fresh = path.with_extension("new");
    let mut file = fs::File::create(&fresh).unwrap();
    file.write_all(content).unwrap();
    file.set_permissions(fs::Permissions::from_mode(0o755)).unwrap();
    drop(file);
    fs::rename(fresh, path).unwrap();
}

#[test]
fn a_listener_that_has_a_new_address_in_the_successor_moves() {
    let home = directory("moving");
    fs::write(home.join("lavaproxy.env"), "PROXY_V4_PORT=0\n").unwrap();
    let mut command = lavaproxy(&FREE);
    command.env(QUIET.0, QUIET.1).current_dir(&home);
    let mut running = Running::spawn(command);
    let (bots, v4, web) = (running.listener("proxy"), running.listener("proxy-v4"), running.listener("web"));
    fs::write(home.join("lavaproxy.env"), "PROXY_V3_PORT=0\n").unwrap();
    running.signal("USR2");
    assert_eq!(running.listener("proxy"), bots);
    running.listener("proxy-v3");
    assert_eq!(running.listener("web"), web);
    let _next = Stray(successor(&mut running));
    eventually("the predecessor has ended", || has_ended(running.child.id()));
    assert!(std::net::TcpStream::connect(v4).is_err());
}
