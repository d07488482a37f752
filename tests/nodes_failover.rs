//! Connects that fail go on to the next node; what was sent never does, but a load that failed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/nodes.rs"]
mod nodes;
mod support;
#[path = "support/web.rs"]
mod web;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use lavaproxy::config::Lavalink::{self, V3, V4};
use nodes::{Bot, Deaf, FakeNode, Nodes, Refusing, UNASKED, health, list, ok, row};
use support::{HANDSHAKE, Proxy, eventually};

/// A node that answers everything with a 200 that says its name, and agrees to handshakes.
fn node(name: &'static str) -> FakeNode {
    FakeNode::start(move |client, request| {
        if request.starts_with(b"GET /v4/websocket") {
            let _ = client.try_send(support::SWITCHING);
            client.rest_or_error();
            return false;
        }
        client.try_send(&ok(name)).is_ok()
    })
}

#[test]
fn a_refused_connect_goes_on_to_the_next_node() {
    let (good, refusing) = (node("good"), [Refusing::start(), Refusing::start()]);
    // The second node is the first one's turn.
    let list = list(&[("b", good.address()), ("a", refusing[0].address()), ("c", refusing[1].address())]);
    for number in 0..8 {
        let proxy = nodes::proxy(V4, &list, &[UNASKED]);
        let mut client = proxy.connect();
        let post = "Content-Length: 2\r\n";
        let answer = match number % 4 {
            0 => client.get("/v4/info", ""),
            1 => client.request("POST", "/v4/decodetracks", post, b"[]"),
            2 => client.request("PATCH", "/v4/anything", post, b"{}"),
            _ => client.get("/v4/websocket", HANDSHAKE),
        };
        assert_eq!(answer.status, if number % 4 == 3 { 101 } else { 200 }, "{answer:?}");
        let row = proxy.stats()["connections"][0].clone();
        assert_eq!((&row["node"], &row["backend"]), (&"b".into(), &good.address().to_string().into()), "{row}");
    }
    assert_eq!(good.requests().len(), 8);
    let proxy = nodes::proxy(V4, &list, &[UNASKED]);
    let answer = proxy.connect().get("/v4/info", "Lavalink-Node: a\r\n");
    assert_eq!(answer.status, 502, "a node that was named is the only one: {}", answer.text());
    assert_eq!(proxy.connect().get("/v4/sessions/c.abc/players", "").status, 502, "so is the node of a session");
    // But a resume may end at another node, where it is a new session.
    assert_eq!(proxy.connect().get("/v4/websocket", &format!("{HANDSHAKE}Session-Id: c.abc\r\n")).status, 101);
}

#[test]
fn connects_that_time_out_share_one_connect_timeout() {
    const TIMEOUT: Duration = Duration::from_secs(3);
    let (good, deaf) = (node("good"), [Deaf::start(), Deaf::start()]);
    let set = [UNASKED, ("CONNECT_TIMEOUT", "3s")];
    let list = |third: SocketAddr| list(&[("a", deaf[0].address), ("b", deaf[1].address), ("c", third)]);
    for fields in ["", "Session-Id: a.x\r\n"] {
        let proxy = nodes::proxy(V4, &list(good.address()), &set);
        let started = Instant::now();
        assert_eq!(proxy.connect().get("/v4/info", fields).text(), "good");
        assert!(started.elapsed() < TIMEOUT, "{:?}", started.elapsed());
    }
    let third = Deaf::start();
    let proxy = nodes::proxy(V4, &list(third.address), &set);
    let started = Instant::now();
    let answer = proxy.connect().get("/v4/info", "");
    let taken = started.elapsed();
    println!("three nodes that take no connection, CONNECT_TIMEOUT 3s: 504 after {taken:?}");
    assert_eq!(answer.status, 504, "{}", answer.text());
    assert!(taken < TIMEOUT * 3 / 2, "{taken:?}");
}

#[test]
fn a_request_that_was_sent_is_never_sent_to_another_node() {
    for ending in ["closed", "reset", "half a head", "silence"] {
        let requests = Arc::new(AtomicUsize::new(0));
        let start = || {
            let requests = Arc::clone(&requests);
            FakeNode::start(move |client, _| {
                requests.fetch_add(1, SeqCst);
                match ending {
                    "reset" => support::reset(&client.stream),
                    "half a head" => drop(client.try_send(b"HTTP/1.1 200 O")),
                    "silence" => drop(client.rest_or_error()),
                    _ => {}
                }
                false
            })
        };
        let nodes = [start(), start(), start()];
        let list = list(&[("a", nodes[0].address()), ("b", nodes[1].address()), ("c", nodes[2].address())]);
        let proxy = nodes::proxy(V4, &list, &[UNASKED, ("RESPONSE_TIMEOUT", "700ms")]);
        let post = "Content-Length: 2\r\n";
        let expected = if ending == "silence" { 504 } else { 502 };
        for (number, (method, target, fields)) in [
            ("GET", "/v4/info", ""),
            ("GET", "/v4/loadtracks?identifier=x", ""),
            ("POST", "/v4/decodetracks", post),
            ("PATCH", "/v4/sessions/a.x/players/1", post),
            ("DELETE", "/v4/sessions/a.x/players/1", ""),
            ("GET", "/v4/websocket", HANDSHAKE),
        ]
        .into_iter()
        .enumerate()
        {
            let body: &[u8] = if fields == post { b"{}" } else { b"" };
            let answer = proxy.connect().request(method, target, fields, body);
            assert_eq!(answer.status, expected, "{method} {target} {ending}: {}", answer.text());
            assert_eq!(requests.load(SeqCst), number + 1, "{method} {target} {ending}");
        }
    }
}

const FAILED: [(Lavalink, &str); 2] = [
    (V4, r#"{"loadType":"error","data":{"message":"blocked","severity":"common","cause":"x","causeStackTrace":"y"}}"#),
    (
        V3,
        r#"{"loadType":"LOAD_FAILED","tracks":[],"playlistInfo":{},"exception":{"message":"blocked","severity":"COMMON"}}"#,
    ),
];

/// Two scripted nodes, and lavaproxy in front of them. Which one gets the first load is their turn.
struct Pair {
    proxy: Proxy,
    nodes: [FakeNode; 2],
}

impl Pair {
    /// The first load, wherever it goes, is answered with the first of these, the second with the second, and all others
    /// with an empty object.
    fn answering(version: Lavalink, answers: [Vec<Vec<u8>>; 2], set: &[(&str, &str)]) -> Self {
        let turn = Arc::new(AtomicUsize::new(0));
        let answers = Arc::new(answers);
        let start = || {
            let (turn, answers) = (Arc::clone(&turn), Arc::clone(&answers));
            FakeNode::start(move |client, _| {
                let more = [ok("{}")];
                let pieces = answers.get(turn.fetch_add(1, SeqCst)).map_or(&more[..], |pieces| pieces);
                pieces.iter().all(|piece| client.try_send(piece).is_ok())
            })
        };
        let nodes = [start(), start()];
        let list = list(&[("a", nodes[0].address()), ("b", nodes[1].address())]);
        Self { proxy: nodes::proxy(version, &list, &[&[UNASKED], set].concat()), nodes }
    }

    fn requests(&self) -> [usize; 2] {
        self.nodes.each_ref().map(|node| node.requests().len())
    }
}

fn target(version: Lavalink) -> String {
    format!("/{}/loadtracks?identifier=ytsearch%3Anever", version.name())
}

#[test]
fn a_load_that_failed_is_answered_by_the_other_node() {
    for (version, failed) in FAILED {
        let chunked = |piece: usize| {
            let chunks: Vec<u8> = failed
                .as_bytes()
                .chunks(piece)
                .flat_map(|chunk| [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat())
                .collect();
            [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", &chunks[..], b"0\r\n\r\n"].concat()
        };
        let until_close = [b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", failed.as_bytes()].concat();
        let spaced = ok(&failed.replace(':', " : ").replace('{', "{\r\n "));
        let pieces = |answer: &[u8], size: usize| answer.chunks(size).map(<[u8]>::to_vec).collect::<Vec<_>>();
        for first in [
            vec![ok(failed)],
            pieces(&ok(failed), 1),
            vec![chunked(1)],
            vec![chunked(7)],
            pieces(&chunked(1), 1),
            pieces(&chunked(3), 2),
            vec![until_close],
            vec![spaced],
        ] {
            let pair = Pair::answering(version, [first.clone(), vec![ok("the other's")]], &[]);
            let mut client = pair.proxy.connect();
            let answer = client.get(&target(version), "X-A: 1\r\n");
            assert_eq!(answer.text(), "the other's", "{}", first.concat().escape_ascii());
            assert_eq!(pair.requests(), [1, 1], "one request to each");
            let same =
                |text: &str| text.split("\r\n").filter(|line| !line.starts_with("Host")).collect::<Vec<_>>().join("|");
            assert_eq!(same(&pair.nodes[0].requests()[0]), same(&pair.nodes[1].requests()[0]));
            // The connection goes on.
            assert_eq!(client.get("/version", "Lavalink-Node: a\r\n").status, 200);
            let rows: u64 = ["a", "b"]
                .iter()
                .map(|name| row(nodes::web(&pair.proxy), name)["loadsRetried"].as_u64().unwrap())
                .sum();
            assert_eq!(rows, 1);
            let metrics = web::get(&pair.proxy, "/metrics").text();
            let counted =
                |name: &str| metrics.contains(&format!("lavaproxy_node_loads_retried_total{{node=\"{name}\"}} 1\n"));
            assert!(counted("a") ^ counted("b"), "{metrics}");
        }
    }
}

#[test]
fn the_other_node_gets_the_session_id_as_the_first_one_did() {
    for (version, failed) in FAILED {
        for sent in ["a.zz", "b.zz", "zz"] {
            let pair = Pair::answering(version, [vec![ok(failed)], vec![ok("the other's")]], &[]);
            let answer = pair.proxy.connect().get(&target(version), &format!("Session-Id: {sent}\r\n"));
            assert_eq!(answer.text(), "the other's", "{sent}");
            for node in &pair.nodes {
                let requests = node.requests();
                assert_eq!(requests.len(), 1, "{sent}");
                assert!(requests[0].contains("\r\nSession-Id: zz\r\n"), "{sent}: {}", requests[0]);
            }
        }
    }
}

#[test]
fn when_both_nodes_fail_the_first_answer_is_relayed_byte_for_byte() {
    for (version, failed) in FAILED {
        for second in [
            ok(&failed.replace("blocked", "blocked too")),
            b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n".to_vec(),
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnone".to_vec(),
            b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n".to_vec(),
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".to_vec(),
            b"nonsense\r\n\r\n".to_vec(),
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense".to_vec(),
        ] {
            let first = [
                format!("HTTP/1.1 200 OK\r\nX-First: yes\r\nContent-Length: {}\r\n\r\n", failed.len()).as_bytes(),
                failed.as_bytes(),
            ]
            .concat();
            let pair = Pair::answering(version, [vec![first.clone()], vec![second.clone()]], &[]);
            let mut client = pair.proxy.connect();
            let answer = client.get(&target(version), "");
            let got = [answer.head.as_bytes(), &answer.body].concat();
            assert_eq!(got, first, "{}", got.escape_ascii());
            assert_eq!(pair.requests(), [1, 1], "{}", second.escape_ascii());
        }
    }
}

#[test]
fn the_first_answer_is_relayed_when_the_other_node_breaks_off_or_hangs() {
    for (begun, hangs) in [
        ("", true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{", true),
        ("", false),
        ("HTTP/1.1 200", false),
        ("HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n", false),
        ("HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{\"loadTy", false),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"loa", false),
    ] {
        let turn = Arc::new(AtomicUsize::new(0));
        let start = || {
            let turn = Arc::clone(&turn);
            FakeNode::start(move |client, _| {
                if turn.fetch_add(1, SeqCst) == 0 {
                    return client.try_send(&ok(FAILED[0].1)).is_ok();
                }
                client.try_send(begun.as_bytes()).unwrap();
                while hangs && client.try_fill().is_some() {}
                false
            })
        };
        let nodes = [start(), start()];
        let list = list(&[("a", nodes[0].address()), ("b", nodes[1].address())]);
        let proxy = nodes::proxy(V4, &list, &[UNASKED, ("RESPONSE_TIMEOUT", "10m")]);
        assert_eq!(proxy.connect().get(&target(V4), "").text(), FAILED[0].1, "{begun}");
        assert_eq!(turn.load(SeqCst), 2);
    }
}

#[test]
fn a_large_first_answer_is_relayed_whole_when_the_other_node_fails_too() {
    const SIZE: usize = 3 * 1024 * 1024;
    let (version, failed) = FAILED[0];
    let body = format!("{failed}{}", "x".repeat(SIZE));
    let pair = Pair::answering(version, [vec![ok(&body)], vec![ok(failed)]], &[]);
    let answer = pair.proxy.connect().get(&target(version), "");
    assert!(answer.body == body.as_bytes(), "{} bytes", answer.body.len());
}

#[test]
fn an_answer_that_is_no_failed_load_is_relayed_at_once() {
    for body in ["", "{}", r#"{"loadType""#, r#"{"loadType":"err"#, r#"{"loadType":"track"}"#, "    ", "null"] {
        let chunked = match body {
            "" => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_vec(),
            body => {
                format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len())
                    .into()
            }
        };
        for answer in [ok(body), chunked] {
            let pair = Pair::answering(V4, [vec![answer], vec![ok("the other's")]], &[("RESPONSE_TIMEOUT", "15s")]);
            let started = Instant::now();
            let mut client = pair.proxy.connect();
            let got = client.get(&target(V4), "");
            assert_eq!((got.status, &*got.text()), (200, body));
            assert!(started.elapsed() < Duration::from_secs(10), "{body:?} only after {:?}", started.elapsed());
            assert_eq!(pair.requests().iter().sum::<usize>(), 1);
        }
    }
}

#[test]
fn only_a_get_of_loadtracks_is_tried_again() {
    let (_, failed) = FAILED[0];
    let length = "Content-Length: 2\r\n";
    for (method, target, fields) in [
        ("POST", "/v4/loadtracks?identifier=x", length),
        ("GET", "/v4/decodetrack?encodedTrack=x", ""),
        ("GET", "/v4/loadtracks?identifier=x", "Lavalink-Node: a\r\n"),
    ] {
        let pair = Pair::answering(V4, [vec![ok(failed)], vec![ok("the other's")]], &[]);
        let body: &[u8] = if fields == length { b"{}" } else { b"" };
        let answer = pair.proxy.connect().request(method, target, fields, body);
        assert_eq!(answer.text(), failed, "{method} {target} {fields}");
        assert_eq!(pair.requests().iter().sum::<usize>(), 1);
    }
    let pair = Pair::answering(V4, [vec![ok(failed)], vec![ok("the other's")]], &[("LOAD_RETRY", "off")]);
    assert_eq!(pair.proxy.connect().get(&target(V4), "").text(), failed);
    assert_eq!(pair.requests().iter().sum::<usize>(), 1);
}

#[test]
fn a_load_with_a_body_is_answered() {
    let (_, failed) = FAILED[0];
    let chunked = "Transfer-Encoding: chunked\r\n";
    for (fields, body) in
        [("Content-Length: 0\r\n", &b""[..]), ("Content-Length: 2\r\n", b"{}"), (chunked, b"2\r\n{}\r\n0\r\n\r\n")]
    {
        let pair = Pair::answering(V4, [vec![ok(failed)], vec![ok("the other's")]], &[("RESPONSE_TIMEOUT", "15s")]);
        let started = Instant::now();
        let answer = pair.proxy.connect().request("GET", &target(V4), fields, body);
        assert_eq!(answer.status, 200, "{fields}");
        assert!(started.elapsed() < Duration::from_secs(10), "{fields} only after {:?}", started.elapsed());
        // A chunked body is not kept, so that it could not be sent again.
        assert_eq!(answer.text(), if fields == chunked { failed } else { "the other's" }, "{fields}");
        let got: Vec<String> = pair.nodes.iter().flat_map(FakeNode::requests).collect();
        assert!(got.iter().all(|request| request.as_bytes().ends_with(body)), "{got:?}");
    }
}

#[test]
fn the_demo_nodes_show_it() {
    for version in [V4, V3] {
        let nodes = Nodes::start(version, &["one", "two"]);
        let proxy = nodes.proxy(&[]);
        let web = nodes::web(&proxy);
        let failed = if version == V4 { r#"{"loadType":"error""# } else { r#"{"loadType":"LOAD_FAILED""# };
        nodes.named("one").fail_loads(true);
        let mut client = proxy.connect();
        for _ in 0..10 {
            let answer = client.get(&format!("/{}/loadtracks?identifier=dQw4w9WgXcQ", version.name()), "");
            assert!(answer.status == 200 && !answer.text().starts_with(failed), "{}", answer.text());
        }
        let counts: Vec<u64> = nodes.all.iter().map(|node| node.counts().loads).collect();
        assert_eq!(counts, [5, 10], "each load that failed on one was tried on two");
        assert_eq!(
            (row(web, "one")["loadsRetried"].as_u64(), row(web, "two")["loadsRetried"].as_u64()),
            (Some(5), Some(0))
        );
        nodes.named("two").fail_loads(true);
        let answer = client.get(&format!("/{}/loadtracks?identifier=dQw4w9WgXcQ", version.name()), "");
        assert!(answer.text().starts_with(failed), "{}", answer.text());
        // The other one is gone: the answer is that of the one that stands.
        nodes.named("two").die(lavaproxy::demo::Close::Fin);
        let answer = client.get(&format!("/{}/loadtracks?identifier=dQw4w9WgXcQ", version.name()), "");
        assert!(answer.text().starts_with(failed), "{}", answer.text());
        eventually("nothing is under way", || {
            health(web)["nodes"].as_array().unwrap().iter().all(|row| row["requests"] == 0)
        });
    }
}

#[test]
fn a_slow_other_node_leads_to_the_first_answer() {
    let (_, failed) = FAILED[0];
    let turn = Arc::new(AtomicUsize::new(0));
    let start = || {
        let turn = Arc::clone(&turn);
        FakeNode::start(move |client, _| match turn.fetch_add(1, SeqCst) {
            0 => client.try_send(&ok(failed)).is_ok(),
            _ => {
                client.rest_or_error();
                false
            }
        })
    };
    let (a, b) = (start(), start());
    let list = list(&[("a", a.address()), ("b", b.address())]);
    let proxy = nodes::proxy(V4, &list, &[UNASKED, ("RESPONSE_TIMEOUT", "1s")]);
    assert_eq!(proxy.connect().get(&target(V4), "").text(), failed);
    assert_eq!(a.requests().len() + b.requests().len(), 2);
}

#[test]
fn bots_of_a_node_that_dies_reconnect_elsewhere() {
    let nodes = Nodes::start(V4, &["eu1", "eu2"]);
    let proxy = nodes.proxy(&[("SESSION_TAKEOVER", "off")]);
    let mut bots: Vec<Bot> = (0..10).map(|_| Bot::open(proxy.address(), V4)).collect();
    nodes.named("eu1").die(lavaproxy::demo::Close::Reset);
    for bot in &mut bots {
        if bot.node() == "eu1" {
            bot.client.rest_or_error();
            assert_eq!(Bot::open(proxy.address(), V4).node(), "eu2");
        } else {
            assert!(bot.is_alive());
        }
    }
}
