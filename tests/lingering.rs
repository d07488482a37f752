//! The end of an answer is never lost: whatever a client sends behind its last request, and whatever ends the
//! connection, each byte that was sent for it arrives, and then a proper end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::io::Write;
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use support::*;

/// More than the socket buffers on the way hold, so that much of it is in them when the proxy has written all.
const SIZE: usize = 4_000_000;
/// A large answer with its length, and one that ends with the backend's connection.
const SIZED: &str = "/v4/sized";
const OPEN: &str = "/v4/open";
/// An answer that breaks off after [`SIZE`] bytes of its body.
const CUT: &str = "/v4/cut";
/// A small one.
const SMALL: &str = "/v4/small";

const FIELDS: &str = "Host: bot\r\nAuthorization: DevamOP\r\n";

/// Lines that differ, so that none can be missing.
static BODY: LazyLock<Vec<u8>> =
    LazyLock::new(|| (0..SIZE / 10).flat_map(|number| format!("{number:09}\n").into_bytes()).collect());

/// Answers by path.
fn backend() -> Backend {
    Backend::start(|mut client, _| {
        while let Some(request) = client.next_request() {
            let target = String::from_utf8_lossy(&request).split(' ').nth(1).unwrap().to_owned();
            let (fields, is_last) = match target.as_str() {
                SIZED => (format!("Content-Length: {SIZE}\r\n"), false),
                OPEN => ("Connection: close\r\n".to_owned(), true),
                CUT => (format!("Content-Length: {}\r\n", SIZE + 1), true),
                _ => {
                    client.send(OK);
                    continue;
                }
            };
            let head = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
            if client.try_send(&[head.as_bytes(), &BODY].concat()).is_err() || is_last {
                return;
            }
        }
    })
}

/// A proxy before such a backend, and a client that reads when it likes to.
struct Slow {
    proxy: Proxy,
    client: Client,
    read: Vec<u8>,
    _backend: Backend,
}

impl Slow {
    fn start(set: &[(&str, &str)]) -> Self {
        let backend = backend();
        let proxy = Proxy::before(backend.address, backend.address, set);
        let client = proxy.connect();
        Self { proxy, client, read: Vec::new(), _backend: backend }
    }

    fn send(&mut self, bytes: &str) {
        self.client.send(bytes.as_bytes());
    }

    fn read_piece(&mut self) {
        let mut piece = [0; 65536];
        let count = read(&self.client.stream, &mut piece).unwrap();
        assert!(count > 0, "the end after {} bytes", self.read.len());
        self.read.extend_from_slice(&piece[..count]);
    }

    /// Reads until the proxy is done with writing, and no further. Much is on its way then.
    fn read_until_all_is_sent(&mut self) {
        loop {
            let sent = self.proxy.server.ledger().snapshot().totals.traffic.amount.bytes_out;
            let head = find(&self.read, b"\r\n\r\n").map(|end| end + 4);
            if head.is_some_and(|head| sent >= (head + SIZE) as u64) {
                return;
            }
            self.read_piece();
            // A reader faster than the proxy would leave nothing on its way.
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until the proxy's side of the connection is ended: it has sent all, and perhaps closed its socket.
    fn wait_until_ended(&self) {
        let (proxy, client) = (self.proxy.address().port(), self.client.stream.local_addr().unwrap().port());
        let row = format!(" 0100007F:{proxy:04X} 0100007F:{client:04X} ");
        eventually("the proxy ends its side", || {
            let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
            // FIN_WAIT1 and FIN_WAIT2.
            ["04 ", "05 "].iter().any(|state| table.contains(&format!("{row}{state}")))
        });
    }

    /// Gives what was sent time to arrive. What is checked holds however long that takes; too short a time would only
    /// hide a fault.
    fn pause() {
        thread::sleep(Duration::from_millis(100));
    }

    /// Reads to the end, which must be a proper one, and checks that the whole body is there.
    fn check_whole(mut self) {
        let (rest, error) = self.client.rest_or_error();
        self.read.extend_from_slice(&rest);
        let start = find(&self.read, b"\r\n\r\n").expect("no head") + 4;
        assert_eq!((self.read.len() - start, error), (SIZE, None));
        assert!(self.read[start..] == BODY[..], "the body is another");
        drop(self.client);
        self.proxy.wait_until_empty();
    }
}

fn post(target: &str, version: &str, fields: &str) -> String {
    format!("POST {target} HTTP/{version}\r\n{FIELDS}{fields}Content-Length: 2\r\n\r\n[]")
}

fn get(target: &str, fields: &str) -> String {
    format!("GET {target} HTTP/1.1\r\n{FIELDS}{fields}\r\n")
}

#[test]
fn bytes_after_the_last_answer_do_not_destroy_it() {
    for (request, late) in [
        (post(SIZED, "1.1", "Connection: close\r\n"), "\r\n".to_owned()),
        (post(SIZED, "1.0", ""), "\r\n".to_owned()),
        (get(SIZED, "Connection: close\r\n"), get(SMALL, "")),
        (get(OPEN, ""), get(SMALL, "")),
        (get(CUT, ""), "\r\n".to_owned()),
    ] {
        let mut slow = Slow::start(&[]);
        slow.send(&request);
        slow.read_until_all_is_sent();
        slow.wait_until_ended();
        slow.send(&late);
        Slow::pause();
        slow.check_whole();
    }
}

#[test]
fn bytes_amid_the_last_answer_do_not_destroy_it() {
    for (request, early) in [
        (post(SIZED, "1.1", "Connection: close\r\n"), "\r\n".to_owned()),
        (post(SIZED, "1.0", ""), "\r\n".to_owned()),
        (get(OPEN, ""), get(SMALL, "")),
        (get(CUT, ""), get(SMALL, "")),
    ] {
        let mut slow = Slow::start(&[]);
        slow.send(&request);
        slow.read_piece();
        slow.send(&early);
        slow.read_until_all_is_sent();
        slow.wait_until_ended();
        Slow::pause();
        slow.check_whole();
    }
}

#[test]
fn bytes_right_behind_the_last_request_do_not_destroy_its_answer() {
    for (request, behind) in [
        (post(SIZED, "1.1", "Connection: close\r\n"), "\r\n".to_owned()),
        (post(SIZED, "1.0", ""), "\r\n".to_owned()),
        (get(OPEN, ""), get(SMALL, "").repeat(100)),
        (get(CUT, ""), get(SMALL, "")),
    ] {
        let mut slow = Slow::start(&[]);
        slow.send(&format!("{request}{behind}"));
        slow.read_until_all_is_sent();
        slow.wait_until_ended();
        Slow::pause();
        slow.check_whole();
    }
}

#[test]
fn an_idle_connection_ends_only_after_its_answer() {
    let mut slow = Slow::start(&[("KEEPALIVE_TIMEOUT", "200ms")]);
    slow.send(&get(SIZED, ""));
    slow.read_until_all_is_sent();
    slow.wait_until_ended();
    slow.send("\r\n");
    Slow::pause();
    slow.check_whole();
}

#[test]
fn a_stop_does_not_destroy_an_answer() {
    for request in [get(SIZED, ""), get(SIZED, "Connection: close\r\n"), post(SIZED, "1.0", "")] {
        eventually("a byte comes soon after the stop has begun", || check_stopped_amid_answer(&request));
    }
}

/// False when the machine was so busy that the client's bytes came later than a stop waits for them.
fn check_stopped_amid_answer(request: &str) -> bool {
    let mut slow = Slow::start(&[]);
    slow.send(request);
    slow.read_until_all_is_sent();
    let begun = Instant::now();
    let is_in_time = thread::scope(|scope| {
        scope.spawn(|| slow.proxy.server.stop());
        slow.wait_until_ended();
        (&slow.client.stream).write_all(b"\r\n").unwrap();
        begun.elapsed() < Duration::from_millis(800)
    });
    if is_in_time {
        slow.check_whole();
    }
    is_in_time
}

#[test]
fn a_stop_does_not_wait_for_a_client_that_stays() {
    for request in [get(SMALL, ""), get(SMALL, "Connection: close\r\n")] {
        let mut slow = Slow::start(&[]);
        slow.send(&request);
        let response = slow.client.response();
        if response.closes() {
            slow.wait_until_ended();
        } else {
            // It becomes idle.
            Slow::pause();
        }
        let begun = Instant::now();
        slow.proxy.server.stop();
        let time = begun.elapsed();
        assert!(time < Duration::from_secs(5), "{time:?}, with a DRAIN_TIMEOUT of 10 s");
        assert!(slow.client.is_at_end());
    }
}

#[test]
fn what_a_client_still_sends_does_not_destroy_a_refusal() {
    let backend = Backend::answering(OK);
    let proxy = Proxy::before(backend.address, backend.address, &[("MAX_BODY", "1000B")]);
    for (listener, head, status) in [
        ("proxy", format!("POST /v4/x HTTP/1.1\r\n{FIELDS}Content-Length: 2000000\r\n\r\n"), 413),
        ("proxy", format!("POST /v4/x HTTP/1.1\r\n{FIELDS}Transfer-Encoding: chunked\r\n\r\n1e8480\r\n"), 413),
        ("proxy", format!("POST /v4/x HTTP/1.1\r\n{FIELDS}Transfer-Encoding: chunked\r\n\r\nx\r\n"), 400),
        ("proxy", format!("POST /v4/x HTTP/1.1\r\n{FIELDS}A : b\r\n\r\n"), 400),
        ("proxy", "POST /v4/x HTTP/1.1\r\nHost: bot\r\nContent-Length: 2000000\r\n\r\n".to_owned(), 401),
        ("proxy", "POST /v4/x HTTP/2.0\r\n\r\n".to_owned(), 505),
        ("web", "POST /api/health/check HTTP/1.1\r\nHost: a\r\nContent-Length: 2000000\r\n\r\n".to_owned(), 413),
    ] {
        eventually("a body comes soon after the refusal", || {
            check_refusal_amid_body(Client::connect(proxy.listener(listener)), &head, status)
        });
    }
}

/// False when the machine was so busy that the body came later than the proxy reads on after a refusal.
fn check_refusal_amid_body(mut client: Client, head: &str, status: u16) -> bool {
    let begun = Instant::now();
    client.send(head.as_bytes());
    // The answer lies in the client's socket while it sends the rest, in pieces, without a look at it.
    Slow::pause();
    for _ in 0..4 {
        if client.try_send(&[b'x'; 500_000]).is_err() {
            break;
        }
        thread::sleep(Duration::from_millis(20));
    }
    if begun.elapsed() > Duration::from_millis(1500) {
        return false;
    }
    assert_eq!((client.sent, client.response().status), (head.len() as u64 + 2_000_000, status), "{head}");
    assert!(client.is_at_end(), "{head}");
    true
}

#[test]
fn a_client_that_never_stops_sending_is_dropped() {
    const BOUND: usize = 16 * 1024 * 1024;
    let backend = Backend::answering(OK);
    let proxy = Proxy::before(backend.address, backend.address, &[]);
    let mut client = proxy.connect();
    client.send(post("/v4/info", "1.1", "Connection: close\r\n").as_bytes());
    assert_eq!(client.response().status, 200);
    let piece = [b'x'; 65536];
    let mut sent = 0;
    while client.try_send(&piece).is_ok() {
        sent += piece.len();
        assert!(sent < 4 * BOUND, "all of it is read");
    }
    assert!(sent >= BOUND, "{sent}");
    proxy.wait_until_empty();
}

#[test]
fn a_client_that_never_closes_is_dropped() {
    let proxy = Proxy::start(&[]);
    let mut client = proxy.connect();
    client.send(b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!(client.response().status, 400);
    assert!(client.is_at_end());
    // While the client's side is still open.
    proxy.wait_until_empty();
    drop(client);
}

#[test]
fn a_connection_whose_client_has_said_all_ends_at_once() {
    let backend = Backend::answering(OK);
    let proxy = Proxy::before(backend.address, backend.address, &[]);
    for request in [
        get(SMALL, "Connection: close\r\n"),
        format!("GET {SMALL} HTTP/1.0\r\n{FIELDS}\r\n"),
        format!("{}{}", get(SMALL, ""), get(SMALL, "Connection: close\r\n")),
    ] {
        let mut client = proxy.connect();
        client.send(request.as_bytes());
        // Before the client reads, and while its side is open.
        eventually("an answer has come", || client.stream.peek(&mut [0]).is_ok_and(|count| count > 0));
        proxy.wait_until_empty();
        let (answers, error) = client.rest_or_error();
        let answers = String::from_utf8_lossy(&answers);
        let count = answers.matches("HTTP/1.1 200").count();
        assert_eq!((count, error), (request.matches("GET").count(), None), "{answers}");
    }
}
