//! Backends that are down, full, off or not to be found: a clear answer in time, and the next request works once they are back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use lavaproxy::server::Server;
use socket2::{Domain, Socket, Type};
use support::*;

const NODE_PASSWORD: &str = "password-of-the-node";

/// An address of this test's own, so that no other test takes its port while nothing listens there.
fn own_address(last: u8) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::new(127, 0, 71, last), 0)).unwrap();
    listener.local_addr().unwrap()
}

/// With v3 alive, and v4 where these settings say.
fn proxy_before(alive: &Backend, v4: &[(&str, &str)]) -> Proxy {
    let port = alive.address.port().to_string();
    let mut set = vec![("LAVALINK_V3_PORT", port.as_str()), ("LAVALINK_V4_PASSWORD", NODE_PASSWORD)];
    set.extend_from_slice(v4);
    Proxy::start(&set)
}

/// Lavalink's error JSON in full, without a secret, on a connection that goes on.
fn assert_refusal(refusal: &Response, status: u16, error: &str, target: &str, says: &[&str]) {
    assert_eq!(refusal.status, status, "{}", refusal.text());
    assert!(!refusal.closes(), "{}", refusal.head);
    assert_eq!(refusal.field("content-type"), Some("application/json"));
    let json = refusal.json();
    assert_eq!((json["status"].as_u64(), json["error"].as_str()), (Some(u64::from(status)), Some(error)));
    assert_eq!(json["path"], target);
    assert!(json["timestamp"].as_u64().unwrap() > 1_600_000_000_000);
    let message = json["message"].as_str().unwrap();
    for part in says {
        assert!(message.contains(part), "{message:?} does not say {part:?}");
    }
    for secret in [PASSWORD, NODE_PASSWORD] {
        assert!(!refusal.head.contains(secret) && !refusal.text().contains(secret));
    }
}

#[test]
fn a_dead_backend_is_a_502_at_once_until_it_is_back() {
    let alive = Backend::answering(OK);
    let address = own_address(1);
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    let proxy = proxy_before(&alive, &[("LAVALINK_V4_HOST", &host), ("LAVALINK_V4_PORT", &port)]);
    let mut bot = proxy.connect();
    let says = [&*format!("v4@{address}"), "refused", "start it", "LAVALINK_V4_HOST and LAVALINK_V4_PORT"];
    let started = Instant::now();
    assert_refusal(&bot.get("/v4/info", ""), 502, "Bad Gateway", "/v4/info", &says);
    assert_refusal(&bot.upgrade("/v4/websocket"), 502, "Bad Gateway", "/v4/websocket", &says);
    let post = bot.request("POST", "/v4/decodetracks", "Content-Length: 3\r\n", b"[1]");
    assert_refusal(&post, 502, "Bad Gateway", "/v4/decodetracks", &says);
    assert!(started.elapsed() < Duration::from_secs(4), "CONNECT_TIMEOUT is 5 s and nothing delays it");
    assert_eq!(bot.get("/v3/info", "").text(), "ok", "the other version is served all the while");

    let back = Backend::on(TcpListener::bind(address).unwrap(), |mut client, _| {
        while let Some(request) = client.next_request() {
            let upgrade = request.starts_with(b"GET /v4/websocket ");
            client.send(if upgrade { SWITCHING } else { OK });
        }
    });
    assert_eq!(bot.get("/v4/info", "").text(), "ok", "the very next request");
    assert_eq!(bot.upgrade("/v4/websocket").status, 101);
    assert_eq!(proxy.stats()["totals"]["connections"], 1);
    drop((bot, back));
    proxy.wait_until_empty();
    assert_eq!(proxy.ended("client-closed"), 1, "how it ended is not how one request of it went");
}

#[test]
fn a_backend_that_accepts_nothing_is_a_504_within_connect_timeout_until_it_listens_again() {
    let alive = Backend::answering(OK);
    let (deaf, waiting) = deaf_listener(Ipv4Addr::new(127, 0, 71, 2));
    let address = deaf.local_addr().unwrap();
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    let where_ = [("LAVALINK_V4_HOST", &*host), ("LAVALINK_V4_PORT", &port), ("CONNECT_TIMEOUT", "400ms")];
    let proxy = proxy_before(&alive, &where_);
    let mut bot = proxy.connect();
    let says = [&*format!("v4@{address}"), "CONNECT_TIMEOUT", "firewall"];
    for target in ["/v4/info", "/v4/websocket"] {
        let started = Instant::now();
        let refusal = if target == "/v4/info" { bot.get(target, "") } else { bot.upgrade(target) };
        let time = started.elapsed();
        assert_refusal(&refusal, 504, "Gateway Timeout", target, &says);
        assert!(time >= Duration::from_millis(400) && time < Duration::from_secs(4), "{time:?}");
    }
    assert_eq!(bot.get("/v3/info", "").text(), "ok");

    drop(waiting);
    let _back = Backend::on(deaf, |mut client, _| {
        while client.next_request().is_some() {
            client.send(OK);
        }
    });
    eventually("it is found again", || bot.get("/v4/info", "").status == 200);
}

/// A listener whose queue is full, so that it takes no further connection, and what fills the queue.
fn deaf_listener(ip: Ipv4Addr) -> (TcpListener, Vec<TcpStream>) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((ip, 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let listener = TcpListener::from(socket);
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        waiting.push(stream);
        assert!(waiting.len() < 16, "the queue is never full");
    }
    (listener, waiting)
}

#[test]
fn a_version_that_is_off_is_a_503() {
    let alive = Backend::answering(OK);
    let set = [("LAVALINK_V3_PORT", &*alive.address.port().to_string()), ("LAVALINK_V4_HOST", "")];
    let proxy = Proxy::start(&set);
    let mut bot = proxy.connect();
    let says = ["no Lavalink v4", "LAVALINK_V4_HOST", "use the other version"];
    assert_refusal(&bot.get("/v4/info", ""), 503, "Service Unavailable", "/v4/info", &says);
    assert_refusal(&bot.upgrade("/v4/websocket"), 503, "Service Unavailable", "/v4/websocket", &says);
    assert_eq!(bot.get("/version", "").text(), "ok", "it is not the version that the connection has used");
    assert_eq!(bot.get("/v3/info", "").text(), "ok");
}

#[test]
fn a_name_that_does_not_resolve_is_a_502_within_connect_timeout() {
    let alive = Backend::answering(OK);
    // No label may be this long, so that the system's resolver refuses it without a query.
    let nowhere = "x".repeat(64);
    let mut settings = settings(&[("LAVALINK_V3_PORT", &*alive.address.port().to_string())]);
    settings.nodes.v4[0].host.clone_from(&nowhere);
    let proxy = Proxy { server: Server::start(&settings).unwrap() };
    let mut bot = proxy.connect();
    for _ in 0..2 {
        let started = Instant::now();
        let refusal = bot.get("/v4/info", "");
        let says = [&*nowhere, "LAVALINK_V4_HOST and LAVALINK_V4_PORT"];
        assert_refusal(&refusal, 502, "Bad Gateway", "/v4/info", &says);
        assert!(started.elapsed() < Duration::from_secs(5), "CONNECT_TIMEOUT is 5 s");
    }
    assert_eq!(bot.get("/v3/info", "").text(), "ok");
}

#[test]
fn every_address_of_a_name_is_tried() {
    let addresses: Vec<_> = ("localhost", 0).to_socket_addrs().unwrap().map(|address| address.ip()).collect();
    if addresses.len() < 2 {
        tool::say(&format!("skipped: every_address_of_a_name_is_tried: localhost is {addresses:?} alone here"));
        return;
    }
    for ip in addresses {
        let backend = Backend::on(TcpListener::bind((ip, 0)).unwrap(), |mut client, _| {
            while client.next_request().is_some() {
                client.send(OK);
            }
        });
        let port = backend.address.port().to_string();
        let proxy = Proxy::start(&[("LAVALINK_V4_HOST", "localhost"), ("LAVALINK_V4_PORT", &port)]);
        assert_eq!(proxy.connect().get("/v4/info", "").text(), "ok", "{ip}");
    }
}
