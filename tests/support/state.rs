//! The binary with a STATE_DIR, what its API says, and what its file holds.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::process::{FREE, Running, SECRET, lavaproxy};
use crate::support::{Client, HANDSHAKE, eventually};

/// No line per connection, which the test would have to read.
pub const QUIET: (&str, &str) =
    ("LOG_LEVEL", "warn,lavaproxy::signals=info,lavaproxy::server=info,lavaproxy::nodes=info,lavaproxy::state=info");

/// An empty folder for the state of this test.
pub fn folder(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("state").join(name);
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}

/// A lavaproxy that keeps its state in this folder, in front of a v4 node.
pub struct Site {
    pub running: Running,
    pub bots: SocketAddr,
    pub web: SocketAddr,
}

impl Site {
    pub fn start(folder: &Path, set: &[(&str, &str)]) -> Self {
        let mut command = lavaproxy(&FREE);
        command.env(QUIET.0, QUIET.1).env("STATE_DIR", folder).envs(set.iter().copied());
        let mut running = Running::spawn(command);
        let (bots, web) = (running.listener("proxy"), running.listener("web"));
        Self { running, bots, web }
    }

    /// SIGTERM and the end; the log.
    pub fn stop(self) -> String {
        self.running.signal("TERM");
        let (status, log) = self.running.end();
        assert!(status.success(), "{log}");
        log
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.running.child.kill().unwrap();
        self.running.child.wait().unwrap();
    }

    pub fn stats(&self) -> Value {
        stats(self.web)
    }

    /// The figures once no connection is open.
    pub fn figures_at_rest(&self) -> Value {
        figures_at_rest(self.web)
    }
}

pub fn ask(web: SocketAddr, target: &str) -> Value {
    let mut client = Client::connect(web);
    client.send(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes());
    client.response().json()
}

pub fn stats(web: SocketAddr) -> Value {
    ask(web, "/api/stats")
}

pub fn figures_at_rest(web: SocketAddr) -> Value {
    eventually("no connection is open", || stats(web)["totals"]["active"] == 0);
    figures(&stats(web))
}

/// What of the statistics outlives a process.
pub fn figures(stats: &Value) -> Value {
    let lasting = |row: &Value| {
        let mut row = row.clone();
        let fields = row.as_object_mut().unwrap();
        fields.retain(|name, _| !["active", "websockets", "versions", "rateIn", "rateOut"].contains(&name.as_str()));
        row
    };
    let usage: Vec<Value> = stats["usage"].as_array().unwrap().iter().map(lasting).collect();
    serde_json::json!({
        "since": stats["since"], "totals": lasting(&stats["totals"]), "usage": usage, "ended": stats["ended"],
    })
}

/// A request on a connection of its own, to the end. Bytes sent and received.
pub fn request(bots: SocketAddr) -> (u64, u64) {
    let mut client = Client::connect(bots);
    let request = format!("GET /v4/info HTTP/1.1\r\nHost: bot\r\nAuthorization: {SECRET}\r\nConnection: close\r\n\r\n");
    assert_eq!(client.send(request.as_bytes()).response().status, 200);
    assert!(client.is_at_end());
    (client.sent, client.received)
}

/// A tunnel, whose node sends back what comes.
pub fn tunnel(bots: SocketAddr) -> Client {
    let mut client = Client::connect(bots);
    let head = format!("GET /v4/websocket HTTP/1.1\r\nHost: bot\r\nAuthorization: {SECRET}\r\n{HANDSHAKE}\r\n");
    assert_eq!(client.send(head.as_bytes()).response().status, 101);
    client
}

/// A message and its echo.
pub fn talk(tunnel: &mut Client) {
    assert_eq!(tunnel.send(b"\x81\x02hi").exactly(4), b"\x81\x02hi");
}

/// A node that answers requests, and sends back what comes over its WebSockets.
pub fn node() -> crate::support::Backend {
    crate::support::Backend::start(|mut client, _| {
        while let Some(request) = client.next_request() {
            if request.starts_with(b"GET /v4/websocket") {
                client.send(crate::support::SWITCHING);
                return client.echo();
            }
            if client.try_send(crate::support::OK).is_err() {
                return;
            }
        }
    })
}

pub fn file(folder: &Path) -> PathBuf {
    folder.join("state.json")
}

/// What the file holds. Its mode must be right.
pub fn saved(folder: &Path) -> Value {
    let path = file(folder);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The files that were set aside.
pub fn set_aside(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.to_string_lossy().contains("state.json.unreadable-")).collect()
}
