//! Accounts over sockets: a password for each customer, with limits of its own, that can be taken away.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use lavaproxy::config::{self, PerVersion, Settings};
use support::{Backend, Client, HANDSHAKE, PASSWORD, Proxy, Response, SWITCHING, eventually, settings};

const ANNA: &str = "Authorization: for anna\r\n";
const BERT: &str = "Authorization: for bert\r\n";
/// A close frame with code 1008.
const POLICY_VIOLATION: [u8; 4] = [0x88, 2, 0x03, 0xf0];

/// Answers every request; a handshake becomes an echo.
fn node() -> Backend {
    Backend::start(move |mut client, _| {
        while let Some(request) = client.next_request() {
            if String::from_utf8_lossy(&request).to_ascii_lowercase().contains("upgrade: websocket") {
                client.send(SWITCHING);
                return client.echo();
            }
            client.send(support::OK);
        }
    })
}

fn account(name: &str) -> config::Account {
    config::Account {
        name: name.into(),
        password: config::Secret::new(format!("for {name}")),
        versions: PerVersion { v3: true, v4: true },
        connections: None,
        requests_per_second: None,
        expires: None,
        enabled: true,
    }
}

struct Site {
    proxy: Proxy,
    node: SocketAddr,
    set: &'static [(&'static str, &'static str)],
    _node: Backend,
}

impl Site {
    fn start(accounts: &[config::Account], set: &'static [(&'static str, &'static str)]) -> Self {
        let node = node();
        let settings = site_settings(node.address, accounts, set);
        let server = lavaproxy::server::Server::start(&settings).unwrap();
        Self { proxy: Proxy { server }, node: node.address, set, _node: node }
    }

    fn reload(&self, accounts: &[config::Account]) {
        self.proxy.server.reload(&site_settings(self.node, accounts, self.set)).unwrap();
    }

    fn tunnel(&self, fields: &str) -> Client {
        let mut client = self.proxy.connect();
        let answer = ask(&mut client, &format!("{fields}{HANDSHAKE}"));
        assert_eq!(answer.status, 101, "{}", answer.text());
        assert_echoes(&mut client);
        client
    }

    /// The status of one request on a connection of its own.
    fn status(&self, fields: &str) -> u16 {
        ask(&mut self.proxy.connect(), fields).status
    }
}

fn site_settings(node: SocketAddr, accounts: &[config::Account], set: &[(&str, &str)]) -> Settings {
    let port = node.port().to_string();
    let ports = [("LAVALINK_V3_PORT", port.as_str()), ("LAVALINK_V4_PORT", port.as_str())];
    let mut settings = settings(&[&ports, set].concat());
    settings.accounts = accounts.to_vec();
    settings
}

fn ask(client: &mut Client, fields: &str) -> Response {
    let head = format!("GET /v4/websocket HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
    client.send(head.as_bytes()).response()
}

/// A small masked frame comes back as it went.
fn assert_echoes(client: &mut Client) {
    let frame = [0x81, 0x82, 1, 2, 3, 4, b'h' ^ 1, b'i' ^ 2];
    client.send(&frame);
    assert_eq!(client.exactly(frame.len()), frame);
}

#[test]
fn each_account_has_a_password_and_no_other_opens_the_address() {
    let site = Site::start(&[account("anna"), account("bert")], &[]);
    for (fields, status) in [
        (ANNA, 200),
        (BERT, 200),
        ("Authorization: Bearer for bert\r\n", 200),
        (&format!("Authorization: {PASSWORD}\r\n"), 200),
        ("Authorization: for carl\r\n", 403),
        ("Authorization: anna\r\n", 403),
        ("", 401),
    ] {
        assert_eq!(site.status(fields), status, "{fields}");
    }
}

#[test]
fn an_account_that_is_taken_away_loses_its_connections_alone() {
    let site = Site::start(&[account("anna"), account("bert")], &[]);
    let mut kept_alive = site.proxy.connect();
    assert_eq!(ask(&mut kept_alive, ANNA).status, 200);
    let (mut of_anna, mut of_bert) = (site.tunnel(ANNA), site.tunnel(BERT));
    let mut of_default = site.tunnel(&format!("Authorization: {PASSWORD}\r\n"));
    site.reload(&[account("bert")]);
    assert_eq!(of_anna.exactly(4), POLICY_VIOLATION);
    assert!(of_anna.is_at_end());
    assert!(matches!(kept_alive.read_error(), None | Some(std::io::ErrorKind::ConnectionReset)));
    assert_echoes(&mut of_bert);
    assert_echoes(&mut of_default);
    assert_eq!(site.status(ANNA), 403);
    eventually("both of anna's connections ended as kicked", || site.proxy.ended("kicked") == 2);
    assert_eq!(site.status(BERT), 200);
}

#[test]
fn another_password_is_another_account() {
    let site = Site::start(&[account("anna")], &[]);
    let mut tunnel = site.tunnel(ANNA);
    let password = config::Secret::new("changed".to_owned());
    site.reload(&[config::Account { password, ..account("anna") }]);
    assert_eq!(tunnel.exactly(4), POLICY_VIOLATION);
    assert_eq!(site.status("Authorization: changed\r\n"), 200);
}

#[test]
fn an_unchanged_account_keeps_its_connections_over_a_reload() {
    let limited = config::Account { connections: Some(1), ..account("anna") };
    let site = Site::start(std::slice::from_ref(&limited), &[]);
    let mut tunnel = site.tunnel(ANNA);
    site.reload(&[limited, account("bert")]);
    assert_echoes(&mut tunnel);
    let refused = ask(&mut site.proxy.connect(), ANNA);
    assert_eq!(refused.status, 429, "the open connection still counts");
    assert!(refused.field("retry-after").is_some());
    drop(tunnel);
    eventually("the connection is given back", || site.status(ANNA) == 200);
}

#[test]
fn a_disabled_or_expired_account_is_refused_with_the_reason() {
    let past = SystemTime::now() - Duration::from_secs(1);
    let disabled = config::Account { enabled: false, ..account("anna") };
    let expired = config::Account { expires: Some(past), ..account("bert") };
    let site = Site::start(&[disabled, expired], &[]);
    for (fields, word) in [(ANNA, "disabled"), (BERT, "expired")] {
        let refused = ask(&mut site.proxy.connect(), fields);
        assert_eq!(refused.status, 403);
        assert!(refused.json()["message"].as_str().unwrap().contains(word), "{}", refused.text());
    }
    assert_eq!(site.proxy.stats()["ended"]["rejected-account"], 0, "their connections may go on");
}

#[test]
fn an_account_that_expires_loses_its_tunnels() {
    let end = SystemTime::now() + Duration::from_secs(6);
    let site = Site::start(&[config::Account { expires: Some(end), ..account("anna") }], &[]);
    let mut tunnel = site.tunnel(ANNA);
    assert_eq!(tunnel.exactly(4), POLICY_VIOLATION);
    assert!(SystemTime::now() >= end);
}

#[test]
fn an_account_is_for_its_versions() {
    let only_v3 = config::Account { versions: PerVersion { v3: true, v4: false }, ..account("anna") };
    let site = Site::start(&[only_v3], &[]);
    assert_eq!(site.status(ANNA), 403);
    let mut client = site.proxy.connect();
    let answer = client.send(format!("GET /v3/info HTTP/1.1\r\nHost: x\r\n{ANNA}\r\n").as_bytes()).response();
    assert_eq!(answer.status, 200);
}

#[test]
fn an_account_may_send_so_many_requests() {
    let slow = config::Account { requests_per_second: Some(1), ..account("anna") };
    let site = Site::start(&[slow, account("bert")], &[]);
    let mut client = site.proxy.connect();
    let answers: Vec<_> = (0..8).map(|_| ask(&mut client, ANNA)).collect();
    let refused = answers.iter().find(|answer| answer.status == 429).expect("no limit was met");
    assert!(refused.json()["message"].as_str().unwrap().contains("requestsPerSecond"), "{}", refused.text());
    assert_eq!(refused.field("retry-after"), Some("1"));
    assert_eq!(answers[0].status, 200);
    assert_eq!(ask(&mut client, BERT).status, 200, "the connection goes on, and other accounts are not limited");
}

#[test]
fn a_front_carries_requests_of_several_accounts() {
    let limited = config::Account { connections: Some(1), ..account("anna") };
    let site = Site::start(&[limited, account("bert")], &[("TRUSTED_PROXIES", "127.0.0.1")]);
    let mut front = site.proxy.connect();
    let from = |number: u8, fields: &str| format!("X-Forwarded-For: 203.0.113.{number}\r\n{fields}");
    for number in 0..20 {
        assert_eq!(ask(&mut front, &from(number, [ANNA, BERT][usize::from(number) % 2])).status, 200);
    }
    let mut tunnel = site.tunnel(&from(1, ANNA));
    assert_eq!(ask(&mut front, &from(2, ANNA)).status, 429);
    assert_eq!(ask(&mut front, &from(3, BERT)).status, 200);
    site.reload(&[account("bert")]);
    assert_eq!(tunnel.exactly(4), POLICY_VIOLATION);
    assert_eq!(ask(&mut front, &from(2, ANNA)).status, 403);
    assert_eq!(ask(&mut front, &from(3, BERT)).status, 200, "the front's connection stays");
}
