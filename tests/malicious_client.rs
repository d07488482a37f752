//! What a client must not get away with: heads and bodies that two readers could take for two different things, and
//! more of anything than there may be. Behind each stands a second request that no backend may see.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/logged.rs"]
mod logged;
mod support;

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use logged::logged;
use support::*;

/// A good request. It must not be answered or forwarded: then the one before it was misread.
const SMUGGLED: &str = "GET /v4/smuggled HTTP/1.1\r\nHost: bot\r\nAuthorization: DevamOP\r\n\r\n";

/// A good request's lines but for those that end it.
const GET: &str = "GET /v4/info HTTP/1.1\r\nHost: bot\r\nAuthorization: DevamOP\r\n";
const POST: &str = "POST /v4/decodetracks HTTP/1.1\r\nHost: bot\r\nAuthorization: DevamOP\r\n";

fn bytes(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// A request with this field line added and a chunked body that a reader of that line alone would see.
fn with(lines: impl AsRef<[u8]>) -> Vec<u8> {
    bytes(&[POST.as_bytes(), lines.as_ref(), b"\r\n"])
}

/// Checks one of the proxy's own answers: its status, what it says, and that it looks like Lavalink's.
fn check_own(response: &Response, status: u16, says: &str, case: &str) {
    assert_eq!(response.status, status, "{case}: {}", response.text());
    assert_eq!(response.field("content-type"), Some("application/json"), "{case}");
    assert_eq!(response.field("content-length"), Some(response.body.len().to_string().as_str()), "{case}");
    let reason = response.head.lines().next().unwrap().splitn(3, ' ').nth(2).unwrap();
    let error = response.json();
    assert_eq!((error["status"].as_u64(), error["error"].as_str()), (Some(u64::from(status)), Some(reason)), "{case}");
    assert!(error["message"].as_str().unwrap().contains(says), "{case}: {error} does not say {says:?}");
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
    let timestamp = u128::from(error["timestamp"].as_u64().unwrap());
    assert!(timestamp <= now && now - timestamp < 60_000, "{case}: {error}");
    assert!(error["path"].is_string() && error.as_object().unwrap().len() == 5, "{case}: {error}");
    let text = response.text();
    let order = ["\"timestamp\"", "\"status\"", "\"error\"", "\"message\"", "\"path\""].map(|name| text.find(name));
    assert!(order.is_sorted() && order[0].is_some(), "{case}: {text}");
    assert!(!text.contains(PASSWORD), "{case}: {text}");
}

/// Sends `head` with a second request behind it, and checks that the answer is the connection's last.
fn check_refused(proxy: &Proxy, head: &[u8], status: u16, says: &str) {
    let case = head[..head.len().min(200)].escape_ascii().to_string();
    let mut client = proxy.connect();
    client.send(&bytes(&[head, SMUGGLED.as_bytes()]));
    let response = client.response();
    check_own(&response, status, says, &case);
    assert!(response.closes(), "{case}");
    assert!(client.is_at_end(), "{case}: something follows");
}

/// Checks each of `cases` on a connection of its own, and that none so much as opened one to the backend.
fn check_all_refused(cases: impl IntoIterator<Item = (Vec<u8>, u16, &'static str)>) {
    let backend = Tap::answering(OK);
    let proxy = Proxy::before(backend.backend.address, backend.backend.address, &[]);
    let mut count = 0;
    for (head, status, says) in cases {
        check_refused(&proxy, &head, status, says);
        count += 1;
    }
    assert_eq!(backend.backend.accepted(), 0, "{}", backend.seen());
    proxy.wait_until_empty();
    assert_eq!(proxy.ended("bad-request"), count);
    // The same proxy and backend do serve what is good.
    assert_eq!(proxy.connect().get("/v4/info", "").status, 200);
    assert_eq!(backend.backend.accepted(), 1);
}

#[test]
fn a_body_whose_end_is_ambiguous_is_refused() {
    let lengths = "not a number of bytes";
    let both = "both Content-Length and Transfer-Encoding";
    let coding = "the only transfer coding understood is chunked";
    let cases = [
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", 400, both),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", 400, both),
        ("Content-Length: 0\r\ntransfer-encoding: Chunked\r\n", 400, both),
        ("Content-Length: 5\r\nTransfer-Encoding: identity\r\n", 400, both),
        ("Content-Length: 5\r\nTransfer-Encoding:\r\n", 400, both),
        ("Content-Length: 5\r\nTransfer-Encoding: xchunked\r\n", 400, both),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 400, "two Transfer-Encoding"),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", 400, "two Transfer-Encoding"),
        ("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", 400, "two Transfer-Encoding"),
        ("Content-Length: 5\r\nContent-Length: 6\r\n", 400, "differ"),
        ("Content-Length: 0\r\nContent-Length: 68\r\n", 400, "differ"),
        ("Content-Length: 5, 5\r\n", 400, lengths),
        ("Content-Length: 5, 6\r\n", 400, lengths),
        ("Content-Length: +5\r\n", 400, lengths),
        ("Content-Length: -0\r\n", 400, lengths),
        ("Content-Length: 0x5\r\n", 400, lengths),
        ("Content-Length: 5 5\r\n", 400, lengths),
        ("Content-Length: 5;a\r\n", 400, lengths),
        ("Content-Length: 5.0\r\n", 400, lengths),
        ("Content-Length: 1_0\r\n", 400, lengths),
        ("Content-Length: five\r\n", 400, lengths),
        ("Content-Length:\r\n", 400, lengths),
        ("Content-Length: \u{665}\r\n", 400, lengths),
        ("Content-Length: 18446744073709551616\r\n", 400, lengths),
        ("Transfer-Encoding: xchunked\r\n", 501, coding),
        ("Transfer-Encoding: chunkedx\r\n", 501, coding),
        ("Transfer-Encoding: \"chunked\"\r\n", 501, coding),
        ("Transfer-Encoding: chunked;q=1\r\n", 501, coding),
        ("Transfer-Encoding: chunked, chunked\r\n", 501, coding),
        ("Transfer-Encoding: gzip, chunked\r\n", 501, coding),
        ("Transfer-Encoding: chunked, gzip\r\n", 501, coding),
        ("Transfer-Encoding: ,chunked\r\n", 501, coding),
        ("Transfer-Encoding: identity\r\n", 501, coding),
        ("Transfer-Encoding:\r\n", 501, coding),
        ("Transfer-Encoding: \u{e9}chunked\r\n", 501, coding),
    ];
    let old = POST.replace("HTTP/1.1", "HTTP/1.0") + "Transfer-Encoding: chunked\r\n\r\n";
    let cases = cases.into_iter().map(|(lines, status, says)| (with(lines), status, says));
    check_all_refused(cases.chain([(old.into_bytes(), 400, "Transfer-Encoding in HTTP/1.0")]));
}

#[test]
fn lines_and_fields_that_break_the_grammar_are_refused() {
    let lf = "a line ends in LF without CR";
    let cr = "a CR without LF";
    let control = "a control character";
    let name = "a field name is not a token, or a line is folded";
    let from = |text: &str| text.as_bytes().to_vec();
    check_all_refused([
        (from("GET /v4/info HTTP/1.1\nHost: bot\nAuthorization: DevamOP\n\n"), 400, lf),
        (with("X: y\n"), 400, lf),
        (with("X: y\nTransfer-Encoding: chunked\r\n"), 400, lf),
        (bytes(&[GET.as_bytes(), b"\n"]), 400, lf),
        (with("X: y\rTransfer-Encoding: chunked\r\n"), 400, cr),
        (with("X: y\r\r\n"), 400, cr),
        (with("X: y\r \r\n"), 400, cr),
        (bytes(&[GET.as_bytes(), b"\rx\r\n"]), 400, cr),
        (with("X: a\0b\r\n"), 400, control),
        (with("X\0: y\r\n"), 400, control),
        (with("Transfer-Encoding: \x0bchunked\r\n"), 400, control),
        (with("X: \x01\r\n"), 400, control),
        (with("X: \x7f\r\n"), 400, control),
        (with("X: \x1b[31m\r\n"), 400, control),
        (from("GET /v4/\0info HTTP/1.1\r\nHost: bot\r\n\r\n"), 400, control),
        (with("Content-Length : 5\r\n"), 400, name),
        (with("Transfer-Encoding\t: chunked\r\n"), 400, name),
        (with("Transfer-Encoding:\r\n chunked\r\n"), 400, name),
        (with("X: y\r\n\tz: w\r\n"), 400, name),
        (from("GET /v4/info HTTP/1.1\r\n Host: bot\r\n\r\n"), 400, name),
        (with(": y\r\n"), 400, name),
        (with("no colon\r\n"), 400, name),
        (with("X(: y\r\n"), 400, name),
        (with("\u{e9}: y\r\n"), 400, name),
        (with("X y: z\r\n"), 400, name),
    ]);
}

#[test]
fn request_lines_targets_and_hosts_that_are_not_plain_are_refused() {
    let line = "the request line is not `METHOD target HTTP/1.1`";
    let version = "the request line does not end in an HTTP version";
    let encode = "must be percent-encoded";
    let host = "Host is not a host and port";
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: bot\r\nAuthorization: DevamOP\r\n\r\n");
    let first = |line: &str| format!("{line}\r\nHost: bot\r\nAuthorization: DevamOP\r\n\r\n");
    let hosts = |lines: &str| format!("GET /v4/info HTTP/1.1\r\n{lines}Authorization: DevamOP\r\n\r\n");
    let cases = [
        (first("GET /v4/info"), 400, line),
        (first("GET  /v4/info HTTP/1.1"), 400, line),
        (first("GET /v4/info  HTTP/1.1"), 400, line),
        (first("GET /v4/info HTTP/1.1 "), 400, line),
        (first(" GET /v4/info HTTP/1.1"), 400, line),
        (first("GET /v4/info x HTTP/1.1"), 400, line),
        (first("GET\t/v4/info\tHTTP/1.1"), 400, line),
        (first(""), 400, line),
        (first("GET /v4/info http/1.1"), 400, version),
        (first("GET /v4/info HTTP/1.1x"), 400, version),
        (first("GET /v4/info HTTP/11"), 400, version),
        (first("GET /v4/info ICY/1.1"), 400, version),
        (first("GE(T /v4/info HTTP/1.1"), 400, "start line"),
        (get("/v4/info#x"), 400, "fragment"),
        (get("/v4/info?a=b#"), 400, "fragment"),
        (get("/v4/\u{e9}"), 400, encode),
        (get("/v4\tinfo"), 400, encode),
        (get("v4/info"), 400, "neither a path nor an http URI"),
        (get("*"), 400, "neither a path nor an http URI"),
        (get("ftp://bot/v4/info"), 400, "neither a path nor an http URI"),
        (get("http://other/v4/info"), 400, "differs from Host"),
        (get("http://bot:443/v4/info"), 400, "differs from Host"),
        (get("http://bot@other/v4/info"), 400, "authority is not a host and port"),
        (get("http:///v4/info"), 400, "authority is not a host and port"),
        (hosts(""), 400, "no Host field"),
        (hosts("Host: bot\r\nHost: bot\r\n"), 400, "two Host fields"),
        (hosts("Host: bot\r\nhost: other\r\n"), 400, "two Host fields"),
        (hosts("Host: bot, other\r\n"), 400, host),
        (hosts("Host: a@bot\r\n"), 400, host),
        (hosts("Host: bot/v4\r\n"), 400, host),
        (hosts("Host: bot:8o\r\n"), 400, host),
        (hosts("Host: [::1\r\n"), 400, host),
        (get("/v4/info").replace("bot\r\n", "bot\r\nAuthorization: wrong\r\n"), 400, "two Authorization fields"),
        (get("/v4/info").replace("bot\r\n", "bot\r\nauthorization: DevamOP\r\n"), 400, "two Authorization fields"),
    ];
    check_all_refused(cases.into_iter().map(|(head, status, says)| (head.into_bytes(), status, says)));
}

#[test]
fn each_limit_of_a_head_has_its_own_status() {
    let long = "x".repeat(8192);
    let longer = "x".repeat(20_000);
    let version = "only HTTP/1.1 and HTTP/1.0";
    let cases = [
        (format!("GET /v4/{long} HTTP/1.1\r\nHost: bot\r\n\r\n"), 414, "shorten the identifier or use POST"),
        (format!("GET /v4/{longer}"), 414, "shorten the identifier or use POST"),
        (format!("{GET}X: {longer}\r\n\r\n"), 431, "send fewer or shorter fields"),
        (format!("{GET}{}\r\n", "X: y\r\n".repeat(3000)), 431, "send fewer or shorter fields"),
        (format!("{GET}{}\r\n", "X: y\r\n".repeat(99)), 431, "more than 100 fields; send fewer"),
        (GET.replace("HTTP/1.1", "HTTP/2.0") + "\r\n", 505, version),
        (GET.replace("HTTP/1.1", "HTTP/3.0") + "\r\n", 505, version),
        (GET.replace("HTTP/1.1", "HTTP/1.2") + "\r\n", 505, version),
        (GET.replace("HTTP/1.1", "HTTP/0.9") + "\r\n", 505, version),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), 505, "HTTP/2 preface; speak HTTP/1.1"),
        ("\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03\x03".to_owned(), 400, "TLS hello on a plain port; use http://"),
    ];
    check_all_refused(cases.into_iter().map(|(head, status, says)| (head.into_bytes(), status, says)));
}

#[test]
fn another_protocol_gets_one_clear_line_in_the_log() {
    logged(&[]);
    let proxy = Proxy::start(&[]);
    for (hello, says) in [
        (&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"[..], "HTTP/2 preface"),
        (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", "TLS hello"),
    ] {
        let mut client = proxy.connect();
        let who = format!("client={} ", client.stream.local_addr().unwrap());
        client.send(hello).response();
        drop(client);
        eventually("the line is there", || logged(&[&who]) > 0);
        proxy.wait_until_empty();
        assert_eq!(logged(&[&who]), 1);
        assert_eq!(logged(&[&who, "event=ended", "reason=bad-request", "detail=", says]), 1);
    }
}

/// What a refused chunked body must not be taken for: its end, and a request behind it.
const AFTER: &str = "\r\n0\r\n\r\nGET /v4/smuggled HTTP/1.1\r\nHost: bot\r\nAuthorization: DevamOP\r\n\r\n";

#[test]
fn chunks_that_break_the_grammar_are_refused_wherever_they_stand() {
    let size = "a chunk size is not a hexadecimal number";
    let extension = "a chunk extension breaks the grammar";
    let cr = "a CR without LF";
    let longer = "a chunk is longer than it says";
    let trailer = "a trailer field breaks the grammar";
    let long_line = format!("5;{}\r\nhello", "x".repeat(300));
    let long_trailers = format!("0\r\n{}", "X: y\r\n".repeat(2000));
    let cases = [
        ("\r\n", size),
        ("5\nhello", size),
        (" 5\r\nhello", size),
        ("+5\r\nhello", size),
        ("-5\r\nhello", size),
        ("0x5\r\nhello", size),
        ("5h\r\nhello", size),
        ("\0\r\n", size),
        ("10000000000000005\r\nhello", "more than 16 digits"),
        ("00000000000000005\r\nhello", "more than 16 digits"),
        ("5 \r\nhello", extension),
        ("5;\r\nhello", extension),
        ("5;a\nhello", extension),
        ("5;a=\"\n\"\r\nhello", extension),
        ("5;a=b c\r\nhello", extension),
        ("5\r\r\nhello", cr),
        ("5\rhello", cr),
        ("5\r\nhello!", longer),
        ("5\r\nhello\n", longer),
        ("5\r\nhello\r\r\n", longer),
        ("0\r\n\n", trailer),
        ("0\r\nX : y\r\n", trailer),
        ("0\r\n folded: y\r\n", trailer),
        ("0\r\nX: y\n", trailer),
        (&long_line, "a chunk line is too long"),
        (&long_trailers, "the trailer section is too long"),
    ];
    let backend = Tap::silent();
    let proxy = Proxy::before(backend.backend.address, backend.backend.address, &[]);
    let head = format!("{POST}Transfer-Encoding: chunked\r\n\r\n");
    for (chunk, says) in cases {
        for before in ["", "3\r\nabc\r\n"] {
            let case = format!("{before}{}", &chunk[..chunk.len().min(60)]).escape_debug().to_string();
            // All at once, and with the request under way already.
            let mut client = proxy.connect();
            client.send(format!("{head}{before}{chunk}{AFTER}").as_bytes());
            check_own(&client.response(), 400, says, &case);
            assert!(client.is_at_end(), "{case}");

            let heads = |seen: String| seen.matches("POST ").count();
            let known = heads(backend.seen());
            let mut client = proxy.connect();
            client.send(format!("{head}{before}").as_bytes());
            eventually("the head is forwarded", || heads(backend.seen()) > known);
            client.send(format!("{chunk}{AFTER}").as_bytes());
            let refusal = client.response();
            check_own(&refusal, 400, says, &case);
            assert!(refusal.closes() && client.is_at_end(), "{case}");
        }
    }
    backend.wait_until_closed();
    let seen = backend.seen();
    // The last chunk's line may have left when a trailer that comes later turns out wrong; the end never does.
    assert!(!seen.contains("smuggled") && !seen.contains("\r\n0\r\n\r\n"), "{seen}");
}

#[test]
fn a_body_over_the_limit_is_refused_by_its_length_and_by_its_chunks() {
    let backend = Backend::answering(OK);
    let tap = Tap::silent();
    let proxy = Proxy::before(tap.backend.address, backend.address, &[("MAX_BODY", "1000B")]);
    let says = "over 1000 bytes; send less, or raise MAX_BODY";
    let body = "x".repeat(1000);
    for lines in ["Content-Length: 1001\r\n", "Content-Length: 9999999999999999\r\n"] {
        check_refused(&proxy, format!("{POST}{lines}\r\n").as_bytes(), 413, says);
    }
    let chunked = format!("{POST}Transfer-Encoding: chunked\r\n\r\n");
    for chunks in ["3e9\r\n", "ffffffffffffffff\r\n", &format!("3e8\r\n{body}\r\n1\r\n")] {
        check_refused(&proxy, format!("{chunked}{chunks}").as_bytes(), 413, says);
    }
    assert_eq!(backend.seen(), "");

    // Once more with the request under way: what was forwarded has no end.
    let mut client = proxy.connect();
    client.send(format!("{chunked}1f4\r\n{}\r\n", &body[..500]).replace("/v4/", "/v3/").as_bytes());
    eventually("the first chunk is forwarded", || tap.seen().ends_with("x\r\n"));
    client.send(format!("1f5\r\n{}{AFTER}", &body[..501]).as_bytes());
    let refusal = client.response();
    check_own(&refusal, 413, says, "the second chunk");
    assert!(refusal.closes() && client.is_at_end());
    tap.wait_until_closed();
    assert!(!tap.seen().contains("\r\n1f5\r\n") && !tap.seen().contains("smuggled"), "{}", tap.seen());

    // What is just within it passes.
    let mut client = proxy.connect();
    let response = client.request("POST", "/v4/x", "Content-Length: 1000\r\n", body.as_bytes());
    assert_eq!(response.status, 200);
    let chunks = format!("1f4\r\n{}\r\n1f4\r\n{}\r\n0\r\n\r\n", &body[..500], &body[500..]);
    let response = client.request("POST", "/v4/x", "Transfer-Encoding: chunked\r\n", chunks.as_bytes());
    assert_eq!(response.status, 200);
}

#[test]
fn a_head_that_trickles_is_cut_off_at_the_deadline() {
    let backend = Tap::answering(OK);
    let set = [("HEAD_TIMEOUT", "300ms")];
    let proxy = Proxy::before(backend.backend.address, backend.backend.address, &set);
    let says = "not complete within HEAD_TIMEOUT; send it at once";
    // On a fresh connection, and on one that was used before.
    for used in [false, true] {
        let mut client = proxy.connect();
        if used {
            assert_eq!(client.get("/v4/info", "").status, 200);
        }
        let begun = Instant::now();
        let answered = AtomicBool::new(false);
        let mut writer = Client::over(client.stream.try_clone().unwrap());
        let response = thread::scope(|scope| {
            scope.spawn(|| {
                writer.send(GET.as_bytes());
                while !answered.load(SeqCst) && begun.elapsed() < PATIENCE && writer.try_send(b"X: y\r\n").is_ok() {
                    thread::sleep(Duration::from_millis(20));
                }
            });
            let response = client.response();
            answered.store(true, SeqCst);
            response
        });
        check_own(&response, 408, says, "trickling");
        let waited = begun.elapsed();
        assert!(response.closes() && client.is_at_end());
        assert!(waited > Duration::from_millis(250) && waited < Duration::from_secs(5), "{waited:?}");
    }
    proxy.wait_until_empty();
    assert_eq!((proxy.ended("client-timeout"), backend.backend.accepted()), (2, 1));
}

#[test]
fn a_refused_request_that_was_read_whole_leaves_the_connection_usable() {
    let backend = Backend::answering(OK);
    let off = ("LAVALINK_V3_HOST", "");
    let proxy = Proxy::before(backend.address, backend.address, &[off, ("DEFAULT_VERSION", "v4")]);
    let long = "x".repeat(8150);
    let wrong = |head: &str| head.replacen("DevamOP", "wrong", 1);
    let without = |head: &str| head.replace("Authorization: DevamOP\r\n", "");
    let handshake = format!("{GET}{HANDSHAKE}\r\n");
    let size = SMUGGLED.len();
    let sized = format!("{POST}Content-Length: {size}\r\n\r\n{SMUGGLED}");
    let chunked = format!("{POST}Transfer-Encoding: chunked\r\n\r\n{size:x}\r\n{SMUGGLED}\r\n0\r\n\r\n");
    let cases = [
        (without(GET) + "\r\n", 401, "send it in the Authorization field"),
        (wrong(GET) + "\r\n", 403, "exactly one PROXY_PASSWORD"),
        (without(&handshake), 401, "send it in the Authorization field"),
        (wrong(&handshake), 401, "exactly one PROXY_PASSWORD"),
        (wrong(&sized), 403, "PROXY_PASSWORD"),
        (wrong(&chunked), 403, "PROXY_PASSWORD"),
        (format!("{GET}X: {long}\r\n\r\n"), 431, "the 8192 bytes that Lavalink reads; send fewer"),
        (GET.replace("GET ", "TRACE ") + "\r\n", 405, "use one of GET, HEAD, POST"),
        (without(&GET.replace("GET ", "TRACE ")) + "\r\n", 405, "use one of GET, HEAD, POST"),
        (GET.replace("/v4/", "/v3/") + "\r\n", 503, "there is no Lavalink v3 behind this address"),
    ];
    let mut client = proxy.connect();
    for (count, (request, status, says)) in cases.into_iter().enumerate() {
        let case = request[..request.len().min(120)].escape_debug().to_string();
        let next = format!("GET /v4/next/{count} HTTP/1.1\r\nHost: bot\r\nAuthorization: DevamOP\r\n\r\n");
        client.send(format!("{request}{next}").as_bytes());
        let refusal = client.response();
        check_own(&refusal, status, says, &case);
        assert!(!refusal.closes(), "{case}");
        assert_eq!(refusal.field("allow").is_some(), status == 405, "{case}");
        assert_eq!(client.response().status, 200, "{case}");
        let seen = backend.seen();
        assert_eq!(seen.matches("HTTP/1.1\r\n").count(), count + 1, "{case}: {seen}");
        assert!(seen.contains(&format!("/next/{count} ")) && !seen.contains("smuggled"), "{case}: {seen}");
    }

    // CONNECT may be followed by anything, and so may what its sender wants closed.
    let connect = "CONNECT other:443 HTTP/1.1\r\nHost: other:443\r\nAuthorization: DevamOP\r\n\r\n";
    check_refused(&proxy, connect.as_bytes(), 405, "use one of GET, HEAD, POST");
    check_refused(&proxy, format!("{}Connection: x, Close\r\n\r\n", wrong(GET)).as_bytes(), 403, "PROXY_PASSWORD");
    check_refused(&proxy, (wrong(GET).replace("1.1", "1.0") + "\r\n").as_bytes(), 403, "PROXY_PASSWORD");
    assert!(!backend.seen().contains("smuggled"));
}

#[test]
fn a_refused_body_that_is_never_complete_ends_the_connection() {
    let backend = Tap::answering(OK);
    let proxy = Proxy::before(backend.backend.address, backend.backend.address, &[("HEAD_TIMEOUT", "300ms")]);
    let post = POST.replace("DevamOP", "wrong");
    let too_much = format!("{}{}", "x".repeat(70_000), SMUGGLED);
    for (framing, body, announced) in [
        ("Content-Length: 1000000", too_much.as_str(), true),
        ("Content-Length: 5", "hi", false),
        ("Transfer-Encoding: chunked", "5\r\nhi", false),
        ("Transfer-Encoding: chunked", "5\nhello\r\n0\r\n\r\n", false),
    ] {
        let mut client = proxy.connect();
        client.send(format!("{post}{framing}\r\n\r\n{body}").as_bytes());
        let refusal = client.response();
        check_own(&refusal, 403, "PROXY_PASSWORD", framing);
        assert_eq!(refusal.closes(), announced, "{framing}");
        assert!(client.is_at_end(), "{framing}");
    }
    assert_eq!(backend.backend.accepted(), 0);
}
