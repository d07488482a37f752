//! The three pages in a real Chromium: against the demo's traffic, a real bot library, nobody, and hostile names.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/driver.rs"]
mod driver;
#[path = "support/relay.rs"]
mod relay;
mod support;

use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lavaproxy::config::Lavalink;
use lavaproxy::demo::{Bots, Node};
use relay::Relay;
use support::{Client, PASSWORD, Proxy, eventually};

const WEB_PASSWORD: &str = "for the pages";

/// One browser at a time: they measure how quick a page is. `None` where there is none.
fn browser() -> Option<MutexGuard<'static, ()>> {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    driver::is_installed("browser").then_some(turn)
}

/// A proxy before the demo's nodes that can be stopped and started again at the same addresses.
struct House {
    nodes: [Node; 2],
    ports: Option<[String; 2]>,
    proxy: Option<Proxy>,
}

impl House {
    fn new() -> Self {
        let nodes = Lavalink::ALL.map(|version| Node::start(version, PASSWORD).unwrap());
        let mut house = Self { nodes, ports: None, proxy: None };
        house.start();
        let doors = ["proxy", "web"].map(|door| house.proxy().door(door).port().to_string());
        house.ports = Some(doors);
        house
    }

    fn start(&mut self) {
        let [bots, web] = self.ports.clone().unwrap_or_else(|| ["0", "0"].map(str::to_owned));
        let set = [("PROXY_PORT", bots.as_str()), ("WEB_PORT", web.as_str()), ("WEB_PASSWORD", WEB_PASSWORD)];
        let [v3, v4] = self.nodes.each_ref().map(Node::address);
        self.proxy = Some(Proxy::before(v3, v4, &set));
    }

    fn proxy(&self) -> &Proxy {
        self.proxy.as_ref().expect("it is stopped")
    }

    /// Lets Chromium go through a scenario, with what it wishes done to the proxy meanwhile.
    fn browse(&mut self, scenario: &str, names: &[&str]) {
        let mut command = Command::new("node");
        command
            .arg(driver::path("tests/real/browser/pages.mjs"))
            .env("BASE_URL", format!("http://{}", self.proxy().door("web")))
            .env("WEB_PASSWORD", WEB_PASSWORD)
            .env("SCENARIO", scenario)
            .env("NAMES", serde_json::to_string(names).unwrap());
        let driven = driver::drive(&mut command, |wish| match wish {
            "KILL" => self.proxy = None,
            "START" => self.start(),
            _ => {}
        });
        assert!(driven.status.success(), "{scenario}: {:?}\n{}", driven.steps, driven.complaints);
        assert!(!driven.steps.is_empty());
    }
}

#[test]
fn the_pages_show_live_traffic_and_outlive_a_restart() {
    let Some(_turn) = browser() else { return };
    let mut house = House::new();
    let bots = Bots::start(house.proxy().address(), PASSWORD, 16).unwrap();
    eventually("the bots are connected", || house.proxy().server.ledger().snapshot().totals.websockets >= 8);
    house.browse("live", &[]);
    drop(bots);
}

#[test]
fn a_proxy_without_bots_says_what_to_do_next() {
    let Some(_turn) = browser() else { return };
    House::new().browse("empty", &[]);
}

#[test]
fn what_peers_say_of_themselves_stays_text() {
    let Some(_turn) = browser() else { return };
    let names = ["<img src=x onerror=alert(1)>", "</td><script>alert(1)</script>", "{{7*7}}${7*7}", "a&amp;b\"'`"];
    let mut house = House::new();
    let bots: Vec<Client> = names
        .iter()
        .map(|name| {
            let mut bot = house.proxy().connect();
            bot.get("/v4/info", &format!("Client-Name: {name}\r\nUser-Agent: {name}\r\nUser-Id: {name}\r\n"));
            bot
        })
        .collect();
    house.browse("hostile", &names);
    drop(bots);
}

#[test]
fn a_real_library_is_shown_as_it_names_itself() {
    let Some(_turn) = browser() else { return };
    if !driver::is_installed("node") {
        return;
    }
    let mut house = House::new();
    let relay = Relay::to(house.proxy().address(), Duration::ZERO);
    let mut bot = Command::new("node");
    bot.arg(driver::path("tests/real/node/shoukaku.mjs"))
        .env("LAVALINK_PORT", relay.address.port().to_string())
        .env("LAVALINK_PASSWORD", PASSWORD)
        .env("LAVALINK_IDENTIFIER", "http://127.0.0.1/tone.mp3");
    let driven = driver::drive(&mut bot, |wish| {
        if wish == "CUT" {
            let snapshot = house.proxy().server.ledger().snapshot();
            let tunnel = snapshot.connections.iter().find(|row| row.kind == "websocket").unwrap();
            assert!(tunnel.client_name.starts_with("shoukaku/"), "{tunnel:?}");
            house.browse("hostile", &[&tunnel.client_name]);
            relay.cut();
        }
    });
    assert!(driven.status.success(), "{:?}\n{}", driven.steps, driven.complaints);
}

#[test]
fn five_thousand_connections_stay_usable() {
    let Some(_turn) = browser() else { return };
    let mut house = House::new();
    let mut bot = house.proxy().connect();
    bot.get("/v4/info", "Client-Name: one\r\n");
    house.browse("many", &[]);
}
