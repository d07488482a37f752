//! The web pages in a real Chromium: with the traffic of the demo, with a real bot library, without bots, with several
//! nodes, with bans, and with hostile names.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/driver.rs"]
mod driver;
#[path = "support/relay.rs"]
mod relay;
mod support;

use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use lavaproxy::config::Lavalink;
use lavaproxy::demo::{Bots, Node};
use lavaproxy::ledger::{ClientInfo, Entry, Ledger, Metered};
use relay::Relay;
use support::{Client, PASSWORD, Proxy, eventually};

const WEB_PASSWORD: &str = "for the pages";

/// The right to run a browser: one test at a time has it, because they measure how quick a page is. `None` where no
/// browser is installed.
fn browser() -> Option<MutexGuard<'static, ()>> {
    static BROWSER: Mutex<()> = Mutex::new(());
    let guard = BROWSER.lock().unwrap_or_else(PoisonError::into_inner);
    driver::is_installed("browser").then_some(guard)
}

/// A proxy in front of pretend nodes, which can be stopped and started again at the same addresses.
struct Site {
    nodes: Vec<Node>,
    trusted: &'static str,
    ports: Option<[String; 2]>,
    proxy: Option<Proxy>,
    crowd: Crowd,
}

/// Connections that are in the ledger alone, with traffic until this is dropped.
#[derive(Default)]
struct Crowd {
    count: u32,
    alive: Arc<()>,
}

impl Crowd {
    /// Opens so many more, each with an address of its own.
    fn open(&mut self, ledger: &Arc<Ledger>, count: u32) {
        let (node, backend): (Arc<str>, Arc<str>) = ("v4".into(), "127.0.0.1:2333".into());
        let open = |number: u32| {
            let entry = ledger.open((Ipv4Addr::from(0x0A00_0000 + number), 40_000).into(), "proxy");
            let (user_id, name) = (format!("{}", 170_939_974_227_591_168 + u64::from(number)), format!("bot/{number}"));
            let info = ClientInfo { user_id: user_id.as_bytes(), client_name: name.as_bytes(), user_agent: b"crowd/1" };
            entry.note_request(Some(Lavalink::ALL[number as usize % 2]), &node, &backend, info);
            if number % 3 > 0 {
                entry.upgraded();
            }
            entry
        };
        let entries: Vec<Entry> = (self.count..self.count + count).map(open).collect();
        self.count += count;
        let alive = Arc::downgrade(&self.alive);
        thread::spawn(move || {
            let frame = [0; 1024];
            for round in (0usize..).take_while(|_| alive.strong_count() > 0) {
                for (number, entry) in entries.iter().enumerate() {
                    let length = (number * 7919 + round * 104_729) % frame.len();
                    Metered::new(io::sink(), entry.meter()).write_all(&frame[..length]).unwrap();
                }
                thread::sleep(Duration::from_millis(200));
            }
        });
    }
}

impl Site {
    /// With one node of each version.
    fn new() -> Self {
        Self::behind("", Self::one_of_each())
    }

    fn one_of_each() -> Vec<Node> {
        Lavalink::ALL.map(|version| Node::start(version, PASSWORD).unwrap()).into()
    }

    fn before(nodes: Vec<Node>) -> Self {
        Self::behind("", nodes)
    }

    /// With these trusted fronts.
    fn behind(trusted: &'static str, nodes: Vec<Node>) -> Self {
        let mut site = Self { nodes, trusted, ports: None, proxy: None, crowd: Crowd::default() };
        site.start();
        site.ports = Some(["proxy", "web"].map(|name| site.proxy().listener(name).port().to_string()));
        site
    }

    fn start(&mut self) {
        let [proxy, web] = self.ports.clone().unwrap_or_else(|| ["0", "0"].map(str::to_owned));
        let mut set = vec![("PROXY_PORT", proxy), ("WEB_PORT", web), ("WEB_PASSWORD", WEB_PASSWORD.to_owned())];
        set.push(("TRUSTED_PROXIES", self.trusted.to_owned()));
        set.push(("STATUS_PAGE", "on".to_owned()));
        for (version, names) in Lavalink::ALL
            .into_iter()
            .zip([["LAVALINK_V3_PORT", "LAVALINK_V3_NODES"], ["LAVALINK_V4_PORT", "LAVALINK_V4_NODES"]])
        {
            set.extend(names.into_iter().zip(self.nodes_of(version)));
        }
        let set: Vec<_> = set.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.proxy = Some(Proxy::start(&set));
    }

    /// The port of the only node of a version, or the names and addresses of several ones.
    fn nodes_of(&self, version: Lavalink) -> [String; 2] {
        let nodes: Vec<_> = self.nodes.iter().filter(|node| node.version() == version).collect();
        match &nodes[..] {
            [node] => [node.address().port().to_string(), String::new()],
            nodes => {
                let named = nodes.iter().map(|node| format!("{}={}", node.name(), node.address()));
                [String::new(), named.collect::<Vec<_>>().join(",")]
            }
        }
    }

    fn proxy(&self) -> &Proxy {
        self.proxy.as_ref().expect("the proxy is stopped")
    }

    /// Runs a scenario of pages.mjs in Chromium. Stops and starts the proxy, and ends nodes, when the scenario says so.
    fn browse(&mut self, scenario: &str, names: &[&str]) {
        let mut command = Command::new("node");
        command
            .arg(driver::path("tests/real/browser/pages.mjs"))
            .env("BASE_URL", format!("http://{}", self.proxy().listener("web")))
            .env("WEB_PASSWORD", WEB_PASSWORD)
            .env("SCENARIO", scenario)
            .env("NAMES", serde_json::to_string(names).unwrap());
        let driven = driver::drive(&mut command, |wish| match wish {
            "KILL" => self.proxy = None,
            "START" => self.start(),
            _ => {
                if let Some(count) = wish.strip_prefix("CONNECTIONS ") {
                    let ledger = Arc::clone(self.proxy().server.ledger());
                    self.crowd.open(&ledger, count.parse().unwrap());
                }
                if let Some(name) = wish.strip_prefix("END ") {
                    self.nodes.retain(|node| node.name() != name);
                }
                println!("{wish}");
            }
        });
        assert!(driven.status.success(), "{scenario}: {:?}\n{}", driven.steps, driven.complaints);
        assert!(!driven.steps.is_empty());
    }
}

#[test]
fn the_pages_show_live_traffic_and_recover_after_a_restart() {
    let Some(_guard) = browser() else { return };
    let mut site = Site::new();
    let bots = Bots::start(site.proxy().address(), PASSWORD, 16).unwrap();
    eventually("the bots are connected", || site.proxy().server.ledger().snapshot().totals.websockets >= 8);
    site.browse("live", &[]);
    drop(bots);
}

#[test]
fn the_pages_without_bots_show_how_to_connect_one() {
    let Some(_guard) = browser() else { return };
    Site::new().browse("empty", &[]);
}

#[test]
fn the_pages_show_several_nodes_and_drain_them() {
    let Some(_guard) = browser() else { return };
    let mut site = Site::before(Node::start_demo(PASSWORD).unwrap());
    let bots = Bots::start(site.proxy().address(), PASSWORD, 16).unwrap();
    eventually("the bots are connected", || site.proxy().server.ledger().snapshot().totals.websockets >= 8);
    site.browse("nodes", &[]);
    drop(bots);
}

#[test]
fn the_security_page_bans_and_lifts() {
    let Some(_guard) = browser() else { return };
    let mut site = Site::behind("127.0.0.1", Site::one_of_each());
    let mut guesser = site.proxy().connect();
    for _ in 0..3 {
        guesser
            .send(b"GET /v4/info HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 203.0.113.9\r\nAuthorization: wrong\r\n\r\n");
        assert_eq!(guesser.response().status, 403);
    }
    // The front itself, which is never banned.
    guesser.send(b"GET /v4/info HTTP/1.1\r\nHost: x\r\nAuthorization: wrong\r\n\r\n");
    assert_eq!(guesser.response().status, 403);
    let mut bot = site.proxy().connect();
    bot.get("/v4/info", "User-Id: 80351110224678912\r\nClient-Name: tester\r\n");
    site.browse("security", &[]);
    drop((guesser, bot));
}

#[test]
fn charts_show_figures_over_time() {
    let Some(_guard) = browser() else { return };
    Site::new().browse("history", &[]);
}

#[test]
fn hostile_client_names_stay_text() {
    let Some(_guard) = browser() else { return };
    let names = ["<img src=x onerror=alert(1)>", "</td><script>alert(1)</script>", "{{7*7}}${7*7}", "a&amp;b\"'`"];
    let mut site = Site::new();
    let bots: Vec<Client> = names
        .iter()
        .map(|name| {
            let mut bot = site.proxy().connect();
            bot.get("/v4/info", &format!("Client-Name: {name}\r\nUser-Agent: {name}\r\nUser-Id: {name}\r\n"));
            bot
        })
        .collect();
    site.browse("hostile", &names);
    drop(bots);
}

#[test]
fn a_real_library_is_shown_under_its_own_name() {
    let Some(_guard) = browser() else { return };
    if !driver::is_installed("node") {
        return;
    }
    let mut site = Site::new();
    let relay = Relay::to(site.proxy().address(), Duration::ZERO);
    let mut bot = Command::new("node");
    bot.arg(driver::path("tests/real/node/shoukaku.mjs"))
        .env("LAVALINK_PORT", relay.address.port().to_string())
        .env("LAVALINK_PASSWORD", PASSWORD)
        .env("LAVALINK_IDENTIFIER", "http://127.0.0.1/tone.mp3");
    let driven = driver::drive(&mut bot, |wish| {
        if wish == "CUT" {
            let snapshot = site.proxy().server.ledger().snapshot();
            let tunnel = snapshot.connections.iter().find(|row| row.kind == "websocket").unwrap();
            assert!(tunnel.client_name.starts_with("shoukaku/"), "{tunnel:?}");
            site.browse("hostile", &[&tunnel.client_name]);
        }
        // To the bot a node that is killed is one more cut.
        if matches!(wish, "CUT" | "KILL") {
            relay.cut();
        }
    });
    assert!(driven.status.success(), "{:?}\n{}", driven.steps, driven.complaints);
}

#[test]
fn five_thousand_connections_stay_usable() {
    let Some(_guard) = browser() else { return };
    Site::new().browse("many", &[]);
}
