//! Many sessions lose their node at once: the next node is not swamped, and new sessions are opened meanwhile.
//!
//! A process of its own, since it counts its threads.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/music.rs"]
mod music;
#[path = "support/nodes.rs"]
mod nodes;
mod support;

use std::thread;
use std::time::{Duration, Instant};

use lavaproxy::config::Lavalink::V4;
use lavaproxy::demo::Close;
use music::{Musician, await_sessions, position};
use nodes::{Bot, Nodes};
use serde_json::json;
use support::{descriptors, eventually, threads};

const SESSIONS: usize = 150;
const PLAYERS: u64 = 5;
/// As long as a real one.
const VOICE_HANDSHAKE: Duration = Duration::from_millis(40);
/// No new session may wait for all the replays.
const LONGEST: Duration = Duration::from_secs(5);

#[test]
fn a_storm_of_takeovers_starves_no_new_session() {
    let nodes = Nodes::start(V4, &["eu1", "eu2"]);
    let proxy = nodes.proxy(&[("MAX_CONNECTIONS_PER_ADDRESS", "off"), ("CONNECTION_RATE", "off")]);
    drop(Bot::open(proxy.address(), V4));
    eventually("eu2 has no session", || nodes.all.iter().all(|node| node.sessions() == 0));
    let before = (threads(), descriptors());
    let bots: Vec<Musician> =
        (0..SESSIONS).map(|_| Musician::open(proxy.address(), V4, "Lavalink-Node: eu1\r\n")).collect();
    for bot in &bots {
        (1..=PLAYERS).for_each(|guild| drop(bot.play(guild, "song", json!({"position": 10_000}))));
    }
    nodes.all.iter().for_each(|node| node.set_voice_handshake(VOICE_HANDSHAKE));
    let lost = Instant::now();
    nodes.named("eu1").die(Close::Reset);
    let mut taken: Vec<Duration> = thread::scope(|scope| {
        let opening = scope.spawn(|| {
            let mut taken = Vec::new();
            while nodes.named("eu2").players() < SESSIONS * PLAYERS as usize {
                let started = Instant::now();
                Bot::open(proxy.address(), V4).leave();
                taken.push(started.elapsed());
            }
            taken
        });
        opening.join().unwrap()
    });
    let all = lost.elapsed();
    taken.sort_unstable();
    let (median, p99) = (taken[taken.len() / 2], taken[taken.len() * 99 / 100]);
    println!(
        "{SESSIONS} sessions with {PLAYERS} players each were taken over in {all:?}; {} new sessions meanwhile, half of them within {median:?}, 99 % within {p99:?}",
        taken.len()
    );
    assert!(p99 < LONGEST, "{p99:?}");
    await_sessions(nodes.named("eu2"), SESSIONS);
    for bot in &bots {
        bot.ping("alive");
        assert!(position(&bot.player(PLAYERS)) >= 10_000);
        assert!(bot.is_open());
    }
    drop(bots);
    proxy.wait_until_empty();
    await_sessions(nodes.named("eu2"), 0);
    // Idle workers and connections end by themselves, later.
    eventually("threads and descriptors are back", || threads() <= before.0 + 40 && descriptors() <= before.1 + 200);
}
