//! The nodes over loopback sockets, against the literals of what real servers sent.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod faults;
mod handshake;
mod http;
mod players;
mod socket;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use super::{Bots, Close, Counts, Node, ReportedLoad};
use crate::config::Lavalink;

const PASSWORD: &str = "youshallnotpass";
const BARE_400: &str = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
const BOTH: [Lavalink; 2] = [Lavalink::V3, Lavalink::V4];

fn node(version: Lavalink) -> Node {
    Node::start(version, PASSWORD).unwrap()
}

/// A client that reads exactly what it expects, with a limit so that a failure is no hang.
struct Raw(TcpStream);

impl Raw {
    fn new(node: &Node) -> Self {
        let stream = TcpStream::connect(node.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(stream)
    }

    fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).unwrap();
    }

    /// A request with the password and no body.
    fn ask(&mut self, method: &str, target: &str) {
        self.send(&format!("{method} {target} HTTP/1.1\r\nHost: a\r\nAuthorization: {PASSWORD}\r\n\r\n"));
    }

    fn patch(&mut self, target: &str, body: &str) {
        let length = body.len();
        self.send(&format!(
            "PATCH {target} HTTP/1.1\r\nHost: a\r\nAuthorization: {PASSWORD}\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        ));
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.0.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// Everything until the other side ends.
    fn rest(&mut self) -> String {
        let mut bytes = Vec::new();
        self.0.read_to_end(&mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    fn is_at_end(&mut self) -> bool {
        self.0.read(&mut [0]).unwrap() == 0
    }

    /// A head up to its empty line, the date checked for its shape and cut out.
    fn head(&mut self) -> String {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            head.push(char::from(self.bytes(1)[0]));
        }
        match head.split_once("Date: ") {
            Some((before, after)) => {
                let (date, rest) = after.split_once("\r\n").unwrap();
                assert!(date.len() == 29 && date.ends_with(" GMT"), "{date}");
                format!("{before}{rest}")
            }
            None => head,
        }
    }

    /// A whole chunked body, and the sizes of its chunks as they were written.
    fn chunked(&mut self) -> (String, Vec<String>) {
        let (mut body, mut sizes) = (Vec::new(), Vec::new());
        loop {
            let mut line = String::new();
            while !line.ends_with("\r\n") {
                line.push(char::from(self.bytes(1)[0]));
            }
            let size = usize::from_str_radix(line.trim_end(), 16).unwrap();
            body.extend(self.bytes(size));
            assert_eq!(self.bytes(2), b"\r\n");
            sizes.push(line.trim_end().to_owned());
            if size == 0 {
                return (String::from_utf8(body).unwrap(), sizes);
            }
        }
    }

    /// An answer's head and body, however it is framed.
    fn answer(&mut self) -> (String, String) {
        let head = self.head();
        if head.contains("Transfer-Encoding: chunked") {
            return (head, self.chunked().0);
        }
        let length = head
            .split_once("Content-Length: ")
            .map_or(0, |(_, rest)| rest.split_once("\r\n").unwrap().0.parse().unwrap());
        let body = String::from_utf8(self.bytes(length)).unwrap();
        (head, body)
    }

    fn status(&mut self) -> u16 {
        self.answer().0.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// The JSON of an answer whose status must be 200.
    fn json(&mut self) -> serde_json::Value {
        let (head, body) = self.answer();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}{body}");
        serde_json::from_str(&body).unwrap()
    }
}

/// JSON with its timestamp cut out, which no literal can know.
fn without_time(json: &str) -> String {
    let (before, after) = json.split_once(r#""timestamp":"#).unwrap();
    let (digits, rest) = after.split_once(',').unwrap();
    assert!(digits.len() == 13 && digits.bytes().all(|digit| digit.is_ascii_digit()), "{digits}");
    format!("{before}{rest}")
}

#[test]
fn a_node_comes_back_at_its_address() {
    for version in BOTH {
        let first = node(version);
        let address = first.address();
        // The node takes connections in their order: when the second is answered, the first has been taken.
        let mut half = Raw::new(&first);
        half.send("GET /version HT");
        let mut idle = Raw::new(&first);
        idle.ask("GET", "/version");
        idle.status();
        first.stop();
        assert!(idle.is_at_end());
        assert!(half.is_at_end());
        TcpStream::connect(address).unwrap_err();
        let second = Node::start_at(address, version, "another").unwrap();
        let mut again = Raw::new(&second);
        again.ask("GET", "/version");
        assert_eq!(again.status(), 403);
    }
}

#[test]
fn a_client_that_does_not_read_cannot_hold_a_stop_up() {
    let node = node(Lavalink::V4);
    let mut stalled = Raw::new(&node);
    stalled.ask("GET", "/v4/loadtracks?identifier=big:100000000");
    assert_eq!(stalled.bytes(8), b"HTTP/1.1");
    let before = std::time::Instant::now();
    drop(node);
    assert!(before.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_cut_is_a_reset() {
    let node = node(Lavalink::V4);
    let (mut socket, _) = socket::connected(&node, Lavalink::V4, "");
    let mut client = Raw::new(&node);
    client.ask("GET", "/version");
    client.status();
    node.cut();
    for cut in [&mut client, &mut socket] {
        let error = cut.0.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
    socket::wait_for(|| node.sessions() == 0);
    let mut again = Raw::new(&node);
    again.ask("GET", "/version");
    assert_eq!(again.status(), 200);
}

#[test]
fn bots_use_a_node_until_they_are_stopped() {
    for version in BOTH {
        let node = node(version);
        let bots = Bots::start(node.address(), PASSWORD, 5).unwrap();
        socket::wait_for(|| node.sessions() > 0);
        drop(bots);
    }
}

#[test]
fn bots_connect_from_several_addresses() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let _bots = Bots::start(listener.local_addr().unwrap(), PASSWORD, 3).unwrap();
    let mut addresses = [(); 3].map(|()| listener.accept().unwrap().1.ip().to_string());
    addresses.sort();
    if cfg!(target_os = "linux") {
        assert_eq!(addresses, ["127.0.0.2", "127.0.0.3", "127.0.0.4"]);
    }
}

#[test]
fn an_address_that_is_not_here_is_not_used() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let elsewhere = std::net::Ipv4Addr::new(192, 0, 2, 1);
    super::client::Http::connect(listener.local_addr().unwrap(), Some(elsewhere)).unwrap();
    assert_eq!(listener.accept().unwrap().1.ip().to_string(), "127.0.0.1");
}
