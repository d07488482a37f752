//! What a backend must not get away with: answers that two readers could take for two different things, that are
//! cut off, that never come, or that are more than the request needs. The client can always tell, and no other client is harmed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::io::{ErrorKind, Write};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use support::*;

const POST: &str = "POST /v4/decodetracks HTTP/1.1\r\nHost: bot\r\nAuthorization: DevamOP\r\n";

/// A backend that answers `/v4/<n>` with the n-th of these and leaves it at that.
fn cases(answers: Vec<Vec<u8>>) -> Backend {
    Backend::start(move |mut client, _| {
        while let Some(request) = client.next_request() {
            let number = target(&request).trim_start_matches("/v4/").parse::<usize>();
            if client.try_send(&answers[number.unwrap()]).is_err() {
                return;
            }
        }
    })
}

fn target(request: &[u8]) -> String {
    String::from_utf8_lossy(request).split(' ').nth(1).unwrap().to_owned()
}

fn before(backend: &Backend, set: &[(&str, &str)]) -> Proxy {
    Proxy::before(backend.address, backend.address, set)
}

/// Checks that the proxy answers instead of the backend, with Lavalink's JSON and nothing of what the backend said.
fn check_own(response: &Response, status: u16, says: &str, case: &str) {
    assert_eq!(response.status, status, "{case}: {}", response.text());
    let error = response.json();
    assert_eq!(error["status"].as_u64(), Some(u64::from(status)), "{case}: {error}");
    assert!(error["message"].as_str().unwrap().contains(says), "{case}: {error} does not say {says:?}");
    assert!(!response.head.contains("evil") && !response.text().contains("evil"), "{case}: {response:?}");
}

#[test]
fn an_ambiguous_answer_is_a_502() {
    let fields = |lines: &str| format!("HTTP/1.1 200 OK\r\n{lines}\r\nevil").into_bytes();
    let both = "both Content-Length and Transfer-Encoding";
    let lengths = "not a number of bytes";
    let coding = "transfer coding";
    let name = "a field name is not a token, or a line is folded";
    let version = "no HTTP version";
    let code = "status";
    let too_large = "larger than";
    let unrequested = "switches to a protocol that the client did not ask for";
    let text = |text: &str| text.as_bytes().to_vec();
    let long = "evil".repeat(5000);
    let answers = [
        (fields("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n"), both),
        (fields("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n"), both),
        (fields("Content-Length: 4\r\nContent-Length: 0\r\n"), "differ"),
        (fields("Content-Length: 4, 4\r\n"), lengths),
        (fields("Content-Length: -4\r\n"), lengths),
        (fields("Content-Length: 0x4\r\n"), lengths),
        (fields("Content-Length: 18446744073709551616\r\n"), lengths),
        (fields("Transfer-Encoding: gzip, chunked\r\n"), coding),
        (fields("Transfer-Encoding: xchunked\r\n"), coding),
        (fields("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), "two Transfer-Encoding"),
        (fields("Content-Length: 4\r\nTransfer-Encoding : chunked\r\n"), both),
        (fields("Content-Length : 4\r\nContent-Length: 0\r\n"), "differ"),
        (fields("Transfer-Encoding\t: gzip\r\n"), coding),
        (fields("X y : z\r\n"), name),
        (fields(" : z\r\n"), name),
        (fields("X :\r\n Content-Length: 4\r\n"), name),
        (fields("X: y\r\n Content-Length: 4\r\n"), name),
        (fields("evil\r\n"), name),
        (fields("X: a\0b\r\n"), "a control character"),
        (fields("X: a\nContent-Length: 4\r\n"), "LF without CR"),
        (fields("X: a\rContent-Length: 4\r\n"), "CR without LF"),
        (fields(&"X: evil\r\n".repeat(101)), "more than 100 fields"),
        (fields(&format!("X: {long}\r\n")), too_large),
        (text(&long), ""),
        (text("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), "HTTP/1.0"),
        (text("HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"), version),
        (text("evil 200 OK\r\nContent-Length: 0\r\n\r\n"), version),
        (text("\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"), version),
        (text("HTTP/1.1 20 evil\r\nContent-Length: 0\r\n\r\n"), code),
        (text("HTTP/1.1 099 evil\r\nContent-Length: 0\r\n\r\n"), code),
        (text("HTTP/1.1 -20 evil\r\nContent-Length: 0\r\n\r\n"), code),
        (SWITCHING.to_vec(), unrequested),
        (text("HTTP/1.1 101 evil\r\n\r\n"), unrequested),
        // A chunk that is wrong and comes with its head: nothing was sent yet.
        (fields("Transfer-Encoding: chunked\r\n"), "a chunk size is not a hexadecimal number"),
        (text("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\nevil\r\n0\r\n\r\n"), "chunk size"),
        (text("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nevil!\r\n0\r\n\r\n"), "longer than it says"),
        (text("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX evil\r\n\r\n"), "trailer field"),
        // More digits than some clients read.
        (
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{}4\r\nevil\r\n0\r\n\r\n", "0".repeat(40))
                .into_bytes(),
            "more than 16 digits",
        ),
        (
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nevil\r\n{}\r\n\r\n", "0".repeat(17))
                .into_bytes(),
            "more than 16 digits",
        ),
    ];
    let backend = cases(answers.iter().map(|(answer, _)| answer.clone()).collect());
    let proxy = before(&backend, &[]);
    for (number, (answer, says)) in answers.iter().enumerate() {
        let case = answer[..answer.len().min(100)].escape_ascii().to_string();
        let mut client = proxy.connect();
        check_own(&client.get(&format!("/v4/{number}"), ""), 502, says, &case);
        assert!(client.is_at_end(), "{case}");
        // Each came on a connection of its own: none of them was used again.
        assert_eq!(backend.accepted(), number + 1, "{case}");
    }
    proxy.wait_until_empty();
    assert_eq!(proxy.ended("bad-response"), answers.len() as u64);
}

#[test]
fn a_101_that_does_not_fit_its_request_is_a_502() {
    let start = "HTTP/1.1 101 Switching Protocols\r\n";
    let answers = [
        "Connection: Upgrade\r\nUpgrade: h2c\r\n\r\nevil",
        "Connection: Upgrade\r\nUpgrade: websocket, evil\r\n\r\nevil",
        "Connection: Upgrade\r\n\r\nevil",
        "Upgrade: websocket\r\n\r\nevil",
    ];
    let backend = cases(answers.iter().map(|answer| format!("{start}{answer}").into_bytes()).collect());
    let proxy = before(&backend, &[]);
    for (number, answer) in answers.iter().enumerate() {
        let mut client = proxy.connect();
        check_own(&client.upgrade(&format!("/v4/{number}")), 502, "the client did not ask for", answer);
        assert!(client.is_at_end());
    }
    // The handshake of a version that knows no upgrade, and one that is no handshake, ask for none.
    let good = Backend::answering(SWITCHING);
    let proxy = before(&good, &[]);
    for line in ["GET /v4/websocket HTTP/1.0", "POST /v4/websocket HTTP/1.1"] {
        let mut client = proxy.connect();
        client.send(format!("{line}\r\nHost: bot\r\nAuthorization: DevamOP\r\n{HANDSHAKE}\r\n").as_bytes());
        check_own(&client.response(), 502, "the client did not ask for", line);
    }
    assert!(!good.seen().to_lowercase().contains("upgrade"), "{}", good.seen());
}

#[test]
fn interim_answers_are_bounded() {
    let backend = Backend::start(|mut client, _| {
        client.next_request();
        while client.try_send(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n").is_ok() {}
    });
    let proxy = before(&backend, &[]);
    let mut client = proxy.connect();
    let mut response = client.get("/v4/info", "");
    let mut interim = 0;
    while response.status == 103 && interim < 1000 {
        interim += 1;
        response = client.response();
    }
    check_own(&response, 502, "too many interim answers", "a flood");
    assert!((2..100).contains(&interim) && client.is_at_end(), "{interim}");
}

/// An answer that breaks off.
struct Cut {
    request: &'static str,
    /// What the backend sends before its connection ends.
    answer: &'static str,
    /// What of that comes to the client behind the head.
    relayed: &'static str,
    /// True when the connection ends with a reset.
    by_reset: bool,
    /// True when the client's connection must do so too.
    resets: bool,
}

const GET: &str = "GET /v4/info HTTP/1.1\r\nHost: bot\r\nAuthorization: DevamOP\r\n\r\n";
const OLD: &str = "GET /v4/info HTTP/1.0\r\nHost: bot\r\nAuthorization: DevamOP\r\n\r\n";
const LENGTH: &str = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello";
const OPEN: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello";
const CHUNK: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
const PART: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel";
const LAST: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n";
const TRAILER: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n";

#[test]
fn a_body_that_is_cut_off_does_not_look_whole_to_the_client() {
    let mut cuts = Vec::new();
    for by_reset in [false, true] {
        for (request, answer, relayed, resets) in [
            // By length and by chunks any end is seen to be early.
            (GET, LENGTH, "hello", false),
            (OLD, LENGTH, "hello", false),
            (GET, CHUNK, "5\r\nhello\r\n", false),
            (GET, PART, "5\r\nhel", false),
            (GET, LAST, "5\r\nhello\r\n0\r\n", false),
            (GET, TRAILER, "5\r\nhello\r\n0\r\n", false),
            // Where the close is the end, a part must not look like the whole.
            (GET, OPEN, "hello", by_reset),
            (OLD, OPEN, "hello", by_reset),
            (OLD, CHUNK, "hello", true),
            (OLD, PART, "hel", true),
            (OLD, LAST, "hello", true),
            (OLD, TRAILER, "hello", true),
        ] {
            cuts.push(Cut { request, answer, relayed, by_reset, resets });
        }
    }
    let (send, answers) = mpsc::channel();
    let (go, read) = mpsc::channel();
    let script = Mutex::new((answers, read));
    let backend = Backend::start(move |mut client, _| {
        let script = script.lock().unwrap();
        client.next_request();
        let (answer, by_reset): (&str, bool) = script.0.recv().unwrap();
        client.send(answer.as_bytes());
        script.1.recv().unwrap();
        if by_reset {
            client.reset();
        }
    });
    let proxy = before(&backend, &[]);
    for Cut { request, answer, relayed, by_reset, resets } in cuts {
        let case = format!("{request:?} {answer:?} {by_reset}");
        send.send((answer, by_reset)).unwrap();
        let mut client = proxy.connect();
        client.send(request.as_bytes());
        let head = client.response_to("HEAD");
        assert_eq!(head.status, 200, "{case}");
        assert_eq!(String::from_utf8_lossy(&client.exactly(relayed.len())), relayed, "{case}");
        go.send(()).unwrap();
        let (rest, error) = client.rest_or_error();
        assert_eq!((&rest[..], error), (&b""[..], resets.then_some(ErrorKind::ConnectionReset)), "{case}");
        let framing = (head.field("content-length"), head.field("transfer-encoding"));
        assert_eq!(framing.0, (answer == LENGTH).then_some("10"), "{case}");
        assert_eq!(framing.1, (request == GET && answer != LENGTH && answer != OPEN).then_some("chunked"), "{case}");
    }
    // The whole of it is no cut, for an old client either.
    send.send(("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", false)).unwrap();
    go.send(()).unwrap();
    let mut client = proxy.connect();
    client.send(OLD.as_bytes());
    assert_eq!(client.response_to("HEAD").status, 200);
    assert_eq!(client.rest_or_error(), (b"hello".to_vec(), None));
}

#[test]
fn a_chunk_that_breaks_the_grammar_after_the_head_was_sent_ends_the_connection() {
    let (sent, receiver) = mpsc::channel::<()>();
    let receiver = Mutex::new(receiver);
    let bad = ["zz\r\nevil\r\n0\r\n\r\n", "4\nevil\r\n0\r\n\r\n", "4\r\nevil!\r\n0\r\n\r\n", "0\r\n : evil\r\n\r\n"];
    let backend = Backend::start(move |mut client, number| {
        client.next_request();
        client.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
        receiver.lock().unwrap().recv().unwrap();
        client.send(bad[number / 2].as_bytes());
        client.rest_or_error();
    });
    let proxy = before(&backend, &[]);
    for number in 0..2 * bad.len() {
        let old = number % 2 == 1;
        let mut client = proxy.connect();
        let version = if old { "1.0" } else { "1.1" };
        client.send(format!("GET /v4/x HTTP/{version}\r\nHost: bot\r\nAuthorization: DevamOP\r\n\r\n").as_bytes());
        assert_eq!(client.response_to("HEAD").status, 200);
        if old {
            assert_eq!(client.exactly(5), b"hello");
        } else {
            assert_eq!(client.exactly(10), b"5\r\nhello\r\n");
        }
        sent.send(()).unwrap();
        let (rest, error) = client.rest_or_error();
        assert!(!rest.ends_with(b"0\r\n\r\n"), "{number}: {}", rest.escape_ascii());
        assert_eq!(error, old.then_some(ErrorKind::ConnectionReset), "{number}");
    }
    proxy.wait_until_empty();
    assert_eq!(proxy.ended("bad-response"), 2 * bad.len() as u64);
}

#[test]
fn an_answer_that_does_not_come_in_time_is_a_504() {
    let says = "did not answer within RESPONSE_TIMEOUT; see its log";
    let backend = Backend::start(|mut client, _| {
        while let Some(request) = client.next_request() {
            match target(&request).as_str() {
                "/v4/silent" => {}
                "/v4/half" => drop(client.send(b"HTTP/1.1 200 OK\r\nX: evil")),
                "/v4/trickle" => {
                    client.send(b"HTTP/1.1 200 OK\r\n");
                    while client.try_send(b"X: evil\r\n").is_ok() {
                        thread::sleep(Duration::from_millis(50));
                    }
                    return;
                }
                _ => drop(client.send(OK)),
            }
        }
    });
    let proxy = before(&backend, &[("RESPONSE_TIMEOUT", "300ms")]);
    let check = |target: &str, fields: &str| {
        let mut client = proxy.connect();
        let begun = Instant::now();
        check_own(&client.get(target, fields), 504, says, target);
        let waited = begun.elapsed();
        assert!(client.is_at_end(), "{target}");
        assert!(waited > Duration::from_millis(250) && waited < Duration::from_secs(5), "{target}: {waited:?}");
    };
    check("/v4/silent", "");
    check("/v4/half", "");
    check("/v4/trickle", "");
    check("/v4/silent", HANDSHAKE);
    // On a connection that was used before as well, where a GET is repeated only if the backend closes.
    let mut client = proxy.connect();
    assert_eq!(client.get("/v4/good", "").status, 200);
    check_own(&client.get("/v4/silent", ""), 504, says, "a used connection");
    drop(client);
    assert_eq!(backend.accepted(), 5);
    proxy.wait_until_empty();
    assert_eq!(proxy.ended("backend-timeout"), 5);
}

#[test]
fn a_backend_that_does_not_read_a_request_is_a_504() {
    let (done, release) = mpsc::channel::<()>();
    let release = Mutex::new(release);
    let backend = Backend::start(move |client, _| {
        let _ = release.lock().unwrap().recv();
        drop(client);
    });
    let proxy = before(&backend, &[("RESPONSE_TIMEOUT", "300ms"), ("MAX_BODY", "1GiB")]);
    let mut client = proxy.connect();
    client.send(format!("{POST}Content-Length: 1000000000\r\n\r\n").as_bytes());
    let mut writer = client.stream.try_clone().unwrap();
    let flood = thread::spawn(move || while writer.write_all(&[b'x'; 65536]).is_ok() {});
    let response = client.response();
    check_own(&response, 504, "RESPONSE_TIMEOUT", "a backend that does not read");
    assert!(response.closes());
    drop(done);
    // It fails when lavaproxy has read enough of the flood, and has reset the connection.
    let _ = client.stream.shutdown(std::net::Shutdown::Both);
    flood.join().unwrap();
}

#[test]
fn an_answer_that_stalls_is_ended_so_that_the_client_can_tell() {
    let backend = Backend::start(|mut client, _| {
        let request = client.next_request().unwrap();
        client.send(match target(&request).as_str() {
            "/v4/length" => b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
            "/v4/chunked" => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
            _ => b"HTTP/1.1 200 OK\r\n\r\nhello",
        });
        client.rest_or_error();
    });
    let proxy = before(&backend, &[("RESPONSE_TIMEOUT", "300ms")]);
    for (target, expected, reset) in
        [("/v4/length", &b"hello"[..], false), ("/v4/chunked", b"5\r\nhello\r\n", false), ("/v4/open", b"hello", true)]
    {
        let mut client = proxy.connect();
        client.send(format!("GET {target} HTTP/1.1\r\nHost: bot\r\nAuthorization: DevamOP\r\n\r\n").as_bytes());
        assert_eq!(client.response_to("HEAD").status, 200);
        let (rest, error) = client.rest_or_error();
        assert_eq!((&rest[..], error), (expected, reset.then_some(ErrorKind::ConnectionReset)), "{target}");
    }
    proxy.wait_until_empty();
    assert_eq!(proxy.ended("backend-timeout"), 3);
}

#[test]
fn a_backend_that_closes_before_it_answers_is_a_502() {
    let backend = Backend::start(|mut client, _| {
        let request = client.next_request().unwrap();
        match target(&request).as_str() {
            "/v4/fin" => {}
            "/v4/reset" => client.reset(),
            "/v4/head" => drop(client.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nX: evil")),
            "/v4/line" => drop(client.send(b"HTTP/1.1 200 OK\r\nX: evil\r\n")),
            _ => drop(client.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")),
        }
    });
    let proxy = before(&backend, &[]);
    let closed = "closed the connection before it answered; see its log";
    let within = "ends within its head";
    let targets =
        [("/v4/fin", closed), ("/v4/reset", closed), ("/v4/head", within), ("/v4/line", within), ("/v4/hints", within)];
    for (target, says) in targets {
        let mut client = proxy.connect();
        let mut response = client.get(target, "");
        if response.status == 103 {
            response = client.response();
        }
        check_own(&response, 502, says, target);
        assert!(client.is_at_end(), "{target}");
    }
    // Not on a connection that was used before: nothing is tried twice.
    assert_eq!(backend.accepted(), targets.len());
    proxy.wait_until_empty();
    for reason in ["backend-closed", "backend-reset"] {
        assert_eq!(proxy.ended(reason), 1, "{reason}");
    }
    assert_eq!(proxy.ended("bad-response"), 3);
}

#[test]
fn no_backend_at_all_is_a_502_that_says_which_settings_to_look_at() {
    let proxy = Proxy::start(&[]);
    let mut client = proxy.connect();
    for (target, says) in [("/v4/info", "correct LAVALINK_V4_HOST and LAVALINK_V4_PORT"), ("/v3/info", "LAVALINK_V3")] {
        let response = client.get(target, "");
        check_own(&response, 502, says, target);
        // The request was read whole, so the connection goes on.
        assert!(!response.closes());
    }
}

/// The backend sends something behind its answer: with it, or when the client has read that already.
fn check_surplus(answer: &'static str, method: &'static str, surplus: &'static str, later: bool) {
    let (go, wait) = mpsc::channel::<()>();
    let (report, reported) = mpsc::channel();
    let script = Mutex::new((wait, report));
    let backend = Backend::start(move |mut client, number| {
        if number > 0 {
            while client.next_request().is_some() {
                client.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhonest");
            }
            return;
        }
        let (wait, report) = &*script.lock().unwrap();
        client.next_request();
        if later {
            client.send(answer.as_bytes());
            wait.recv().unwrap();
            client.send(surplus.as_bytes());
        } else {
            client.send(format!("{answer}{surplus}").as_bytes());
        }
        report.send(Vec::new()).unwrap();
        report.send(client.rest_or_error().0).unwrap();
    });
    let case = format!("{method} {answer:?} {surplus:?} later={later}");
    {
        let proxy = before(&backend, &[]);
        let mut first = proxy.connect();
        let response = first.request(method, "/v4/first", "", b"");
        assert!(!response.text().contains("evil"), "{case}");
        go.send(()).unwrap();
        reported.recv().unwrap();
        let mut second = proxy.connect();
        for client in [&mut second, &mut first] {
            assert_eq!(client.get("/v4/second", "").text(), "honest", "{case}");
        }
    }
    assert_eq!(reported.recv_timeout(PATIENCE).unwrap(), b"", "{case}: that connection was used again");
}

#[test]
fn bytes_behind_an_answer_never_become_another_answer() {
    const EVIL: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    thread::scope(|scope| {
        for later in [false, true] {
            for (answer, method, surplus) in [
                ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "GET", EVIL),
                ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "GET", "\r\n"),
                ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "GET", EVIL),
                ("HTTP/1.1 200 OK\r\nContent-Length: 44\r\n\r\n", "HEAD", EVIL),
                ("HTTP/1.1 204 No Content\r\nContent-Length: 44\r\n\r\n", "DELETE", EVIL),
                ("HTTP/1.1 304 Not Modified\r\nContent-Length: 44\r\n\r\n", "GET", EVIL),
            ] {
                scope.spawn(move || check_surplus(answer, method, surplus, later));
            }
        }
    });
}

#[test]
fn an_idle_connection_that_the_backend_closed_is_not_used() {
    for resets in [false, true] {
        let (go, wait) = mpsc::channel::<()>();
        let (report, done) = mpsc::channel::<()>();
        let wait = Mutex::new(wait);
        let requests = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&requests);
        let backend = Backend::start(move |mut client, number| {
            while client.next_request().is_some() {
                counted.fetch_add(1, SeqCst);
                client.send(OK);
                if number == 0 {
                    wait.lock().unwrap().recv().unwrap();
                    if resets {
                        client.reset();
                    } else {
                        drop(client);
                    }
                    return report.send(()).unwrap();
                }
            }
        });
        let proxy = before(&backend, &[]);
        let mut client = proxy.connect();
        assert_eq!(client.get("/v4/info", "").status, 200);
        go.send(()).unwrap();
        done.recv().unwrap();
        // Not even a POST, which is never repeated, notices.
        assert_eq!(client.request("POST", "/v4/x", "Content-Length: 1\r\n", b"x").status, 200);
        assert_eq!((requests.load(SeqCst), backend.accepted()), (2, 2));
    }
}

/// What a request gets that finds the connection it is sent on dying, and how often the backend got it.
///
/// The connection was used before. It says `last` and ends, with a reset or not; the ones after it answer, unless
/// the backend is `dead`.
fn delivered(method: &'static str, rest: &str, last: &'static [u8], by_reset: bool, dead: bool) -> (u16, usize) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let backend = Backend::start(move |mut client, number| {
        while let Some(request) = client.next_request() {
            if target(&request) == "/v4/first" {
                client.send(OK);
                continue;
            }
            counted.fetch_add(1, SeqCst);
            if number == 0 || dead {
                client.send(last);
                return if by_reset { client.reset() } else { drop(client) };
            }
            client.send(if method == "HEAD" { OK.strip_suffix(b"ok").unwrap() } else { OK });
        }
    });
    let proxy = before(&backend, &[]);
    let mut client = proxy.connect();
    assert_eq!(client.get("/v4/first", "").status, 200);
    client.send(format!("{method} /v4/x HTTP/1.1\r\nHost: bot\r\nAuthorization: DevamOP\r\n{rest}").as_bytes());
    let mut response = client.response_to(method);
    while response.status < 200 {
        response = client.response_to(method);
    }
    (response.status, count.load(SeqCst))
}

#[test]
fn only_an_idempotent_request_without_a_byte_of_an_answer_is_sent_once_more() {
    let (none, sized, chunked) =
        ("\r\n", "Content-Length: 2\r\n\r\n{}", "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n");
    let hints = b"HTTP/1.1 103 Early Hints\r\n\r\n";
    thread::scope(|scope| {
        for by_reset in [false, true] {
            for (method, rest, last, dead, expected) in [
                ("GET", none, &b""[..], false, (200, 2)),
                ("HEAD", none, b"", false, (200, 2)),
                ("OPTIONS", none, b"", false, (200, 2)),
                ("GET", sized, b"", false, (200, 2)),
                ("GET", chunked, b"", false, (200, 2)),
                ("PUT", sized, b"", false, (200, 2)),
                ("PUT", chunked, b"", false, (200, 2)),
                ("DELETE", none, b"", false, (200, 2)),
                ("DELETE", sized, b"", false, (200, 2)),
                // Once more, not for ever.
                ("DELETE", none, b"", true, (502, 2)),
                ("GET", none, b"", true, (502, 2)),
                // It has been understood.
                ("GET", none, b"HTTP/1.1 2", false, (502, 1)),
                ("GET", none, hints, false, (502, 1)),
                ("DELETE", none, b"HTTP/1.1 2", false, (502, 1)),
                ("PUT", sized, hints, false, (502, 1)),
                ("POST", none, b"", false, (502, 1)),
                ("POST", sized, b"", false, (502, 1)),
                ("POST", chunked, b"", false, (502, 1)),
                ("PATCH", sized, b"", false, (502, 1)),
                ("PATCH", none, b"", false, (502, 1)),
                ("SOMETHING", none, b"", false, (502, 1)),
            ] {
                scope.spawn(move || {
                    let found = delivered(method, rest, last, by_reset, dead);
                    assert_eq!(found, expected, "{method} {rest:?} {} {by_reset} {dead}", last.escape_ascii());
                });
            }
        }
    });
}

#[test]
fn an_answer_before_the_request_was_read_is_relayed_and_ends_both_connections() {
    let body = "x".repeat(100_000);
    for (framing, part) in [
        ("Content-Length: 1000000", &body[..]),
        ("Content-Length: 1000000", ""),
        ("Transfer-Encoding: chunked", "5\r\nhello\r\n"),
    ] {
        let tap = Tap::answering("HTTP/1.1 413 Content Too Large\r\nContent-Length: 5\r\n\r\nearly");
        let proxy = before(&tap.backend, &[]);
        let mut client = proxy.connect();
        client.send(format!("{POST}{framing}\r\n\r\n{part}").as_bytes());
        let response = client.response();
        assert_eq!((response.status, response.text().as_str()), (413, "early"), "{framing}");
        assert!(response.closes() && client.is_at_end(), "{framing}");
        tap.wait_until_closed();
        assert_eq!(proxy.connect().get("/v4/info", "").status, 413);
        assert_eq!(tap.backend.accepted(), 2, "a connection with half a request on it was used again");
    }
}

#[test]
fn an_answer_is_relayed_even_if_the_backend_resets_over_the_rest_of_the_request() {
    let backend = Backend::start(|mut client, _| {
        client.next_head();
        client.send(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 5\r\nConnection: close\r\n\r\nearly");
        // What was not read makes this a reset.
    });
    let proxy = before(&backend, &[("MAX_BODY", "1GiB")]);
    let mut client = proxy.connect();
    client.send(format!("{POST}Content-Length: 100000000\r\n\r\n").as_bytes());
    let mut writer = client.stream.try_clone().unwrap();
    let flood = thread::spawn(move || while writer.write_all(&[b'x'; 65536]).is_ok() {});
    let response = client.response();
    assert_eq!((response.status, response.text().as_str()), (413, "early"));
    client.stream.shutdown(std::net::Shutdown::Both).unwrap();
    flood.join().unwrap();
}
