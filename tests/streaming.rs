//! Bodies of any size pass as they come, at the pace of the slower side and with little memory. A side that
//! stalls is given up in the end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use support::*;

const MIB: usize = 1 << 20;
/// Too much to hide in the buffers of the kernel, of which there are four on the way.
const LARGE: usize = 64 * MIB;
/// What a transfer of that size may add to the memory of proxy and peers together.
const MEMORY: usize = 16 * MIB;
/// The size of Lavalink's chunks.
const CHUNK: usize = 0x3fec;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length,
    Chunked,
    UntilClose,
}

impl Framing {
    fn field(self, total: usize) -> String {
        match self {
            Self::Length => format!("Content-Length: {total}\r\n"),
            Self::Chunked => "Transfer-Encoding: chunked\r\n".to_owned(),
            Self::UntilClose => String::new(),
        }
    }
}

/// Bytes that show their position: a piece from `offset` on.
fn pattern(offset: usize, length: usize) -> &'static [u8] {
    static BYTES: std::sync::LazyLock<Vec<u8>> =
        std::sync::LazyLock::new(|| (0..=250_u8).cycle().take(2 * CHUNK + 251).collect());
    &BYTES[offset % 251..][..length]
}

fn write_body(mut out: impl Write, framing: Framing, total: usize) {
    let mut written = 0;
    while written < total {
        let piece = pattern(written, CHUNK.min(total - written));
        if framing == Framing::Chunked {
            write!(out, "{:x}\r\n", piece.len()).unwrap();
        }
        out.write_all(piece).unwrap();
        if framing == Framing::Chunked {
            out.write_all(b"\r\n").unwrap();
        }
        written += piece.len();
    }
    if framing == Framing::Chunked {
        out.write_all(b"0\r\n\r\n").unwrap();
    }
}

/// Reads and checks a body; calls `between` after every piece.
fn read_body(mut input: impl BufRead, framing: Framing, total: usize, mut between: impl FnMut()) {
    let mut read = 0;
    let mut piece = [0; CHUNK];
    loop {
        let length = match framing {
            Framing::Chunked => usize::from_str_radix(line(&mut input).trim_end(), 16).unwrap(),
            _ => CHUNK.min(total - read),
        };
        input.read_exact(&mut piece[..length]).unwrap();
        assert!(piece[..length] == *pattern(read, length), "other bytes between {read} and {}", read + length);
        read += length;
        if framing == Framing::Chunked {
            assert_eq!(line(&mut input), "\r\n");
        }
        if length == 0 {
            break;
        }
        between();
    }
    assert_eq!(read, total);
}

fn line(input: &mut impl BufRead) -> String {
    let mut line = String::new();
    input.read_line(&mut line).unwrap();
    line
}

fn read_head(input: &mut impl BufRead) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        let line = line(input);
        assert!(!line.is_empty(), "closed within {head:?}");
        head += &line;
    }
    head
}

/// The memory of this process, in bytes.
fn memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    1024 * line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap()
}

/// Watches how much memory comes on top of what was there at the start.
struct Watch {
    before: usize,
    most: usize,
    turns: usize,
}

impl Watch {
    fn start() -> Self {
        let before = memory();
        Self { before, most: before, turns: 0 }
    }

    fn look(&mut self) {
        self.turns += 1;
        if self.turns % 64 == 0 {
            self.most = self.most.max(memory());
        }
    }

    fn check(self) {
        assert!(self.turns > 64 && self.most - self.before < MEMORY, "{} -> {}", self.before, self.most);
    }
}

fn request(method: &str, target: &str, fields: &str) -> Vec<u8> {
    format!("{method} {target} HTTP/1.1\r\nHost: bot\r\nAuthorization: DevamOP\r\n{fields}\r\n").into_bytes()
}

fn before(backend: &Backend, set: &[(&str, &str)]) -> Proxy {
    Proxy::before(backend.address, backend.address, set)
}

#[test]
fn a_large_answer_takes_little_memory() {
    let backend = Backend::start(|mut client, _| {
        while let Some(request) = client.next_request() {
            let text = String::from_utf8(request).unwrap();
            let framing = match text.split(' ').nth(1).unwrap() {
                "/v4/length" => Framing::Length,
                "/v4/chunked" => Framing::Chunked,
                _ => Framing::UntilClose,
            };
            client.send(format!("HTTP/1.1 200 OK\r\n{}\r\n", framing.field(LARGE)).as_bytes());
            write_body(&client.stream, framing, LARGE);
            if framing == Framing::UntilClose {
                return;
            }
        }
    });
    let proxy = before(&backend, &[]);
    let client = proxy.connect();
    let mut input = BufReader::new(client.stream.try_clone().unwrap());
    for (target, framing) in
        [("/v4/length", Framing::Length), ("/v4/chunked", Framing::Chunked), ("/v4/open", Framing::UntilClose)]
    {
        (&client.stream).write_all(&request("GET", target, "")).unwrap();
        let head = read_head(&mut input);
        assert!(head.contains(&framing.field(LARGE)), "{head}");
        let mut watch = Watch::start();
        read_body(&mut input, framing, LARGE, || watch.look());
        watch.check();
    }
    assert_eq!(input.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_large_request_takes_little_memory() {
    let backend = Backend::start(|client, _| {
        let mut input = BufReader::new(client.stream.try_clone().unwrap());
        for framing in [Framing::Length, Framing::Chunked] {
            let head = read_head(&mut input);
            assert!(head.contains(&framing.field(LARGE)), "{head}");
            let mut watch = Watch::start();
            read_body(&mut input, framing, LARGE, || watch.look());
            watch.check();
            (&client.stream).write_all(OK).unwrap();
        }
    });
    let proxy = before(&backend, &[("MAX_BODY", "64MiB")]);
    let mut client = proxy.connect();
    for framing in [Framing::Length, Framing::Chunked] {
        client.send(&request("POST", "/v4/x", &framing.field(LARGE)));
        write_body(&client.stream, framing, LARGE);
        assert_eq!(client.response().text(), "ok");
    }
    assert_eq!(backend.accepted(), 1);
}

#[test]
fn a_body_that_comes_together_with_its_head_passes_whole() {
    let sizes = [MIB, 100 * 1024, 16 * 1024, 1, 100 * 1024];
    let backend = Backend::start(move |client, _| {
        let mut input = BufReader::new(client.stream.try_clone().unwrap());
        for framing in [Framing::Length, Framing::Chunked] {
            for size in sizes {
                read_head(&mut input);
                read_body(&mut input, framing, size, || {});
                let mut answer = format!("HTTP/1.1 200 OK\r\n{}\r\n", framing.field(size)).into_bytes();
                write_body(&mut answer, framing, size);
                (&client.stream).write_all(&answer).unwrap();
            }
        }
    });
    let proxy = before(&backend, &[]);
    let client = proxy.connect();
    let mut input = BufReader::new(client.stream.try_clone().unwrap());
    for framing in [Framing::Length, Framing::Chunked] {
        for size in sizes {
            let mut whole = request("POST", "/v4/x", &framing.field(size));
            write_body(&mut whole, framing, size);
            (&client.stream).write_all(&whole).unwrap();
            read_head(&mut input);
            read_body(&mut input, framing, size, || {});
        }
    }
    assert_eq!(backend.accepted(), 1);
}

#[test]
fn the_largest_request_of_the_default_passes_and_one_byte_more_does_not() {
    let most = 8 * MIB;
    let backend = Backend::start(move |client, _| {
        let mut input = BufReader::new(client.stream.try_clone().unwrap());
        for framing in [Framing::Length, Framing::Chunked] {
            read_head(&mut input);
            read_body(&mut input, framing, most, || {});
            (&client.stream).write_all(OK).unwrap();
        }
    });
    let proxy = before(&backend, &[]);
    let mut client = proxy.connect();
    for framing in [Framing::Length, Framing::Chunked] {
        client.send(&request("POST", "/v4/x", &framing.field(most)));
        write_body(&client.stream, framing, most);
        assert_eq!(client.response().text(), "ok", "{framing:?}");
    }
    client.send(&request("POST", "/v4/x", &Framing::Length.field(most + 1)));
    assert_eq!(client.response().status, 413);
}

/// Writes until the peer has taken nothing for a while; how much it took.
fn write_until_blocked(stream: &TcpStream, total: usize) -> usize {
    stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut written = 0;
    while written < total {
        match (&*stream).write(pattern(written, CHUNK.min(total - written))) {
            Ok(count) => written += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error} after {written}"),
        }
    }
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    written
}

fn write_rest(mut stream: &TcpStream, mut written: usize, total: usize) {
    while written < total {
        let piece = pattern(written, CHUNK.min(total - written));
        stream.write_all(piece).unwrap();
        written += piece.len();
    }
}

#[test]
fn an_answer_waits_for_a_slow_reader() {
    let (tell, blocked) = mpsc::channel();
    let tell = Mutex::new(tell);
    let backend = Backend::start(move |mut client, _| {
        client.next_request();
        client.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n").as_bytes());
        let written = write_until_blocked(&client.stream, LARGE);
        tell.lock().unwrap().send(written).unwrap();
        write_rest(&client.stream, written, LARGE);
    });
    let proxy = before(&backend, &[]);
    let client = proxy.connect();
    (&client.stream).write_all(&request("GET", "/v4/x", "")).unwrap();
    let written = blocked.recv().unwrap();
    assert!(written < LARGE, "all of it was taken");
    let mut input = BufReader::new(&client.stream);
    read_head(&mut input);
    read_body(&mut input, Framing::Length, LARGE, || {});
}

#[test]
fn a_request_waits_for_a_slow_backend() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let backend = Backend::start(move |client, _| {
        wait.lock().unwrap().recv().unwrap();
        let mut input = BufReader::new(&client.stream);
        read_head(&mut input);
        read_body(&mut input, Framing::Length, LARGE, || {});
        (&client.stream).write_all(OK).unwrap();
    });
    let proxy = before(&backend, &[("MAX_BODY", "64MiB")]);
    let mut client = proxy.connect();
    client.send(&request("POST", "/v4/x", &Framing::Length.field(LARGE)));
    let written = write_until_blocked(&client.stream, LARGE);
    assert!(written < LARGE, "all of it was taken");
    go.send(()).unwrap();
    write_rest(&client.stream, written, LARGE);
    assert_eq!(client.response().text(), "ok");
}

#[test]
fn a_client_that_does_not_read_is_given_up() {
    let (tell, ended) = mpsc::channel();
    let tell = Mutex::new(tell);
    let backend = Backend::start(move |mut client, _| {
        client.next_request();
        client.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n");
        while client.try_send(pattern(0, CHUNK)).is_ok() {}
        tell.lock().unwrap().send(()).unwrap();
    });
    let proxy = before(&backend, &[("RESPONSE_TIMEOUT", "300ms")]);
    let mut client = proxy.connect();
    client.send(&request("GET", "/v4/x", ""));
    ended.recv_timeout(PATIENCE).unwrap();
    proxy.wait_until_empty();
    assert_eq!(proxy.ended("client-timeout"), 1);
}

#[test]
fn a_request_may_come_byte_by_byte() {
    let backend = Backend::answering(OK);
    let proxy = before(&backend, &[]);
    let mut client = proxy.connect();
    // Each byte is read before the next one is sent.
    let dribble = |client: &mut Client, bytes: &[u8]| {
        for byte in bytes {
            client.send(std::slice::from_ref(byte));
            let sent = client.sent;
            let deadline = Instant::now() + PATIENCE;
            while proxy.server.ledger().snapshot().totals.traffic.amount.bytes_in < sent {
                assert!(Instant::now() < deadline, "{}", bytes.escape_ascii());
                thread::yield_now();
            }
        }
    };
    let chunks: &[u8] = b"3;a=\"b\"\r\n[1,\r\n02\r\n2]\r\n0\r\nX: y\r\n\r\n";
    for (framing, body, forwarded) in [
        ("", &b""[..], &b""[..]),
        ("Content-Length: 5\r\n", b"[1,2]", b"[1,2]"),
        ("Transfer-Encoding: chunked\r\n", chunks, b"3\r\n[1,\r\n02\r\n2]\r\n0\r\n\r\n"),
    ] {
        let known = backend.seen().len();
        let head = request("POST", "/v4/decodetracks", framing);
        dribble(&mut client, &[&head[..], body].concat());
        assert_eq!(client.response().text(), "ok");
        let head = String::from_utf8(request("POST", "/v4/decodetracks", "")).unwrap();
        let expected = format!("{framing}X-Forwarded-For: 127.0.0.1\r\n\r\n{}", String::from_utf8_lossy(forwarded));
        assert_eq!(without_via(&backend.seen()[known..]), head.replace("\r\n\r\n", "\r\n") + &expected);
    }
    assert_eq!(backend.accepted(), 1);
}

#[test]
fn an_answer_may_come_byte_by_byte() {
    let answers = [
        "HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nhello, world",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n07\r\n, world\r\n0\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
    ];
    // As far as something comes of it, each byte is read before the next one is sent.
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let backend = Backend::start(move |mut client, _| {
        for answer in answers {
            client.next_request();
            let head =
                answer.rfind("\r\n\r\n").filter(|_| answer.contains("204")).or(answer.find("\r\n\r\n")).unwrap() + 4;
            client.dribble(&answer.as_bytes()[..head]);
            for byte in answer[head..].bytes() {
                wait.lock().unwrap().recv().unwrap();
                client.send(&[byte]);
            }
        }
    });
    let proxy = before(&backend, &[]);
    let mut client = proxy.connect();
    for answer in answers {
        client.send(&request("GET", "/v4/x", ""));
        let head = answer.find("\r\n\r\n").unwrap() + 4;
        assert_eq!(String::from_utf8(client.exactly(head)).unwrap(), answer[..head]);
        for byte in answer[head..].bytes() {
            if !answer.contains("204") {
                go.send(()).unwrap();
            }
            assert_eq!(client.exactly(1), [byte]);
        }
    }
    assert_eq!(backend.accepted(), 1);
}

/// Checks that the proxy gives this client up after its 300 ms: with a 408, or without a word.
fn check_given_up(proxy: &Proxy, client: &mut Client, says: Option<&str>, case: &str) {
    let begun = Instant::now();
    match says {
        Some(says) => {
            let response = client.response();
            assert_eq!((response.status, response.closes()), (408, true), "{case}");
            let message = response.json()["message"].as_str().unwrap().to_owned();
            assert!(message.contains(says), "{case}: {message}");
            assert!(client.is_at_end(), "{case}");
        }
        None => assert_eq!(client.rest(), b"", "{case}"),
    }
    let waited = begun.elapsed();
    assert!(waited > Duration::from_millis(200) && waited < Duration::from_secs(5), "{case}: {waited:?}");
    client.stream.shutdown(std::net::Shutdown::Both).ok();
    proxy.wait_until_empty();
}

#[test]
fn a_client_that_stalls_in_its_head_or_says_nothing_is_given_up() {
    let tap = Tap::answering(OK);
    let proxy = before(&tap.backend, &[("HEAD_TIMEOUT", "300ms")]);
    let whole = request("GET", "/v4/info", "");
    for head in [&b"G"[..], b"GET /v4/info HTTP/1.1\r\n", &whole[..whole.len() - 2], &whole[..whole.len() - 1]] {
        let mut client = proxy.connect();
        client.send(head);
        check_given_up(&proxy, &mut client, Some("not complete within HEAD_TIMEOUT"), &head.escape_ascii().to_string());
    }
    check_given_up(&proxy, &mut proxy.connect(), None, "not a byte");
    assert_eq!((proxy.ended("client-timeout"), tap.backend.accepted()), (5, 0));
}

#[test]
fn an_idle_connection_has_the_keepalive_timeout_and_its_next_head_the_head_timeout() {
    let tap = Tap::answering(OK);
    let proxy = before(&tap.backend, &[("HEAD_TIMEOUT", "10s"), ("KEEPALIVE_TIMEOUT", "300ms")]);
    let mut client = proxy.connect();
    assert_eq!(client.get("/v4/info", "").status, 200);
    check_given_up(&proxy, &mut client, None, "idle");
    assert_eq!(proxy.ended("client-timeout"), 1);

    let proxy = before(&tap.backend, &[("HEAD_TIMEOUT", "300ms"), ("KEEPALIVE_TIMEOUT", "20s")]);
    let mut client = proxy.connect();
    assert_eq!(client.get("/v4/info", "").status, 200);
    assert_eq!(client.silent_for(Duration::from_millis(600)), Some(ErrorKind::WouldBlock));
    assert_eq!(client.get("/v4/info", "").status, 200);
    client.send(b"GET /v4/info HTTP/1.1\r\n");
    check_given_up(&proxy, &mut client, Some("HEAD_TIMEOUT"), "the third head");
}

#[test]
fn a_client_that_stalls_within_its_body_is_given_up_and_the_backend_gets_no_complete_body() {
    let tap = Tap::silent();
    let proxy = before(&tap.backend, &[("HEAD_TIMEOUT", "300ms")]);
    for (framing, part) in [
        ("Content-Length: 5\r\n", "hell"),
        ("Content-Length: 5\r\n", ""),
        ("Content-Length: 5\r\nExpect: 100-continue\r\n", ""),
        ("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n"),
        ("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n"),
    ] {
        let mut client = proxy.connect();
        client.send(&[&request("POST", "/v4/x", framing)[..], part.as_bytes()].concat());
        check_given_up(&proxy, &mut client, Some("stalled; send it without a pause"), framing);
    }
    tap.wait_until_closed();
    assert_eq!((proxy.ended("client-timeout"), tap.backend.accepted()), (5, 5));
    assert!(!tap.seen().contains("\r\n0\r\n\r\n"), "{}", tap.seen());
}

#[test]
fn a_body_that_trickles_is_given_up_in_the_end() {
    let tap = Tap::silent();
    let proxy = before(&tap.backend, &[("RESPONSE_TIMEOUT", "500ms")]);
    let mut client = proxy.connect();
    client.send(&request("POST", "/v4/x", "Content-Length: 1000000\r\n"));
    let mut writer = client.stream.try_clone().unwrap();
    let begun = Instant::now();
    let trickle = thread::spawn(move || {
        while begun.elapsed() < PATIENCE && writer.write_all(b"x").is_ok() {
            thread::sleep(Duration::from_millis(20));
        }
    });
    check_given_up(&proxy, &mut client, Some("stalled"), "trickling");
    trickle.join().unwrap();
    assert_eq!(proxy.ended("client-timeout"), 1);
}

#[test]
fn a_client_that_ends_within_its_body_gets_an_error_and_the_backend_no_complete_body() {
    let tap = Tap::silent();
    let proxy = before(&tap.backend, &[]);
    for (framing, part) in
        [("Content-Length: 5\r\n", "hell"), ("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n")]
    {
        let mut client = proxy.connect();
        client.send(&[&request("POST", "/v4/x", framing)[..], part.as_bytes()].concat()).half_close();
        let response = client.response();
        assert_eq!((response.status, response.closes()), (400, true), "{framing}");
        assert!(response.text().contains("ended before its declared length") && client.is_at_end(), "{framing}");
    }
    tap.wait_until_closed();
    assert!(!tap.seen().contains("\r\n0\r\n\r\n"), "{}", tap.seen());
}

#[test]
fn a_client_that_half_closes_gets_the_whole_answer() {
    let backend = Backend::start(|mut client, _| {
        client.next_request();
        client.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {MIB}\r\n\r\n").as_bytes());
        write_body(&client.stream, Framing::Length, MIB);
    });
    let proxy = before(&backend, &[]);
    let mut client = proxy.connect();
    client.send(&request("GET", "/v4/x", "")).half_close();
    let mut input = BufReader::new(&client.stream);
    read_head(&mut input);
    read_body(&mut input, Framing::Length, MIB, || {});
    assert_eq!(input.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_client_that_leaves_within_an_answer_ends_the_backends_connection() {
    for resets in [false, true] {
        let (tell, ended) = mpsc::channel();
        let tell = Mutex::new(tell);
        let backend = Backend::start(move |mut client, number| {
            while client.next_request().is_some() {
                if number > 0 {
                    client.send(OK);
                    continue;
                }
                client.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n");
                while client.try_send(pattern(0, CHUNK)).is_ok() {}
                return tell.lock().unwrap().send(()).unwrap();
            }
        });
        let proxy = before(&backend, &[]);
        let mut client = proxy.connect();
        client.send(&request("GET", "/v4/x", ""));
        client.exactly(100_000);
        if resets {
            client.reset();
        } else {
            drop(client);
        }
        ended.recv_timeout(PATIENCE).unwrap();
        proxy.wait_until_empty();
        assert_eq!(proxy.ended("client-reset"), 1);
        assert_eq!(proxy.connect().get("/v4/x", "").text(), "ok");
        assert_eq!(backend.accepted(), 2);
    }
}
