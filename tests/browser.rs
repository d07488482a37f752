//! The web pages in a real Chromium: with the traffic of the demo, with a real bot library, without bots, and with
//! hostile names.
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

/// The right to run a browser: one test at a time has it, because they measure how quick a page is. `None` where no
/// browser is installed.
fn browser() -> Option<MutexGuard<'static, ()>> {
    static BROWSER: Mutex<()> = Mutex::new(());
    let guard = BROWSER.lock().unwrap_or_else(PoisonError::into_inner);
    driver::is_installed("browser").then_some(guard)
}

/// A proxy in front of the demo's nodes, which can be stopped and started again at the same addresses.
struct Site {
    nodes: [Node; 2],
    ports: Option<[String; 2]>,
    proxy: Option<Proxy>,
}

impl Site {
    fn new() -> Self {
        let nodes = Lavalink::ALL.map(|version| Node::start(version, PASSWORD).unwrap());
        let mut site = Self { nodes, ports: None, proxy: None };
        site.start();
        site.ports = Some(["proxy", "web"].map(|name| site.proxy().listener(name).port().to_string()));
        site
    }

    fn start(&mut self) {
        let [proxy, web] = self.ports.clone().unwrap_or_else(|| ["0", "0"].map(str::to_owned));
        let set = [("PROXY_PORT", proxy.as_str()), ("WEB_PORT", web.as_str()), ("WEB_PASSWORD", WEB_PASSWORD)];
        let [v3, v4] = self.nodes.each_ref().map(Node::address);
        self.proxy = Some(Proxy::before(v3, v4, &set));
    }

    fn proxy(&self) -> &Proxy {
        self.proxy.as_ref().expect("the proxy is stopped")
    }

    /// Runs a scenario of pages.mjs in Chromium, and stops and starts the proxy when the scenario says so.
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
            _ => {}
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
            relay.cut();
        }
    });
    assert!(driven.status.success(), "{:?}\n{}", driven.steps, driven.complaints);
}

#[test]
fn five_thousand_connections_stay_usable() {
    let Some(_guard) = browser() else { return };
    let mut site = Site::new();
    let mut bot = site.proxy().connect();
    bot.get("/v4/info", "Client-Name: one\r\n");
    site.browse("many", &[]);
}
