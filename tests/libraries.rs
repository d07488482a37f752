//! Real bot libraries, as npm and PyPI ship them, through the proxy to both Lavalinks: the demo's nodes, or real
//! servers where LAVALINK_V3_JAR and LAVALINK_V4_JAR name their jars.
//!
//! Each library is a process of its own that goes through connect, ready, load, decode, play, destroy, and comes
//! back by itself after its connections were cut. A real server has no Discord to connect to, so there the libraries
//! play without a voice connection. Without Node or Python a test says that it was skipped; where CI is set that is a
//! failure.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/driver.rs"]
mod driver;
#[path = "real/lavalink.rs"]
mod lavalink;
#[path = "support/relay.rs"]
mod relay;
mod support;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use lavalink::Server;
use lavaproxy::config::Lavalink;
use relay::Relay;
use support::{PASSWORD, Proxy};

const STEPS: [&str; 8] = ["ready", "load", "decode", "play", "destroy", "CUT", "reconnect", "load-again"];

/// Where a driver's runtime is; `None` is a skip.
fn runtime(environment: &str) -> Option<PathBuf> {
    let own = || driver::path("target/real").join(environment).join("bin/python");
    driver::is_installed(environment).then(|| if environment == "node" { "node".into() } else { own() })
}

/// Both nodes, the proxy before them with a pinned v4 listener, for the drivers.
struct Site {
    v3: Server,
    v4: Server,
    proxy: Proxy,
}

impl Site {
    fn new() -> Self {
        let (v3, v4) = (Server::start(Lavalink::V3), Server::start(Lavalink::V4));
        let proxy = Proxy::before(v3.address(), v4.address(), &[("PROXY_V4_PORT", "0")]);
        Self { v3, v4, proxy }
    }

    /// Runs one driver against a listener of this proxy and checks every step of it.
    fn drive(&self, environment: &str, bot: &str, listener: &str, pause: Duration) {
        let Some(runtime) = runtime(environment) else { return };
        let relay = Relay::to(self.proxy.listener(listener), pause);
        let lavalink = if bot.contains("erela") || bot.contains("wavelink1") { &self.v3 } else { &self.v4 };
        let mut command = Command::new(runtime);
        if listener == "proxy-v4" {
            command.env("LAVALINK_VERSION", "4");
        }
        command
            .arg(driver::path("tests/real").join(bot))
            .env("LAVALINK_HOST", "127.0.0.1")
            .env("LAVALINK_PORT", relay.address.port().to_string())
            .env("LAVALINK_PASSWORD", PASSWORD)
            .env("LAVALINK_IDENTIFIER", lavalink.identifier())
            .env("LAVALINK_VOICE", if lavalink.has_voice() { "1" } else { "0" })
            .env("PYTHONDONTWRITEBYTECODE", "1");
        let driven = driver::drive(&mut command, |command| {
            if command == "CUT" {
                relay.cut();
            }
        });
        let driver::Driven { status, steps, complaints } = driven;
        assert!(status.success() && steps == STEPS, "{bot}: {status}, steps {steps:?}\n{complaints}");
        drop(relay);
        self.proxy.wait_until_empty();
        let stats = self.proxy.stats();
        assert!(!complaints.contains(PASSWORD) && !stats.to_string().contains(PASSWORD));
    }
}

const AT_ONCE: Duration = Duration::ZERO;
/// lavacord loses a first message that comes before it has looked at the 101, from a bare Lavalink as well.
const LAVACORD: Duration = Duration::from_millis(250);

#[test]
fn shoukaku() {
    Site::new().drive("node", "node/shoukaku.mjs", "proxy", AT_ONCE);
}

#[test]
fn lavalink_client() {
    Site::new().drive("node", "node/lavalink_client.mjs", "proxy", AT_ONCE);
}

#[test]
fn lavalink_client_at_the_v4_listener() {
    Site::new().drive("node", "node/lavalink_client.mjs", "proxy-v4", AT_ONCE);
}

#[test]
fn lavacord_at_the_v4_listener() {
    Site::new().drive("node", "node/lavacord.mjs", "proxy-v4", LAVACORD);
}

#[test]
fn erela() {
    Site::new().drive("node", "node/erela.mjs", "proxy", AT_ONCE);
}

#[test]
fn lavalink_py() {
    Site::new().drive("python/v4", "python/lavalink_bot.py", "proxy", AT_ONCE);
}

#[test]
fn lavalink_py_at_the_v4_listener() {
    Site::new().drive("python/v4", "python/lavalink_bot.py", "proxy-v4", AT_ONCE);
}

#[test]
fn wavelink_3() {
    Site::new().drive("python/v4", "python/wavelink_bot.py", "proxy", AT_ONCE);
}

#[test]
fn mafic_at_the_v4_listener() {
    Site::new().drive("python/v4", "python/mafic_bot.py", "proxy-v4", AT_ONCE);
}

#[test]
fn wavelink_1() {
    Site::new().drive("python/wavelink1", "python/wavelink1_bot.py", "proxy", AT_ONCE);
}

#[test]
fn v3_and_v4_libraries_and_plain_requests_share_one_port() {
    let site = Site::new();
    std::thread::scope(|scope| {
        scope.spawn(|| site.drive("node", "node/erela.mjs", "proxy", AT_ONCE));
        scope.spawn(|| site.drive("python/v4", "python/lavalink_bot.py", "proxy", AT_ONCE));
        for _ in 0..50 {
            let mut bare = site.proxy.connect();
            let info = bare.get("/v4/info", "").json();
            assert_eq!(info["version"]["major"], 4);
            assert_eq!(bare.get("/v3/info", "").json()["version"]["major"], 3);
        }
    });
}
