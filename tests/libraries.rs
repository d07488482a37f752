//! Real bot libraries, as npm and PyPI ship them, through the proxy to both Lavalinks: the demo's nodes, or real
//! servers where LAVALINK_V3_JAR and LAVALINK_V4_JAR name their jars.
//!
//! Each library is a process of its own that goes through connect, ready, load, decode, play, destroy, and comes
//! back by itself after its connections were cut, and once more after its Lavalink was killed while it played. Behind
//! lavaproxy there is one node of each version, which starts again when it was killed, or there are two, of which one
//! is dead from then on; the library must see no difference. That is without takeovers: with them the WebSocket of a
//! library whose Lavalink was killed stays open, and the library must not notice anything, unless it plays over its
//! WebSocket, as those of the v3 era do: then it comes back by itself. A real server has no Discord to connect to, so
//! there the libraries play without a voice connection, and it is their connections that are cut when it should be
//! killed.
//! Without Node or Python a test says that it was skipped; where CI is set that is a failure.
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

const STEPS: [&str; 12] = [
    "ready",
    "load",
    "decode",
    "play",
    "destroy",
    "CUT",
    "reconnect",
    "load-again",
    "play-again",
    "KILL",
    "reconnect-again",
    "play-on",
];

/// The last ones where another node takes the session over.
const LAST_STEPS_OF_A_TAKEOVER: [&str; 3] = ["KILL", "taken-over", "play-on"];
const OFF: (&str, &str) = ("SESSION_TAKEOVER", "off");

/// Where a driver's runtime is; `None` is a skip.
fn runtime(environment: &str) -> Option<PathBuf> {
    let own = || driver::path("target/real").join(environment).join("bin/python");
    driver::is_installed(environment).then(|| if environment == "node" { "node".into() } else { own() })
}

/// The nodes, the proxy before them with a pinned v4 listener, for the drivers.
struct Site {
    v3: Vec<Server>,
    v4: Vec<Server>,
    proxy: Proxy,
    takeovers: Takeovers,
}

/// Whether lavaproxy takes sessions over.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Takeovers {
    /// A library must come back by itself.
    Off,
    /// It does, but not that of this library, which must come back by itself.
    OfOthers,
    /// It does, and the library must not notice.
    Hidden,
}

impl Site {
    /// One node of each version.
    fn new() -> Self {
        let (v3, v4) = (Server::start(Lavalink::V3), Server::start(Lavalink::V4));
        let proxy = Proxy::before(v3.address(), v4.address(), &[("PROXY_V4_PORT", "0"), OFF]);
        Self { v3: vec![v3], v4: vec![v4], proxy, takeovers: Takeovers::Off }
    }

    /// Two nodes of each version.
    fn with_two_nodes(takeovers: Takeovers) -> Self {
        let v3 = ["a3", "b3"].map(|name| Server::demo(name, Lavalink::V3));
        let v4 = ["a4", "b4"].map(|name| Server::demo(name, Lavalink::V4));
        let list = |[a, b]: &[Server; 2]| format!("{}={},{}={}", a.name(), a.address(), b.name(), b.address());
        let (v3_list, v4_list) = (list(&v3), list(&v4));
        let mut set = vec![
            ("LAVALINK_V3_NODES", &*v3_list),
            ("LAVALINK_V4_NODES", &*v4_list),
            ("PROXY_V3_PORT", "0"),
            ("PROXY_V4_PORT", "0"),
        ];
        set.extend((takeovers == Takeovers::Off).then_some(OFF));
        let proxy = Proxy::start(&set);
        Self { v3: v3.into(), v4: v4.into(), proxy, takeovers }
    }

    /// Kills the node that has the only session there is. A node that is alone starts again, and the library gets no
    /// connection before that.
    fn kill(&self, nodes: &[Server], relay: &Relay) {
        if let [only] = nodes {
            return relay.cut_during(|| only.restart());
        }
        let mut name = None;
        support::eventually("the library has one session", || {
            let connections = self.proxy.stats()["connections"].take();
            let mut sessions = connections.as_array().unwrap().iter().filter(|row| row["kind"] == "websocket");
            name = sessions.next().map(|row| row["node"].as_str().unwrap().to_owned());
            sessions.next().is_none() && name.is_some()
        });
        nodes.iter().find(|node| name.as_deref() == Some(node.name())).unwrap().die();
    }

    /// Runs one driver against a listener of this proxy and checks every step of it.
    fn drive(&self, environment: &str, bot: &str, listener: &str, pause: Duration) {
        let Some(runtime) = runtime(environment) else { return };
        let relay = Relay::to(self.proxy.listener(listener), pause);
        let is_hidden = self.takeovers == Takeovers::Hidden;
        let is_v3 = bot.contains("erela") || bot.contains("wavelink1") || listener == "proxy-v3";
        let nodes = if is_v3 { &self.v3 } else { &self.v4 };
        let mut command = Command::new(runtime);
        if let Some(version) = listener.strip_prefix("proxy-v") {
            command.env("LAVALINK_VERSION", version);
        }
        command
            .arg(driver::path("tests/real").join(bot))
            .env("LAVALINK_HOST", "127.0.0.1")
            .env("LAVALINK_PORT", relay.address.port().to_string())
            .env("LAVALINK_PASSWORD", PASSWORD)
            .env("LAVALINK_IDENTIFIER", nodes[0].identifier())
            .env("LAVALINK_TAKEOVER", if is_hidden { "1" } else { "0" })
            .env("LAVALINK_VOICE", if nodes[0].has_voice() { "1" } else { "0" })
            .env("PYTHONDONTWRITEBYTECODE", "1");
        let driven = driver::drive(&mut command, |command| match command {
            "CUT" => relay.cut(),
            "KILL" => self.kill(nodes, &relay),
            _ => {}
        });
        let driver::Driven { status, steps, complaints } = driven;
        let expected = match is_hidden {
            true => [&STEPS[..STEPS.len() - LAST_STEPS_OF_A_TAKEOVER.len()], &LAST_STEPS_OF_A_TAKEOVER].concat(),
            false => STEPS.to_vec(),
        };
        assert!(status.success() && steps == expected, "{bot}: {status}, steps {steps:?}\n{complaints}");
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
fn every_library_plays_on_when_one_of_two_nodes_is_killed() {
    const LIBRARIES: [(&str, &str, &str, Duration); 8] = [
        ("node", "node/shoukaku.mjs", "proxy", AT_ONCE),
        ("node", "node/lavalink_client.mjs", "proxy", AT_ONCE),
        ("node", "node/lavacord.mjs", "proxy-v4", LAVACORD),
        ("node", "node/erela.mjs", "proxy", AT_ONCE),
        ("python/v4", "python/lavalink_bot.py", "proxy", AT_ONCE),
        ("python/v4", "python/wavelink_bot.py", "proxy", AT_ONCE),
        ("python/v4", "python/mafic_bot.py", "proxy-v4", AT_ONCE),
        ("python/wavelink1", "python/wavelink1_bot.py", "proxy", AT_ONCE),
    ];
    std::thread::scope(|scope| {
        for (environment, bot, listener, pause) in LIBRARIES {
            scope.spawn(move || Site::with_two_nodes(Takeovers::Off).drive(environment, bot, listener, pause));
        }
    });
}

#[test]
fn no_library_notices_that_its_node_was_killed() {
    // mafic speaks v3 over REST too.
    const LIBRARIES: [(&str, &str, &str); 6] = [
        ("node", "node/shoukaku.mjs", "proxy"),
        ("node", "node/lavalink_client.mjs", "proxy"),
        ("python/v4", "python/lavalink_bot.py", "proxy"),
        ("python/v4", "python/wavelink_bot.py", "proxy"),
        ("python/v4", "python/mafic_bot.py", "proxy-v4"),
        ("python/v4", "python/mafic_bot.py", "proxy-v3"),
    ];
    std::thread::scope(|scope| {
        for (environment, bot, listener) in LIBRARIES {
            scope.spawn(move || Site::with_two_nodes(Takeovers::Hidden).drive(environment, bot, listener, AT_ONCE));
        }
    });
}

#[test]
fn a_library_that_plays_over_its_websocket_plays_on_by_itself_where_others_are_taken_over() {
    const LIBRARIES: [(&str, &str); 2] = [("node", "node/erela.mjs"), ("python/wavelink1", "python/wavelink1_bot.py")];
    std::thread::scope(|scope| {
        for (environment, bot) in LIBRARIES {
            scope.spawn(move || Site::with_two_nodes(Takeovers::OfOthers).drive(environment, bot, "proxy", AT_ONCE));
        }
    });
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
