//! Voice tokens, session keys and passwords are in no line of the log and in no answer, whatever a takeover meets.
//!
//! A process of its own, since it keeps all log lines.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/logged.rs"]
mod logged;
#[path = "support/music.rs"]
mod music;
#[path = "support/nodes.rs"]
mod nodes;
mod support;

use lavaproxy::config::Lavalink::{V3, V4};
use lavaproxy::demo::Close;
use logged::{lines, logged};
use music::{Musician, VOICE_TOKEN, await_sessions};
use nodes::{Nodes, health};
use serde_json::json;
use support::{Client, eventually};

const KEY: &str = "k3y-0f-the-session";

#[test]
fn nothing_secret_is_told() {
    lines();
    for version in [V4, V3] {
        let nodes = Nodes::start(version, &["eu1", "eu2"]);
        let proxy = nodes.proxy(&[("TAKEOVER_TIMEOUT", "1s"), ("WEB_PASSWORD", "")]);
        let bot = Musician::open(proxy.address(), version, "Lavalink-Node: eu1\r\n");
        bot.rest("PATCH", "", &json!({"resumingKey": KEY, "resuming": true}).to_string());
        bot.play(1, "song", json!({}));
        nodes.named("eu1").die(Close::Fin);
        await_sessions(nodes.named("eu2"), 1);
        assert_eq!(bot.player(1)["voice"]["token"], VOICE_TOKEN, "the bot's own answers have it");
        let web = nodes::web(&proxy);
        let mut told = vec![health(web).to_string(), proxy.stats().to_string()];
        for page in ["/metrics", "/", "/health", "/api/data-usage", "/api/connections"] {
            let mut client = Client::connect(web);
            client.send(format!("GET {page} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes());
            told.push(client.response().text());
        }
        nodes.named("eu2").die(Close::Fin);
        assert_eq!(bot.await_end(), Some(1012));
        eventually("the failure is logged", || logged(&["event=takeover-failed"]) > 0);
        for text in told.into_iter().chain(lines()) {
            assert!(!text.contains(VOICE_TOKEN) && !text.contains(KEY), "{text}");
        }
    }
    assert_eq!(logged(&["event=takeover ", "from=eu1", "to=eu2", "players=1", "failed=0"]), 2);
}
