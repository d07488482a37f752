//! Behind a front: how the client address of a connection and of its requests is found, by the PROXY header, by
//! X-Forwarded-For and by Forwarded, and from which peers these count.
//!
//! 127.0.0.1 is the front here and trusted, 127.0.0.2 is any other peer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/logged.rs"]
mod logged;
mod support;

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::Duration;

use logged::logged;
use serde_json::Value;
use support::*;

const FRONT: Ipv4Addr = Ipv4Addr::LOCALHOST;
const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const GET: &str = "GET /v4/info HTTP/1.1\r\nHost: bot\r\nAuthorization: DevamOP\r\n\r\n";
const TRUSTED: (&str, &str) = ("TRUSTED_PROXIES", "127.0.0.1,10.0.0.0/8");
const PROXY_ON: [(&str, &str); 2] = [TRUSTED, ("PROXY_PROTOCOL", "on")];
const V1: &str = "PROXY TCP4 203.0.113.7 192.0.2.1 49152 6923\r\n";

/// A header of version 2.
fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).unwrap().to_be_bytes();
    [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[command, family, length[0], length[1]], block].concat()
}

/// From 203.0.113.7:49152, with two TLVs.
fn v2_inet() -> Vec<u8> {
    let addresses = [203, 0, 113, 7, 192, 0, 2, 1, 0xC0, 0x00, 0x1B, 0x0B];
    v2(0x21, 0x11, &[&addresses[..], &[0x04, 0, 0], &[0xE0, 0, 2, 1, 2]].concat())
}

fn v2_inet6() -> Vec<u8> {
    let address = "2001:db8::7".parse::<std::net::Ipv6Addr>().unwrap().octets();
    v2(0x21, 0x21, &[&address[..], &address, &[0xC0, 0x00, 0x1B, 0x0B]].concat())
}

/// A proxy before a backend that answers `OK` and keeps what it is sent.
struct Site {
    proxy: Proxy,
    backend: Backend,
}

impl Site {
    fn new(set: &[(&str, &str)]) -> Self {
        let backend = Backend::answering(OK);
        Self { proxy: Proxy::before(backend.address, backend.address, set), backend }
    }

    fn connect_from(&self, ip: Ipv4Addr) -> Client {
        Client::connect_from(ip, self.proxy.address())
    }

    /// The one connection there is.
    fn connection(&self) -> Value {
        let stats = self.proxy.stats();
        let rows = stats["connections"].as_array().unwrap();
        assert_eq!(rows.len(), 1, "{rows:?}");
        rows[0].clone()
    }

    /// The last X-Forwarded-For that the backend got.
    fn forwarded_for(&self) -> String {
        let seen = self.backend.seen();
        let last = seen.rsplit_once("X-Forwarded-For: ").expect("no such field").1;
        last.split_once("\r\n").unwrap().0.to_owned()
    }
}

/// The rows of usage as `address -> active, connections, requests, in, out`, after the check that they add up.
fn usage(stats: &Value) -> Vec<(String, [u64; 5])> {
    const OF_ROW: [&str; 5] = ["active", "connections", "requests", "bytesIn", "bytesOut"];
    let numbers = |of: &Value| OF_ROW.map(|name| of[name].as_u64().unwrap());
    let mut rows: Vec<_> = (stats["usage"].as_array().unwrap().iter())
        .map(|row| (row["address"].as_str().unwrap().to_owned(), numbers(row)))
        .collect();
    rows.sort();
    for (at, total) in numbers(&stats["totals"]).into_iter().enumerate() {
        assert_eq!(rows.iter().map(|(_, row)| row[at]).sum::<u64>(), total, "{}: {stats}", OF_ROW[at]);
    }
    rows
}

#[test]
fn a_proxy_header_sets_the_client_address() {
    let site = Site::new(&PROXY_ON);
    let peer = "127.0.0.1";
    let mut known: HashMap<String, [u64; 5]> = HashMap::new();
    for (header, client, forwarded_for) in [
        (V1.into(), "203.0.113.7:49152", "203.0.113.7, 127.0.0.1"),
        ("PROXY TCP6 2001:db8::7 ::1 49152 1\r\n".into(), "[2001:db8::7]:49152", "2001:db8::7, 127.0.0.1"),
        ("PROXY TCP6 ::ffff:203.0.113.7 ::1 1 2\r\n".into(), "203.0.113.7:1", "203.0.113.7, 127.0.0.1"),
        (v2_inet(), "203.0.113.7:49152", "203.0.113.7, 127.0.0.1"),
        (v2_inet6(), "[2001:db8::7]:49152", "2001:db8::7, 127.0.0.1"),
        ("PROXY UNKNOWN\r\n".into(), peer, peer),
        ("PROXY UNKNOWN of whatever kind 1 2\r\n".into(), peer, peer),
        (v2(0x20, 0x00, &[]), peer, peer),
        (v2(0x20, 0x11, &v2_inet()[16..]), peer, peer),
        (v2(0x21, 0x00, &[0x04, 0, 1, 9]), peer, peer),
        (v2(0x21, 0x31, &[b'x'; 216]), peer, peer),
    ] {
        let shown = String::from_utf8_lossy(&header).into_owned();
        let mut check = |mut front: Client, how: &str| {
            assert_eq!(front.response().status, 200, "{how} {shown:?}");
            assert_eq!(front.get("/v4/info", "").status, 200, "{how} {shown:?}");
            let row = site.connection();
            let local = front.stream.local_addr().unwrap().to_string();
            assert_eq!(row["client"], if client == peer { &local } else { client }, "{how} {shown:?}");
            assert_eq!(site.forwarded_for(), forwarded_for, "{how} {shown:?}");
            // The header's bytes are the client's too.
            let address = client.parse::<SocketAddr>().map_or(peer.to_owned(), |client| client.ip().to_string());
            let before = known.get(&address).copied().unwrap_or_default();
            let used = [before[0], before[1] + 1, before[2] + 2, before[3] + front.sent, before[4] + front.received];
            drop(front);
            site.proxy.wait_until_empty();
            known = usage(&site.proxy.stats()).into_iter().collect();
            assert_eq!(known[&address], used, "{how} {shown:?}");
        };
        let mut glued = site.connect_from(FRONT);
        glued.send(&[&header, GET.as_bytes()].concat());
        check(glued, "with its request");
        let mut apart = site.connect_from(FRONT);
        apart.send(&header);
        eventually("the header is read", || {
            site.proxy.stats()["totals"]["active"] == 1 && site.connection()["bytesIn"] == apart.sent
        });
        apart.send(GET.as_bytes());
        check(apart, "before its request");
        let mut dribbled = site.connect_from(FRONT);
        dribbled.dribble(&header).dribble(GET.as_bytes());
        check(dribbled, "byte by byte");
    }
}

/// What no front may send at the start of a connection, whole; with a word of what is said of it.
fn malformed() -> Vec<(Vec<u8>, &'static str)> {
    let mut cases: Vec<(Vec<u8>, &str)> = vec![
        (GET.into(), "no PROXY header"),
        (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03".to_vec(), "no PROXY header"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), "no PROXY header"),
        (b"\r\n\r\nGET / HTTP/1.1\r\n\r\n".to_vec(), "no PROXY header"),
        (b"proxy UNKNOWN\r\n".to_vec(), "no PROXY header"),
        ([b" ", V1.as_bytes()].concat(), "no PROXY header"),
        (format!("PROXY UNKNOWN {}", "f".repeat(93)).into(), "longer than 107 bytes"),
        (v2(0x11, 0x11, &[0; 12]), "version 2"),
        (v2(0x22, 0x11, &[0; 12]), "version 2"),
        (v2(0x21, 0x12, &[0; 12]), "neither TCP"),
        (v2(0x21, 0x22, &[0; 36]), "neither TCP"),
        (v2(0x21, 0x41, &[0; 36]), "neither TCP"),
        (v2(0x21, 0x11, &[0; 11]), "too short"),
        (v2(0x21, 0x21, &[0; 35]), "too short"),
        (v2(0x21, 0x31, &[0; 215]), "too short"),
        (v2(0x21, 0x11, &[0; 4097])[..16].to_vec(), "longer than 4096 bytes"),
        (v2(0x20, 0x00, &[0; 65535])[..16].to_vec(), "longer than 4096 bytes"),
        (v2(0x21, 0x11, &[0; 13]), "TLV"),
        (v2(0x21, 0x11, &[&[0; 12][..], &[0x04, 0, 2, 0]].concat()), "TLV"),
        (v2(0x21, 0x11, &[&[0; 12][..], &[0x03, 0, 4, 1, 2, 3, 4]].concat()), "checksum"),
    ];
    for line in ["PROXY TCP4 203.0.113.7 192.0.2.1 49152 6923\n", "PROXY TCP4 203.0.113.7 192.0.2.1 49152 6923\0\r\n"] {
        cases.push((line.into(), "CR and LF"));
    }
    for line in ["PROXY \r\n", "PROXY  TCP4 203.0.113.7 192.0.2.1 1 2\r\n", "PROXY UDP4 203.0.113.7 192.0.2.1 1 2\r\n"]
    {
        cases.push((line.into(), "neither TCP4, TCP6 nor UNKNOWN"));
    }
    for line in [
        "PROXY TCP4\r\n",
        "PROXY TCP4 203.0.113.7 192.0.2.256 1 2\r\n",
        "PROXY TCP4 203.0.113.07 192.0.2.1 1 2\r\n",
        "PROXY TCP4 2001:db8::7 2001:db8::1 1 2\r\n",
        "PROXY TCP6 203.0.113.7 192.0.2.1 1 2\r\n",
        "PROXY TCP4 front.example 192.0.2.1 1 2\r\n",
        "PROXY TCP4  203.0.113.7 192.0.2.1 1 2\r\n",
    ] {
        cases.push((line.into(), "family"));
    }
    for line in [
        "PROXY TCP4 203.0.113.7 192.0.2.1\r\n",
        "PROXY TCP4 203.0.113.7 192.0.2.1 1\r\n",
        "PROXY TCP4 203.0.113.7 192.0.2.1 1 65536\r\n",
        "PROXY TCP4 203.0.113.7 192.0.2.1 01 2\r\n",
        "PROXY TCP4 203.0.113.7 192.0.2.1 1 2 3\r\n",
        "PROXY TCP4 203.0.113.7 192.0.2.1 1 2 \r\n",
    ] {
        cases.push((line.into(), "two ports"));
    }
    cases
}

/// Longer than any test here takes: what ends a connection is not this.
const FOR_EVER: (&str, &str) = ("HEAD_TIMEOUT", "1h");

#[test]
fn every_malformed_header_is_refused_at_once_without_an_answer() {
    logged(&[]);
    let site = Site::new(&[TRUSTED, ("PROXY_PROTOCOL", "on"), FOR_EVER]);
    let cases = malformed();
    for (header, says) in &cases {
        // With a good request behind it, which must reach no backend.
        for sent in [header.clone(), [header, GET.as_bytes()].concat()] {
            let shown = String::from_utf8_lossy(&sent).into_owned();
            let mut front = site.connect_from(FRONT);
            let who = format!("client={} ", front.stream.local_addr().unwrap());
            front.send(&sent);
            // To close over what was not read is a reset.
            let (answer, error) = front.rest_or_error();
            assert!(answer.is_empty() && error.is_none_or(|error| error == ErrorKind::ConnectionReset), "{shown:?}");
            eventually("the end is logged", || {
                logged(&[&who, "event=ended", "reason=bad-request", "detail=", "PROXY header", says]) > 0
            });
        }
    }
    site.proxy.wait_until_empty();
    assert_eq!(site.proxy.ended("bad-request"), 2 * cases.len() as u64);
    assert_eq!((site.backend.accepted(), usage(&site.proxy.stats())[0].1[2]), (0, 0));
}

/// Headers of which every part but the whole is a truncated one.
fn whole_headers() -> [Vec<u8>; 5] {
    let unix = v2(0x21, 0x31, &[0; 216]);
    [V1.into(), "PROXY UNKNOWN\r\n".into(), v2_inet(), v2_inet6(), unix]
}

#[test]
fn every_truncated_header_is_refused() {
    let site = Site::new(&[TRUSTED, ("PROXY_PROTOCOL", "on"), FOR_EVER]);
    let mut cut = 0;
    for header in whole_headers() {
        for length in 1..header.len() {
            let mut front = site.connect_from(FRONT);
            front.send(&header[..length]).half_close();
            assert!(front.is_at_end(), "{length} of {:?}", String::from_utf8_lossy(&header));
            cut += 1;
        }
    }
    // Nothing at all is what a port check sends.
    site.connect_from(FRONT).half_close();
    eventually("the port check has ended", || site.proxy.ended("client-closed") == 1);
    site.proxy.wait_until_empty();
    assert_eq!((site.proxy.ended("bad-request"), site.proxy.ended("client-closed")), (cut, 1));
    assert_eq!(site.backend.accepted(), 0);
}

#[test]
fn a_proxy_header_that_does_not_come_is_refused_at_its_own_deadline() {
    let site = Site::new(&[TRUSTED, ("PROXY_PROTOCOL", "on"), FOR_EVER]);
    let waiting: Vec<Client> = (whole_headers().iter())
        .flat_map(|header| {
            (0..header.len()).step_by(if header.len() > 100 { 20 } else { 1 }).map(|length| &header[..length])
        })
        .map(|part| {
            let mut front = site.connect_from(FRONT);
            front.send(part);
            front
        })
        .collect();
    // One that never pauses for long, and would need ten seconds.
    let mut dribbler = site.connect_from(FRONT);
    let dribbled = format!("PROXY UNKNOWN {}\r\n", "f".repeat(91));
    let length = dribbled.len();
    let taken = thread::spawn(move || {
        for (index, byte) in dribbled.bytes().enumerate() {
            if dribbler.try_send(&[byte]).is_err() {
                return index;
            }
            thread::sleep(Duration::from_millis(100));
        }
        dribbled.len()
    });
    let count = waiting.len() as u64;
    for mut front in waiting {
        assert!(front.is_at_end());
    }
    assert!(taken.join().unwrap() < length, "the whole line was taken");
    site.proxy.wait_until_empty();
    assert_eq!(site.proxy.ended("client-timeout"), count + 1);
    assert_eq!(site.backend.accepted(), 0);
    // What came in time waits for its request as any connection does.
    let mut front = site.connect_from(FRONT);
    front.send(V1.as_bytes());
    assert_eq!(front.silent_for(Duration::from_secs(4)), Some(ErrorKind::WouldBlock));
    assert_eq!(front.get("/v4/info", "").status, 200);
}

#[test]
fn waiting_for_a_proxy_header_does_not_delay_a_stop() {
    let site = Site::new(&PROXY_ON);
    let mut front = site.connect_from(FRONT);
    front.send(b"PROXY TCP4 ");
    eventually("it is inside", || site.proxy.stats()["totals"]["bytesIn"] == 11);
    site.proxy.server.stop();
    assert!(front.is_at_end());
    site.proxy.wait_until_empty();
    assert_eq!(site.proxy.server.ledger().snapshot().ended["shutdown"], 1);
}

#[test]
fn only_a_trusted_front_may_send_a_proxy_header_and_it_must() {
    for (site, ip) in [
        (Site::new(&PROXY_ON), STRANGER),
        (Site::new(&[TRUSTED]), FRONT),
        (Site::new(&[]), FRONT),
        (Site::new(&[("PROXY_PROTOCOL", "on"), ("TRUSTED_PROXIES", "127.0.0.3,127.0.1.0/24")]), FRONT),
    ] {
        for header in [V1.as_bytes(), &v2_inet()] {
            let mut client = Client::connect_from(ip, site.proxy.address());
            client.send(&[header, GET.as_bytes()].concat());
            let answer = client.response();
            assert_eq!((answer.status, answer.closes()), (400, true));
            let says = answer.json()["message"].to_string();
            assert!(says.contains("PROXY_PROTOCOL=on") && says.contains("TRUSTED_PROXIES"), "{says}");
        }
        // A refused connection is counted until the proxy has seen its client close.
        site.proxy.wait_until_empty();
        assert_eq!(site.backend.accepted(), 0);
        let mut client = Client::connect_from(ip, site.proxy.address());
        assert_eq!(client.get("/v4/info", "").status, 200);
        assert_eq!(site.connection()["address"], ip.to_string());
        assert_eq!(site.forwarded_for(), ip.to_string());
    }
    // The web listener takes none.
    let site = Site::new(&PROXY_ON);
    let mut client = Client::connect(site.proxy.listener("web"));
    client.send(&[V1.as_bytes(), b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"].concat());
    assert_eq!(client.response().status, 400);
    let mut client = Client::connect(site.proxy.listener("web"));
    client.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(client.response().status, 200);
}

#[test]
fn forwarding_fields_count_only_from_a_trusted_front() {
    let site = Site::new(&[TRUSTED]);
    for (claim, client, forwarded_for) in [
        ("X-Forwarded-For: 203.0.113.7\r\n", "203.0.113.7", "203.0.113.7, 127.0.0.1"),
        ("X-Forwarded-For: 192.0.2.66, 203.0.113.7\r\n", "203.0.113.7", "203.0.113.7, 127.0.0.1"),
        (
            "X-Forwarded-For: 192.0.2.66\r\nX-Forwarded-For: 203.0.113.7:5000, 10.0.0.2\r\n",
            "203.0.113.7:5000",
            "203.0.113.7, 10.0.0.2, 127.0.0.1",
        ),
        ("X-Forwarded-For: 10.0.0.3, 10.0.0.2\r\n", "10.0.0.3", "10.0.0.3, 10.0.0.2, 127.0.0.1"),
        ("X-Forwarded-For: 192.0.2.66, nonsense, 10.0.0.2\r\n", "10.0.0.2", "10.0.0.2, 127.0.0.1"),
        ("Forwarded: for=192.0.2.66, for=\"[2001:db8::7]\";proto=https\r\n", "2001:db8::7", "2001:db8::7, 127.0.0.1"),
        ("Forwarded: for=203.0.113.7;\r\n", "203.0.113.7", "203.0.113.7, 127.0.0.1"),
        ("Forwarded: for=\"[2001:db8::7]:_obf\"\r\n", "2001:db8::7", "2001:db8::7, 127.0.0.1"),
        ("Forwarded: secret=\"a;b\";for=203.0.113.7\r\n", "203.0.113.7", "203.0.113.7, 127.0.0.1"),
        (
            "Forwarded: for=\"203.0.113.7\";x=\"\\\", for=192.0.2.66\", , FOR=10.0.0.2\r\nForwarded: ,\r\n",
            "203.0.113.7",
            "203.0.113.7, 10.0.0.2, 127.0.0.1",
        ),
        // A quote that the client opened and its front did not close.
        ("Forwarded: for=192.0.2.66;x=\", for=203.0.113.7;by=\"_b\"\r\n", "203.0.113.7", "203.0.113.7, 127.0.0.1"),
        ("Forwarded: for=192.0.2.66, for=\"10.0.0.3\"x, for=10.0.0.2\r\n", "10.0.0.2", "10.0.0.2, 127.0.0.1"),
        ("Forwarded: for=192.0.2.66\r\nX-Forwarded-For: 203.0.113.7\r\n", "203.0.113.7", "203.0.113.7, 127.0.0.1"),
        ("X-Forwarded-For: 127.0.0.1\r\n", "127.0.0.1", "127.0.0.1, 127.0.0.1"),
    ] {
        let mut front = site.connect_from(FRONT);
        assert_eq!(front.get("/v4/info", claim).status, 200);
        let row = site.connection();
        let address = client.strip_suffix(":5000").unwrap_or(client);
        assert_eq!((&row["client"], &row["address"]), (&client.into(), &address.into()), "{claim}");
        assert_eq!(site.forwarded_for(), forwarded_for, "{claim}");
        drop(front);
        site.proxy.wait_until_empty();
        let mut stranger = site.connect_from(STRANGER);
        assert_eq!(stranger.get("/v4/info", claim).status, 200);
        assert_eq!(site.connection()["address"], STRANGER.to_string(), "{claim}");
        assert_eq!(site.forwarded_for(), STRANGER.to_string(), "{claim}");
        drop(stranger);
        site.proxy.wait_until_empty();
    }
    let seen = site.backend.seen();
    assert!(!seen.contains("192.0.2.66") && !seen.to_ascii_lowercase().contains("\nforwarded"), "{seen}");
    usage(&site.proxy.stats());
}

#[test]
fn only_a_trusted_front_may_say_how_it_was_reached() {
    let reached = "X-Forwarded-Proto: https\r\nX-Forwarded-Host: lava.example\r\nX-Forwarded-Port: 443\r\n";
    let made_up = "X-Real-IP: 192.0.2.66\r\nX-Client-IP: 192.0.2.66\r\nCF-Connecting-IP: 192.0.2.66\r\nForwarded: for=192.0.2.66\r\n";
    let site = Site::new(&[TRUSTED]);
    for (ip, passed) in [(FRONT, true), (STRANGER, false)] {
        let before = site.backend.seen().len();
        let mut client = site.connect_from(ip);
        assert_eq!(client.get("/v4/info", &format!("{made_up}X-Forwarded-For: 192.0.2.66\r\n{reached}")).status, 200);
        let seen = site.backend.seen()[before..].to_owned();
        assert_eq!(seen.contains(reached), passed, "{seen}");
        assert_eq!(seen.to_ascii_lowercase().matches("forwarded-").count(), if passed { 4 } else { 1 }, "{seen}");
        assert_eq!(seen.matches("192.0.2.66").count(), usize::from(passed), "{seen}");
    }
}

/// A head of the request that a front sends for this client.
fn head_for(client: &str, target: &str, password: &str, more: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: bot\r\nAuthorization: {password}\r\nX-Forwarded-For: {client}\r\n{more}\r\n"
    )
}

impl Site {
    /// The statistics as soon as they have all of what this one client received.
    fn stats_with(&self, client: &Client) -> Value {
        let mut stats = Value::Null;
        eventually("all bytes are counted", || {
            stats = self.proxy.stats();
            stats["totals"]["bytesOut"] == client.received
        });
        stats
    }
}

#[test]
fn a_shared_connection_is_attributed_to_each_client_in_turn() {
    let site = Site::new(&[TRUSTED]);
    let mut front = site.connect_from(FRONT);
    // The connection itself counts for the first of them.
    let mut expected: Vec<_> =
        (1..=3).map(|last| (format!("192.0.2.{last}"), [0, u64::from(last == 1), 0, 0, 0])).collect();
    for (turn, (number, password, status)) in [
        (0, PASSWORD, 200),
        (1, PASSWORD, 200),
        (0, "wrong", 403),
        (0, PASSWORD, 200),
        (2, "wrong", 403),
        (1, PASSWORD, 200),
        (0, PASSWORD, 200),
    ]
    .into_iter()
    .enumerate()
    {
        let (sent, received) = (front.sent, front.received);
        let client = format!("192.0.2.{}", number + 1);
        front.send(head_for(&client, "/v4/info", password, &"X: y\r\n".repeat(turn)).as_bytes());
        assert_eq!(front.response().status, status);
        expected.iter_mut().for_each(|(_, row)| row[0] = 0);
        let row = &mut expected[number].1;
        *row = [1, row[1], row[2] + 1, row[3] + front.sent - sent, row[4] + front.received - received];
        let stats = site.stats_with(&front);
        let seen: Vec<_> = expected.iter().filter(|(_, row)| row[2] > 0).cloned().collect();
        assert_eq!(usage(&stats), seen, "{turn}");
        let live = &stats["connections"][0];
        assert_eq!((&live["client"], &live["bytesIn"]), (&client.into(), &front.sent.into()), "{turn}");
    }
    let received = front.received;
    drop(front);
    site.proxy.wait_until_empty();
    expected.iter_mut().for_each(|(_, row)| row[0] = 0);
    let stats = site.proxy.stats();
    assert_eq!((usage(&stats), &stats["totals"]["bytesOut"]), (expected, &received.into()));
}

#[test]
fn pipelined_requests_are_attributed_to_their_own_clients() {
    let site = Site::new(&[TRUSTED]);
    let mut front = site.connect_from(FRONT);
    let (one, two) =
        (head_for("192.0.2.1", "/v4/info", PASSWORD, ""), head_for("192.0.2.2", "/v4/info", PASSWORD, "X: y\r\n"));
    front.send(format!("{one}{two}{one}").as_bytes());
    for _ in 0..3 {
        assert_eq!(front.response().status, 200);
    }
    let (one, two, answer) = (one.len() as u64, two.len() as u64, OK.len() as u64);
    let expected =
        [("192.0.2.1".to_owned(), [1, 1, 2, 2 * one, 2 * answer]), ("192.0.2.2".to_owned(), [0, 0, 1, two, answer])];
    assert_eq!(usage(&site.stats_with(&front)), expected);
}

#[test]
fn a_tunnel_is_attributed_to_the_client_that_opened_it() {
    let backend = Backend::start(|mut client, _| {
        while let Some(request) = client.next_request() {
            if find(&request, b"Upgrade: websocket").is_some() {
                client.send(SWITCHING);
                return client.echo();
            }
            client.send(OK);
        }
    });
    let proxy = Proxy::before(backend.address, backend.address, &[TRUSTED]);
    let mut front = Client::connect_from(FRONT, proxy.address());
    let head = head_for("192.0.2.1", "/v4/info", PASSWORD, "");
    assert_eq!(front.send(head.as_bytes()).response().status, 200);
    let (sent, received) = (front.sent, front.received);
    assert_eq!(front.upgrade("/v4/websocket").status, 101, "without a claim it is the front's own");
    front.send(&[b'x'; 1000]);
    front.exactly(1000);
    let own = [1, 0, 1, front.sent - sent, front.received - received];
    let expected = [("127.0.0.1".to_owned(), own), ("192.0.2.1".to_owned(), [0, 1, 1, sent, received])];
    eventually("all bytes are counted", || usage(&proxy.stats()) == expected);
    drop(front);
    proxy.wait_until_empty();
    assert_eq!(usage(&proxy.stats())[0].1, [0, own[1], own[2], own[3], own[4]]);
}

#[test]
fn a_proxy_header_and_forwarding_fields_work_together() {
    let site = Site::new(&PROXY_ON);
    for (header, claim, client, forwarded_for) in [
        // A client behind a front that announces it makes things up.
        (V1, "192.0.2.66", "203.0.113.7:49152", "203.0.113.7, 127.0.0.1"),
        // A front behind a front: each says what it knows.
        (
            "PROXY TCP4 10.0.0.2 10.0.0.1 1 2\r\n",
            "192.0.2.66, 203.0.113.7",
            "203.0.113.7",
            "203.0.113.7, 10.0.0.2, 127.0.0.1",
        ),
        ("PROXY TCP4 10.0.0.2 10.0.0.1 1 2\r\n", "nonsense", "10.0.0.2:1", "10.0.0.2, 127.0.0.1"),
        // When the front does not know the client, no field about it counts.
        ("PROXY UNKNOWN\r\n", "192.0.2.66", "127.0.0.1", "127.0.0.1"),
    ] {
        let mut front = site.connect_from(FRONT);
        front.send(format!("{header}{}", head_for(claim, "/v4/info", PASSWORD, "")).as_bytes());
        assert_eq!(front.response().status, 200);
        let row = site.connection();
        let shown = row["client"].as_str().unwrap();
        assert!(shown == client || (client == "127.0.0.1" && shown.starts_with("127.0.0.1:")), "{shown}");
        assert_eq!(site.forwarded_for(), forwarded_for);
        usage(&site.proxy.stats());
        drop(front);
        site.proxy.wait_until_empty();
    }
    // The front speaks for itself.
    let mut front = site.connect_from(FRONT);
    front.send(&v2(0x20, 0, &[])).send(head_for("203.0.113.7", "/v4/info", PASSWORD, "").as_bytes());
    assert_eq!(front.response().status, 200);
    assert_eq!(site.connection()["client"], "203.0.113.7");
}

#[test]
fn trusted_proxies_can_change_while_connections_are_open() {
    let site = Site::new(&[]);
    let (v3, v4) = (site.backend.address.port().to_string(), site.backend.address.port().to_string());
    let nodes = [("LAVALINK_V3_PORT", v3.as_str()), ("LAVALINK_V4_PORT", v4.as_str())];
    let reload = |set: &[(&str, &str)]| site.proxy.server.reload(&settings(&[&nodes, set].concat())).unwrap();
    let mut front = site.connect_from(FRONT);
    let mut ask = |client: &str| {
        front.send(head_for("192.0.2.1", "/v4/info", PASSWORD, "").as_bytes());
        assert_eq!(front.response().status, 200);
        assert_eq!(site.connection()["address"], client);
    };
    ask("127.0.0.1");
    reload(&[TRUSTED]);
    ask("192.0.2.1");
    // What began without a header goes on without, what begins now needs one.
    reload(&PROXY_ON);
    ask("192.0.2.1");
    let mut late = site.connect_from(FRONT);
    assert!(late.send(GET.as_bytes()).rest_or_error().0.is_empty());
    let mut late = site.connect_from(FRONT);
    late.send(&[V1.as_bytes(), GET.as_bytes()].concat());
    assert_eq!(late.response().status, 200);
    drop(late);
    eventually("one is left", || site.proxy.stats()["totals"]["active"] == 1);
    reload(&[]);
    ask("127.0.0.1");
}

#[test]
fn log_lines_of_both_listeners_name_the_real_client() {
    logged(&[]);
    let site = Site::new(&[TRUSTED, ("WEB_PASSWORD", "web")]);
    let mut front = site.connect_from(FRONT);
    front.send(head_for("192.0.2.111", "/v4/info", "wrong", "Connection: close\r\n").as_bytes());
    assert_eq!(front.response().status, 403);
    eventually("the end is logged", || {
        logged(&["event=ended", "listener=proxy", "client=192.0.2.111 ", "reason=rejected-password", "detail="]) == 1
    });
    let mut front = Client::connect(site.proxy.listener("web"));
    front.send(b"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic OndlYg==x\r\nX-Forwarded-For: 192.0.2.113, 192.0.2.112\r\nConnection: close\r\n\r\n");
    assert_eq!(front.response().status, 401);
    assert_eq!(logged(&["event=wrong-password", "listener=web", "client=192.0.2.112 "]), 1);
    eventually("the end is logged", || logged(&["event=ended", "listener=web", "client=192.0.2.112 "]) == 1);
    let mut stranger = Client::connect_from(STRANGER, site.proxy.listener("web"));
    stranger.send(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 192.0.2.113\r\nConnection: close\r\n\r\n");
    assert_eq!(stranger.response().status, 401);
    let who = format!("client={} ", stranger.stream.local_addr().unwrap());
    eventually("the end is logged", || logged(&["event=ended", "listener=web", &who]) == 1);
    assert_eq!(logged(&["192.0.2.113"]), 0);
}
