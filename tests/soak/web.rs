//! Browsers that read the web pages and their API, scrapes of /metrics, and an operator who drains nodes.

use std::io::Read as _;
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crate::V4_NODES;
use crate::load::Load;
use crate::random::Random;
use crate::support::Client;
use crate::wire::{PATIENCE, Tried, Trouble, send};

const PATHS: [(&str, &str); 14] = [
    ("/", "</html>"),
    ("/health", "</html>"),
    ("/data-usage", "</html>"),
    ("/security", "</html>"),
    ("/api/stats", "\"totals\":{"),
    ("/api/connections", "["),
    ("/api/data-usage", "["),
    ("/api/bots", "["),
    ("/api/accounts", "\"account\":\"default\""),
    ("/api/security", "\"refusals\":"),
    ("/api/health", "\"status\":"),
    ("/api/version", "lavaproxy"),
    ("/metrics", "lavaproxy_received_bytes_total"),
    ("/healthz", "ok"),
];

/// The highest total of bytes that was shown so far.
static SHOWN: AtomicU64 = AtomicU64::new(0);

/// One of two nodes gets no new sessions for a while, in which the other one is not restarted.
pub fn drain(load: &Load, random: &mut Random) -> Tried<()> {
    let _steady = load.steady();
    let _calm = load.calm("v4");
    let node = random.pick(&V4_NODES);
    for action in ["drain", "activate"] {
        let mut client = Client::connect(load.web);
        client.send(
            format!("POST /api/nodes/{node}/{action} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                .as_bytes(),
        );
        let response = client.response();
        if response.status != 200 {
            return Err(Trouble::wrong(format!("{} to {action} {node}", response.status)));
        }
        let until = Instant::now() + random.millis(500, 4000);
        while Instant::now() < until && !load.is_upgrading() && !load.pause(Duration::from_millis(100)) {}
    }
    Ok(())
}

/// One page, list or scrape.
pub fn look(load: &Load, random: &mut Random) -> Tried<()> {
    let _steady = load.steady();
    let (path, part) = random.pick(&PATHS);
    let shown = SHOWN.load(SeqCst);
    let mut stream = TcpStream::connect(load.web)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    send(&stream, request.as_bytes(), &mut 0)?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    if !text.starts_with("HTTP/1.1 200 ") || !text.contains(part) {
        return Err(Trouble::wrong(format!("{path} was answered with {text}")));
    }
    if path == "/api/stats" {
        let (_, body) = text.split_once("\r\n\r\n").unwrap_or_default();
        let stats: serde_json::Value =
            serde_json::from_str(body).map_err(|error| Trouble::wrong(format!("{error} in {body}")))?;
        let now = stats["totals"]["bytesOut"].as_u64().unwrap_or(0);
        if now < shown {
            return Err(Trouble::wrong(format!("bytesOut went from {shown} to {now}")));
        }
        SHOWN.fetch_max(now, SeqCst);
    }
    Ok(())
}
