//! Sessions that lose their node at once, while other bots open new ones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use lavaproxy::config::Lavalink::V4;
use lavaproxy::demo::{Close, Node};
use lavaproxy::proxy::carriers::IDLE_TIME;
use serde_json::json;

use crate::music::{Musician, await_sessions, position};
use crate::nodes::{Bot, Nodes};
use crate::support::{descriptors, eventually, eventually_within, threads, tool};

const PLAYERS: u64 = 5;
/// The ends of the bot, of lavaproxy and of both nodes, and the replays' connections.
const DESCRIPTORS_PER_SESSION: usize = 16;
/// As long as a real one.
const VOICE_HANDSHAKE: Duration = Duration::from_millis(40);
/// What the README promises for the node that takes the sessions over.
const MOST_REPLAYS: usize = 16;
const MOST_REPLAYS_OF_SESSION: usize = 4;
/// No new session may wait for all the replays.
const LONGEST: Duration = Duration::from_secs(5);
/// So many bots open new sessions meanwhile, again and again.
const OPENING: usize = 4;
/// Threads that make the sessions ready.
const TOGETHER: usize = 8;
/// Much longer than it takes, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(300);

pub fn run(wanted: usize) {
    let limit = rlimit::increase_nofile_limit(u64::MAX).unwrap();
    let sessions = wanted.min(usize::try_from(limit.saturating_sub(1000)).unwrap() / DESCRIPTORS_PER_SESSION);
    if sessions < wanted {
        tool::say(&format!("skipped in part: only {sessions} sessions, as the limit of open files is {limit}"));
    }
    let nodes = Nodes::start(V4, &["eu1", "eu2"]);
    let proxy = nodes.proxy(&[
        ("MAX_CONNECTIONS_PER_ADDRESS", "off"),
        ("CONNECTION_RATE", "off"),
        ("TAKEOVER_TIMEOUT", "300s"),
    ]);
    drop(Bot::open(proxy.address(), V4));
    eventually("no node has a session", || nodes.all.iter().all(|node| node.sessions() == 0));
    let before = (threads(), descriptors());
    let bots = open(proxy.address(), sessions);
    let next = nodes.named("eu2");
    next.set_voice_handshake(VOICE_HANDSHAKE);
    let (all, taken) = lose(nodes.named("eu1"), next, proxy.address(), sessions);
    let (median, p99) = (taken[taken.len() / 2], taken[taken.len() * 99 / 100]);
    let counts = next.counts();
    println!(
        "{sessions} sessions with {PLAYERS} players each were taken over in {all:?}, with at most {} replays at once and {} of one session; {} new sessions meanwhile, half of them within {median:?}, 99 % within {p99:?}",
        counts.most_updates,
        counts.most_updates_of_session,
        taken.len()
    );
    assert!(counts.most_updates <= MOST_REPLAYS, "{counts:?}");
    assert!(counts.most_updates_of_session <= MOST_REPLAYS_OF_SESSION, "{counts:?}");
    assert!(p99 < LONGEST, "{p99:?}");
    await_sessions(next, sessions);
    for bot in &bots {
        bot.ping("alive");
        assert!(position(&bot.player(PLAYERS)) >= 10_000);
        assert!(bot.is_open());
    }
    drop(bots);
    proxy.wait_until_empty();
    await_sessions(next, 0);
    // Idle threads and connections end by themselves, later.
    eventually_within(2 * IDLE_TIME, "threads and descriptors are back", || {
        threads() <= before.0 + 40 && descriptors() <= before.1 + 200
    });
}

/// Sessions on `eu1` that play.
fn open(proxy: SocketAddr, sessions: usize) -> Vec<Musician> {
    let open = move || {
        let bot = Musician::open(proxy, V4, "Lavalink-Node: eu1\r\n");
        (1..=PLAYERS).for_each(|guild| drop(bot.play(guild, "song", json!({"position": 10_000}))));
        bot
    };
    thread::scope(|scope| {
        let share = |number: usize| (sessions + number) / TOGETHER;
        let open_share = |number| move || (0..share(number)).map(|_| open()).collect::<Vec<_>>();
        let opening: Vec<_> = (0..TOGETHER).map(|number| scope.spawn(open_share(number))).collect();
        opening.into_iter().flat_map(|opening| opening.join().unwrap()).collect()
    })
}

/// Kills a node. How long it takes until the next one has all players, and how long each new session takes meanwhile,
/// sorted. A handshake that fails is a panic.
fn lose(node: &Node, next: &Node, proxy: SocketAddr, sessions: usize) -> (Duration, Vec<Duration>) {
    let players = sessions * PLAYERS as usize;
    let over = AtomicBool::new(false);
    let open_again_and_again = || {
        let mut taken = Vec::new();
        while !over.load(SeqCst) {
            let started = Instant::now();
            Bot::open(proxy, V4).leave();
            taken.push(started.elapsed());
        }
        taken
    };
    let lost = Instant::now();
    node.die(Close::Reset);
    thread::scope(|scope| {
        let opening: Vec<_> = (0..OPENING).map(|_| scope.spawn(open_again_and_again)).collect();
        let has_failed = || opening.iter().any(|opening| opening.is_finished());
        while next.players() < players && lost.elapsed() < PATIENCE && !has_failed() {
            thread::sleep(Duration::from_millis(5));
        }
        let (all, taken_over) = (lost.elapsed(), next.players());
        over.store(true, SeqCst);
        let mut taken: Vec<_> = opening.into_iter().flat_map(|opening| opening.join().unwrap()).collect();
        assert_eq!(taken_over, players, "after {all:?}");
        taken.sort_unstable();
        (all, taken)
    })
}
