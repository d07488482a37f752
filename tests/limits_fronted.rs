//! Limits and bans of clients that a trusted front names, by X-Forwarded-For and by a PROXY header. They hold for the
//! client, never for the front or its other clients.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/refused.rs"]
mod refused;
mod support;
#[path = "support/web.rs"]
mod web;

use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver, Sender};

use refused::{assert_forbidden, assert_over, guess, last_status, request};
use support::*;

/// 127.0.0.1 is the front.
const TRUSTED: (&str, &str) = ("TRUSTED_PROXIES", "127.0.0.1");
const PROXY_HEADERS: [(&str, &str); 2] = [TRUSTED, ("PROXY_PROTOCOL", "on")];
const ANY_RATE: (&str, &str) = ("CONNECTION_RATE", "off");
const ONE: &str = "203.0.113.11";
const OTHER: &str = "203.0.113.12";

/// The field by which a front names a client.
fn named(client: &str) -> String {
    format!("X-Forwarded-For: {client}\r\n")
}

fn proxy_header(client: &str) -> String {
    let family = if client.contains(':') { "TCP6" } else { "TCP4" };
    let own = if client.contains(':') { "::1" } else { "127.0.0.1" };
    format!("PROXY {family} {client} {own} 49152 6923\r\n")
}

/// A proxy before a node that answers each request, and holds one to `/v4/slow` until it is released. It agrees to all
/// handshakes but those to `/v4/refused`.
struct Site {
    proxy: Proxy,
    node: Backend,
    arrived: Receiver<()>,
    release: Sender<()>,
}

impl Site {
    fn new(set: &[(&str, &str)]) -> Self {
        let (arrive, arrived) = mpsc::channel();
        let (release, released) = mpsc::channel();
        let (arrive, released) = (Mutex::new(arrive), Mutex::new(released));
        let node = Backend::start(move |mut client, _| {
            while let Some(head) = client.next_head() {
                if find(&head, b" /v4/slow ").is_some() {
                    arrive.lock().unwrap().send(()).unwrap();
                    let _ = released.lock().unwrap().recv_timeout(PATIENCE);
                }
                if find(&head, b"Upgrade: websocket").is_some() && find(&head, b" /v4/refused ").is_none() {
                    if client.try_send(SWITCHING).is_ok() {
                        client.echo();
                    }
                    return;
                }
                if client.try_send(OK).is_err() {
                    return;
                }
            }
        });
        Self { proxy: Proxy::before(node.address, node.address, set), node, arrived, release }
    }

    /// A connection of the front for the client that its PROXY header names.
    fn connect_for(&self, client: &str) -> Client {
        let mut front = self.proxy.connect();
        front.send(proxy_header(client).as_bytes());
        front
    }

    /// The status of the only request on such a connection; `None` when it is closed without an answer.
    fn only_status_for(&self, client: &str) -> Option<u16> {
        last_status(&mut self.connect_for(client), &request("Connection: close\r\n"))
    }

    /// Sends a request that the node holds, and waits until it is there.
    fn begin(&self, front: &mut Client, fields: &str) {
        front.send(request(fields).replace("/v4/info", "/v4/slow").as_bytes());
        self.arrived.recv_timeout(PATIENCE).expect("the node got no request");
    }
}

/// Bans a client by hand.
fn ban(proxy: &Proxy, client: &str) {
    let answer = web::post(proxy, "/api/bans", "", &format!("{{\"address\":\"{client}\"}}"));
    assert_eq!(answer.status, 201, "{}", answer.text());
}

/// Requests of one front on one connection, each for a client.
trait Ask {
    fn ask(&mut self, client: &str) -> Response;
    /// Asks, and waits until the request counts no more, which may be a moment after its answer has come.
    fn ask_and_wait(&mut self, client: &str) -> Response;
    fn guess(&mut self, client: &str, count: usize);
}

impl Ask for Client {
    fn ask(&mut self, client: &str) -> Response {
        self.get("/v4/info", &named(client))
    }

    fn ask_and_wait(&mut self, client: &str) -> Response {
        let answer = self.ask(client);
        // The connection reads its next request after that.
        assert_eq!(self.get("/v4/info", "").status, 200);
        answer
    }

    fn guess(&mut self, client: &str, count: usize) {
        for number in 0..count {
            self.send(guess(&named(client)).as_bytes());
            assert_eq!(self.response().status, 403, "{number}");
        }
    }
}

#[test]
fn the_request_rate_is_that_of_the_named_client() {
    let site = Site::new(&[TRUSTED, ("REQUEST_RATE", "1/h burst=2")]);
    let (mut front, mut second) = (site.proxy.connect(), site.proxy.connect());
    assert_eq!((front.ask(ONE).status, second.ask(ONE).status), (200, 200));
    for _ in 0..2 {
        for connection in [&mut front, &mut second] {
            let answer = connection.ask(ONE);
            assert_over(&answer, "REQUEST_RATE");
            assert!(!answer.closes(), "{}", answer.head);
        }
    }
    assert_eq!((front.ask(OTHER).status, second.ask(OTHER).status), (200, 200));
    assert_over(&front.ask(OTHER), "REQUEST_RATE");
    // Without a name it is the front's own.
    assert!((0..10).all(|_| front.get("/v4/info", "").status == 200));
    // Three of one /64, and one of another.
    assert!(["2001:db8:1::1", "2001:db8:1::2"].iter().all(|client| front.ask(client).status == 200));
    assert_over(&front.ask("2001:db8:1::3"), "REQUEST_RATE");
    assert_eq!(front.ask("2001:db8:2::1").status, 200);
    // An IPv4 client stays one, however it is written.
    assert_over(&front.ask("::ffff:203.0.113.11"), "REQUEST_RATE");
}

#[test]
fn a_request_counts_for_its_client_only_while_it_is_under_way() {
    let site = Site::new(&[TRUSTED, ("MAX_CONNECTIONS_PER_ADDRESS", "1"), ANY_RATE]);
    let (mut first, mut second) = (site.proxy.connect(), site.proxy.connect());
    let answers = [first.ask_and_wait(ONE), second.ask_and_wait(ONE)];
    assert!(answers.iter().all(|answer| answer.status == 200), "an idle connection counts for nobody");
    site.begin(&mut first, &named(ONE));
    let answer = second.ask(ONE);
    assert_over(&answer, "MAX_CONNECTIONS_PER_ADDRESS");
    assert!(!answer.closes(), "{}", answer.head);
    assert_eq!(second.ask(OTHER).status, 200);
    assert_eq!(second.get("/v4/info", "").status, 200);
    site.release.send(()).unwrap();
    assert_eq!(first.response().status, 200);
    eventually("the first is over", || second.ask_and_wait(ONE).status == 200);
    assert_eq!(first.ask(ONE).status, 200);
}

#[test]
fn a_request_that_its_client_or_front_gave_up_counts_no_more() {
    let site = Site::new(&[TRUSTED, ("MAX_CONNECTIONS_PER_ADDRESS", "1"), ANY_RATE]);
    let mut second = site.proxy.connect();
    for reset in [false, true] {
        let mut first = site.proxy.connect();
        site.begin(&mut first, &named(ONE));
        assert_over(&second.ask(ONE), "MAX_CONNECTIONS_PER_ADDRESS");
        if reset {
            first.reset()
        } else {
            drop(first)
        }
        site.release.send(()).unwrap();
        eventually("it counts no more", || second.ask_and_wait(ONE).status == 200);
    }
    // One whose body never comes whole.
    let mut first = site.proxy.connect();
    site.begin(&mut first, &format!("{}Content-Length: 9\r\n", named(ONE)));
    first.send(b"123");
    assert_over(&second.ask(ONE), "MAX_CONNECTIONS_PER_ADDRESS");
    drop(first);
    eventually("it counts no more", || second.ask_and_wait(ONE).status == 200);
}

#[test]
fn a_tunnel_counts_for_its_client_while_it_stands() {
    let site = Site::new(&[TRUSTED, ("MAX_CONNECTIONS_PER_ADDRESS", "1"), ANY_RATE]);
    let mut second = site.proxy.connect();
    for reset in [false, true] {
        let mut tunnel = site.proxy.connect();
        assert_eq!(tunnel.ask(OTHER).status, 200);
        assert_eq!(tunnel.get("/v4/websocket", &format!("{HANDSHAKE}{}", named(ONE))).status, 101);
        tunnel.send(b"ping");
        assert_eq!(tunnel.exactly(4), b"ping");
        assert_over(&second.ask(ONE), "MAX_CONNECTIONS_PER_ADDRESS");
        let handshake = format!("{HANDSHAKE}{}", named(ONE));
        assert_over(&second.get("/v4/websocket", &handshake), "MAX_CONNECTIONS_PER_ADDRESS");
        assert_eq!(second.ask(OTHER).status, 200);
        if reset {
            tunnel.reset()
        } else {
            drop(tunnel)
        }
        eventually("the tunnel is over", || second.ask_and_wait(ONE).status == 200);
    }
}

#[test]
fn a_handshake_through_a_front_counts_as_a_new_connection_of_its_client() {
    let site = Site::new(&[TRUSTED, ("CONNECTION_RATE", "1/h burst=2")]);
    let handshake =
        |front: &mut Client, client: &str| front.get("/v4/websocket", &format!("{HANDSHAKE}{}", named(client)));
    let mut front = site.proxy.connect();
    for _ in 0..2 {
        assert_eq!(handshake(&mut site.proxy.connect(), ONE).status, 101);
    }
    let answer = handshake(&mut front, ONE);
    assert_over(&answer, "CONNECTION_RATE");
    assert!(!answer.closes(), "{}", answer.head);
    assert!((0..5).all(|_| front.ask(ONE).status == 200), "a request on a connection of the front is none");
    assert_eq!(handshake(&mut front, OTHER).status, 101);
}

#[test]
fn a_client_whose_handshake_was_refused_does_not_own_the_fronts_connection() {
    let site = Site::new(&[TRUSTED]);
    let mut front = site.proxy.connect();
    assert_eq!(front.get("/v4/refused", &format!("{HANDSHAKE}{}", named(ONE))).status, 200);
    site.begin(&mut front, &named(OTHER));
    ban(&site.proxy, ONE);
    site.release.send(()).unwrap();
    assert_eq!(front.response().status, 200, "the request of the other client is answered");
    assert_forbidden(&front.ask(ONE), "banned");
    assert_eq!(front.ask(OTHER).status, 200);
}

#[test]
fn a_ban_ends_the_tunnel_of_a_client_behind_a_front_also_while_the_node_is_asked_for_it() {
    let site = Site::new(&[TRUSTED]);
    let mut tunnel = site.proxy.connect();
    assert_eq!(tunnel.ask(OTHER).status, 200);
    assert_eq!(tunnel.get("/v4/websocket", &format!("{HANDSHAKE}{}", named(ONE))).status, 101);
    let mut pending = site.proxy.connect();
    site.begin(&mut pending, &format!("{HANDSHAKE}{}", named(ONE)));
    ban(&site.proxy, ONE);
    assert_eq!(tunnel.rest(), [0x88, 2, 0x03, 0xf0], "a close frame with 1008");
    site.release.send(()).unwrap();
    assert!(pending.is_at_end(), "it gets no 101");
    drop((tunnel, pending));
    site.proxy.wait_until_empty();
    assert_eq!(site.proxy.ended("kicked"), 2);
}

#[test]
fn only_the_guesser_behind_a_front_is_banned() {
    let site = Site::new(&[TRUSTED]);
    let mut front = site.proxy.connect();
    front.guess(ONE, 19);
    assert_eq!(front.ask(ONE).status, 200);
    let accepted = site.node.accepted();
    front.guess(ONE, 1);
    for _ in 0..3 {
        let answer = front.ask(ONE);
        assert_forbidden(&answer, "banned");
        assert!(!answer.closes(), "{}", answer.head);
        assert_eq!(front.ask(OTHER).status, 200);
    }
    let handshake = format!("{HANDSHAKE}{}", named(ONE));
    assert_forbidden(&front.get("/v4/websocket", &handshake), "banned");
    // Over a connection of its own as well, and the front itself is served.
    let mut second = site.proxy.connect();
    assert_forbidden(&second.ask(ONE), "banned");
    assert_eq!((second.ask(OTHER).status, second.get("/v4/info", "").status), (200, 200));
    assert_eq!(site.node.accepted(), accepted, "no request of a banned client opens a connection to a node");
}

#[test]
fn guesses_of_many_clients_behind_a_front_ban_none_of_them() {
    let site = Site::new(&[TRUSTED, ("BAN_AFTER", "5")]);
    let mut front = site.proxy.connect();
    for client in 1..=20 {
        front.guess(&format!("203.0.113.{client}"), 4);
    }
    // The front's own guesses ban nobody either.
    for _ in 0..20 {
        front.send(guess("").as_bytes());
        assert_eq!(front.response().status, 403);
    }
    assert!((1..=20).all(|client| front.ask(&format!("203.0.113.{client}")).status == 200));
    assert_eq!(site.proxy.connect().get("/v4/info", "").status, 200);
}

#[test]
fn a_client_cannot_get_another_one_banned_by_a_field_of_its_own() {
    let site = Site::new(&[TRUSTED, ("BAN_AFTER", "3")]);
    let mut front = site.proxy.connect();
    // The front appends what it sees to what the client has made up.
    front.guess(&format!("{OTHER}, {ONE}"), 3);
    assert_forbidden(&front.ask(ONE), "banned");
    assert_forbidden(&front.ask(&format!("192.0.2.1, {ONE}")), "banned");
    assert_eq!(front.ask(OTHER).status, 200);
}

#[test]
fn a_ban_of_an_ipv6_client_is_that_of_its_network() {
    let site = Site::new(&[TRUSTED, ("BAN_AFTER", "3")]);
    let mut front = site.proxy.connect();
    front.guess("2001:db8:1::1", 3);
    assert_forbidden(&front.ask("2001:db8:1::ffff:3"), "banned");
    assert_eq!(front.ask("2001:db8:2::1").status, 200);
}

#[test]
fn a_blocked_client_gets_a_403_that_names_the_setting() {
    for (setting, value, refused, served) in [
        ("BLOCKED_ADDRESSES", "203.0.113.11, 2001:db8:1::/64", [ONE, "2001:db8:1::2"], [OTHER, "2001:db8:2::1"]),
        ("ALLOWED_ADDRESSES", "203.0.113.12, 2001:db8:2::/64", [ONE, "2001:db8:1::2"], [OTHER, "2001:db8:2::1"]),
    ] {
        let site = Site::new(&[TRUSTED, (setting, value)]);
        let mut front = site.proxy.connect();
        for (refused, served) in refused.into_iter().zip(served) {
            let answer = front.ask(refused);
            assert_forbidden(&answer, setting);
            assert!(!answer.closes(), "{}", answer.head);
            assert_eq!(front.ask(served).status, 200);
        }
        assert_eq!(front.get("/v4/info", "").status, 200, "the front itself");

        let site = Site::new(&[&PROXY_HEADERS[..], &[(setting, value)]].concat());
        for (refused, served) in refused.into_iter().zip(served) {
            assert_forbidden(&site.connect_for(refused).get("/v4/info", ""), setting);
            assert_eq!(site.only_status_for(served), Some(200));
        }
    }
}

#[test]
fn with_a_proxy_header_each_connection_counts_for_its_client() {
    let site = Site::new(&[&PROXY_HEADERS[..], &[("MAX_CONNECTIONS_PER_ADDRESS", "1"), ANY_RATE]].concat());
    let mut held = site.connect_for(ONE);
    assert_eq!(held.get("/v4/info", "").status, 200);
    let answer = site.connect_for(ONE).get("/v4/info", "");
    assert_over(&answer, "MAX_CONNECTIONS_PER_ADDRESS");
    assert!(answer.closes(), "{}", answer.head);
    assert_eq!(site.only_status_for(OTHER), Some(200));
    assert_eq!(held.get("/v4/info", "").status, 200);
    drop(held);
    eventually("the first is over", || site.only_status_for(ONE) == Some(200));
    // One that has sent no request counts as well.
    let third = "203.0.113.13";
    let silent = site.connect_for(third);
    eventually("its header is read", || {
        let stats = site.proxy.stats();
        let rows = stats["connections"].as_array().unwrap();
        rows.iter().any(|row| row["address"] == third && row["bytesIn"] == silent.sent)
    });
    assert_eq!(site.only_status_for(third), Some(429));
    drop(silent);
    eventually("it is over", || site.only_status_for(third) == Some(200));
    let mut tunnel = site.connect_for("2001:db8:1::1");
    assert_eq!(tunnel.upgrade("/v4/websocket").status, 101);
    assert_eq!(site.only_status_for("2001:db8:1::2"), Some(429));
    assert_eq!(site.only_status_for("2001:db8:2::1"), Some(200));
    tunnel.reset();
    eventually("the tunnel is over", || site.only_status_for("2001:db8:1::2") == Some(200));
}

#[test]
fn with_a_proxy_header_a_refused_client_keeps_no_slots() {
    let per_address = "MAX_CONNECTIONS_PER_ADDRESS";
    for limits in [
        [(per_address, "2"), ("CONNECTION_RATE", "off")],
        [(per_address, "off"), ("CONNECTION_RATE", "1/h burst=2")],
        [(per_address, "off"), ("BLOCKED_ADDRESSES", ONE)],
    ] {
        let set = [("MAX_CONNECTIONS", "64"), ("HEAD_TIMEOUT", "1h")];
        let site = Site::new(&[&PROXY_HEADERS[..], &set, &limits].concat());
        // They send no request, so that no answer ends them.
        let silent: Vec<_> = (0..200).map(|_| site.connect_for(ONE)).collect();
        eventually("another client is served", || site.only_status_for(OTHER) == Some(200));
        eventually("few are left", || site.proxy.server.ledger().snapshot().totals.active <= 2);
        drop(silent);
    }
}

#[test]
fn with_a_proxy_header_the_rates_are_those_of_its_client() {
    let set = [("CONNECTION_RATE", "1/h burst=3"), ("REQUEST_RATE", "1/h burst=4")];
    let site = Site::new(&[&PROXY_HEADERS[..], &set].concat());
    for _ in 0..3 {
        assert_eq!(site.only_status_for(ONE), Some(200));
    }
    assert_over(&site.connect_for(ONE).get("/v4/info", ""), "CONNECTION_RATE");
    let mut other = site.connect_for(OTHER);
    assert!((0..4).all(|_| other.get("/v4/info", "").status == 200));
    let answer = other.get("/v4/info", "");
    assert_over(&answer, "REQUEST_RATE");
    assert!(!answer.closes(), "{}", answer.head);
    // The front's own connections, such as its checks, have no limits.
    for _ in 0..10 {
        let mut front = site.proxy.connect();
        front.send(b"PROXY UNKNOWN\r\n");
        assert_eq!(front.get("/v4/info", "").status, 200);
    }
}

#[test]
fn with_a_proxy_header_only_the_guesser_is_banned() {
    let site = Site::new(&[&PROXY_HEADERS[..], &[ANY_RATE]].concat());
    let mut kept = site.connect_for(ONE);
    assert_eq!(kept.get("/v4/info", "").status, 200);
    for number in 0..20 {
        let mut guesser = site.connect_for(ONE);
        assert_eq!(last_status(&mut guesser, &guess("Connection: close\r\n")), Some(403), "{number}");
    }
    for _ in 0..3 {
        assert_forbidden(&site.connect_for(ONE).get("/v4/info", ""), "banned");
        assert_eq!(site.only_status_for(OTHER), Some(200));
    }
    let answer = kept.get("/v4/info", "");
    assert_forbidden(&answer, "banned");
    assert!(answer.closes() && kept.is_at_end(), "its connection carries no other client: {}", answer.head);
    let mut front = site.proxy.connect();
    front.send(b"PROXY UNKNOWN\r\n");
    assert_eq!(front.get("/v4/info", "").status, 200);
}

#[test]
fn fronts_behind_the_front_are_never_limited() {
    let site =
        Site::new(&[("TRUSTED_PROXIES", "127.0.0.1, 10.0.0.0/8"), ("BAN_AFTER", "3"), ("REQUEST_RATE", "1/h burst=9")]);
    let mut front = site.proxy.connect();
    // A chain of fronts: the client is the first that is not trusted.
    front.guess(&format!("{ONE}, 10.0.0.2"), 3);
    assert_forbidden(&front.ask(&format!("{ONE}, 10.0.0.3")), "banned");
    // A front that names nobody is not limited.
    for _ in 0..20 {
        front.send(guess(&named("10.0.0.2")).as_bytes());
        assert_eq!(front.response().status, 403);
        assert_eq!(front.ask("10.0.0.2").status, 200);
    }
}
