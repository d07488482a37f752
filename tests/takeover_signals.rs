//! Signals while a takeover runs, and what 200 takeovers leave behind. The binary is a process of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/music.rs"]
mod music;
#[path = "support/nodes.rs"]
mod nodes;
#[path = "support/process.rs"]
mod process;
mod support;

use std::net::SocketAddr;
use std::time::{Duration, Instant};
use std::{fs, thread};

use lavaproxy::config::Lavalink::V4;
use lavaproxy::demo::Close;
use music::{Musician, await_sessions, is_event, listen_for, position};
use nodes::Nodes;
use process::{FREE, Running, Stray, directory, has_ended, lavaproxy, signal, value};
use serde_json::json;
use support::{PASSWORD, eventually, eventually_within};

/// A WebSocket that lavaproxy ends.
const GOING_AWAY: Option<u16> = Some(1001);
/// One that the bot must open again.
const SERVICE_RESTART: Option<u16> = Some(1012);

/// Two nodes behind a lavaproxy, and a bot that plays on `eu1`.
struct Stage {
    nodes: Nodes,
    running: Running,
    proxy: SocketAddr,
    web: SocketAddr,
}

impl Stage {
    fn start(set: &[(&str, &str)]) -> Self {
        Self::start_in("empty", set)
    }

    /// With the settings of a file in this folder, if there are any.
    fn start_in(folder: &str, set: &[(&str, &str)]) -> Self {
        let nodes = Nodes::start(V4, &["eu1", "eu2"]);
        let list = nodes.list();
        let always = [
            ("PROXY_PASSWORD", PASSWORD),
            ("LAVALINK_V4_NODES", &*list),
            ("LAVALINK_V3_HOST", ""),
            ("HEALTH_INTERVAL", "10s"),
            ("MAX_CONNECTIONS_PER_ADDRESS", "off"),
            ("CONNECTION_RATE", "off"),
        ];
        let mut command = lavaproxy(&[&FREE[..], &always, set].concat());
        command.current_dir(directory(folder));
        let mut running = Running::spawn(command);
        let (proxy, web) = (running.listener("proxy"), running.listener("web"));
        Self { nodes, running, proxy, web }
    }

    fn bot(&self) -> Musician {
        let bot = Musician::open(self.proxy, V4, "Lavalink-Node: eu1\r\n");
        bot.play(1, "song", json!({"position": 20_000}));
        bot
    }

    /// Kills `eu1`, and returns while the takeover waits for `eu2`, which hangs.
    fn begin_takeover(&self, bot: &Musician) {
        self.nodes.named("eu2").hang();
        self.nodes.named("eu1").die(Close::Fin);
        // The node cannot have answered.
        bot.ping("meanwhile");
    }

    fn end_takeover(&self) {
        self.nodes.named("eu2").resume();
        await_sessions(self.nodes.named("eu2"), 1);
    }

    /// SIGUSR2, up to the moment when the predecessor accepts no more clients.
    fn upgrade(&mut self) -> Stray {
        self.running.signal("USR2");
        let successor = value(&self.running.line(&["event=upgraded "]), "successor").parse().unwrap();
        self.running.line(&["event=listeners-closed"]);
        Stray(successor)
    }

    /// Stops the successor, and waits for the end of both processes.
    fn end(self, successor: &Stray) {
        signal(successor.0, "TERM");
        let (status, log) = self.running.end();
        assert!(status.success() && !log.contains("level=error"), "{log}");
    }
}

#[test]
fn a_reload_during_a_takeover_changes_nothing() {
    let mut stage = Stage::start(&[]);
    let bot = stage.bot();
    let heard = bot.count();
    stage.begin_takeover(&bot);
    for _ in 0..3 {
        stage.running.signal("HUP");
        assert_eq!(value(&stage.running.line(&["event=reload "]), "changed"), "\"\"");
    }
    assert_eq!(stage.nodes.named("eu2").sessions(), 0, "the takeover is under way");
    stage.end_takeover();
    assert!(position(&bot.player(1)) >= 20_000);
    stage.running.line(&["event=takeover ", "from=eu1 to=eu2 players=1 failed=0"]);
    bot.ping("after it");
    assert!(!bot.since(heard).iter().any(|message| is_event(message, "TrackStartEvent")));
    stage.running.signal("TERM");
    assert_eq!(bot.await_end(), GOING_AWAY);
    assert!(stage.running.end().0.success());
}

#[test]
fn a_predecessor_finishes_its_takeover_and_its_successor_leads_requests_there() {
    let mut stage = Stage::start(&[("DRAIN_TIMEOUT", "60s")]);
    let bot = stage.bot();
    stage.begin_takeover(&bot);
    let first = stage.upgrade();
    stage.end_takeover();
    stage.running.line(&["event=takeover ", "from=eu1 to=eu2 players=1 failed=0"]);
    bot.ping("after it");
    let leads = || bot.rest("GET", "/players/1", "").status == 200;
    eventually("the successor knows where the session is", leads);
    assert_eq!(bot.patch(1, "", &json!({"volume": 42})).json()["volume"], 42);
    // So does the next one.
    signal(first.0, "USR2");
    let second = Stray(value(&stage.running.line(&["event=upgraded "]), "successor").parse().unwrap());
    stage.running.line(&["event=listeners-closed"]);
    assert!(position(&bot.player(1)) >= 20_000);
    assert_eq!(bot.player(1)["volume"], 42);
    assert!(bot.is_open());
    drop(bot);
    eventually("the predecessors have ended", || has_ended(stage.running.child.id()) && has_ended(first.0));
    stage.end(&second);
}

#[test]
fn requests_to_a_successor_wait_for_the_takeover_of_its_predecessor() {
    let mut stage = Stage::start(&[("DRAIN_TIMEOUT", "60s")]);
    let bot = stage.bot();
    stage.begin_takeover(&bot);
    let first = stage.upgrade();
    // The next successor learns of it through the first one.
    signal(first.0, "USR2");
    let second = Stray(value(&stage.running.line(&["event=upgraded "]), "successor").parse().unwrap());
    stage.running.line(&["event=listeners-closed"]);
    thread::scope(|scope| {
        let get = scope.spawn(|| bot.rest("GET", "/players/1", ""));
        let patch = scope.spawn(|| bot.patch(1, "", &json!({"volume": 42})));
        listen_for(Duration::from_millis(500));
        assert!(!get.is_finished() && !patch.is_finished());
        stage.end_takeover();
        assert_eq!(get.join().unwrap().status, 200);
        assert_eq!(patch.join().unwrap().json()["volume"], 42);
    });
    assert_eq!(bot.rest("GET", "/players/1", "").status, 200);
    bot.ping("after it");
    drop(bot);
    eventually("the predecessors have ended", || has_ended(stage.running.child.id()) && has_ended(first.0));
    stage.end(&second);
}

#[test]
fn a_request_to_a_successor_waits_no_longer_than_the_takeover_of_its_predecessor() {
    let mut stage = Stage::start(&[("DRAIN_TIMEOUT", "60s"), ("TAKEOVER_TIMEOUT", "5s")]);
    let bot = stage.bot();
    stage.begin_takeover(&bot);
    let successor = stage.upgrade();
    assert_eq!(bot.rest("GET", "/players/1", "").status, 502);
    assert_eq!(bot.await_end(), SERVICE_RESTART);
    drop(bot);
    stage.nodes.named("eu2").resume();
    stage.end(&successor);
}

#[test]
fn a_session_of_a_predecessor_ends_with_its_node() {
    let mut stage = Stage::start(&[("DRAIN_TIMEOUT", "60s")]);
    let bot = stage.bot();
    let successor = stage.upgrade();
    // The predecessor does not hear of it.
    assert_eq!(bot.patch(1, "", &json!({"volume": 42})).status, 200);
    stage.nodes.named("eu1").die(Close::Fin);
    assert_eq!(bot.await_end(), SERVICE_RESTART);
    stage.running.line(&["event=takeover-failed ", "from=eu1", "in an upgrade"]);
    assert_eq!(stage.nodes.named("eu2").sessions(), 0);
    // The successor takes over what it has itself.
    stage.nodes.named("eu1").revive().unwrap();
    let again = stage.bot();
    stage.nodes.named("eu1").die(Close::Fin);
    await_sessions(stage.nodes.named("eu2"), 1);
    assert!(position(&again.player(1)) >= 20_000);
    drop((bot, again));
    stage.end(&successor);
}

#[test]
fn an_upgrade_ends_moves_and_the_node_goes_on_draining() {
    const BOTS: usize = 12;
    let mut stage = Stage::start(&[("DRAIN_TIMEOUT", "60s"), ("MOVE_RATE", "1")]);
    nodes::wait_for_state(stage.web, "eu2", "up");
    let bots: Vec<Musician> = (0..BOTS).map(|_| stage.bot()).collect();
    assert_eq!(nodes::act(stage.web, "eu1", "drain?move=true", "").status, 200);
    stage.running.line(&["event=move ", "from=eu1 to=eu2"]);
    let upgraded = Instant::now();
    let successor = stage.upgrade();
    stage.running.line(&["event=moves-ended ", "failed=0"]);
    // To ask each session three times, one a second, takes longer.
    assert!(upgraded.elapsed() < Duration::from_secs(20), "{:?}", upgraded.elapsed());
    let [left, moved] = ["eu1", "eu2"].map(|name| stage.nodes.named(name).sessions());
    assert!(left > 0 && moved > 0 && left + moved == BOTS, "{left} are left, {moved} have moved");
    for bot in &bots {
        bot.ping("alive");
        assert_eq!(bot.rest("GET", "/players/1", "").status, 200);
    }
    let row = nodes::row(stage.web, "eu1");
    assert_eq!((&row["draining"], &row["moving"]), (&json!(true), &json!(false)), "{row}");
    drop(bots);
    eventually("the predecessor has ended", || has_ended(stage.running.child.id()));
    stage.end(&successor);
}

#[test]
fn a_failed_upgrade_leaves_takeovers_on() {
    const FOLDER: &str = "failed-upgrade";
    let settings = directory(FOLDER).join("lavaproxy.env");
    fs::write(&settings, "").unwrap();
    let mut stage = Stage::start_in(FOLDER, &[]);
    let bot = stage.bot();
    fs::write(&settings, "DRAIN_TIMEOUT=soon\n").unwrap();
    stage.running.signal("USR2");
    stage.running.line(&["event=upgrade-failed "]);
    stage.nodes.named("eu1").die(Close::Fin);
    await_sessions(stage.nodes.named("eu2"), 1);
    assert!(position(&bot.player(1)) >= 20_000);
    assert!(bot.is_open());
}

#[test]
fn a_predecessor_ends_its_takeover_when_it_has_drained() {
    let mut stage = Stage::start(&[("DRAIN_TIMEOUT", "1s")]);
    let bot = stage.bot();
    stage.begin_takeover(&bot);
    let successor = stage.upgrade();
    assert_eq!(bot.await_end(), GOING_AWAY);
    eventually("the predecessor has ended", || has_ended(stage.running.child.id()));
    stage.nodes.named("eu2").resume();
    stage.end(&successor);
}

#[test]
fn a_stop_ends_a_takeover() {
    let stage = Stage::start(&[("DRAIN_TIMEOUT", "1s")]);
    let bot = stage.bot();
    stage.begin_takeover(&bot);
    stage.running.signal("TERM");
    assert_eq!(bot.await_end(), GOING_AWAY);
    let (status, log) = stage.running.end();
    assert!(status.success(), "{log}");
    assert!(log.contains("event=takeover-over ") && log.contains("event=stopped"), "{log}");
}

/// Threads, descriptors, and memory in KiB.
fn held(process: u32) -> (u64, u64, u64) {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let figure = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_matches([':', '\t', ' ', 'k', 'B']).parse().unwrap()
    };
    let descriptors = fs::read_dir(format!("/proc/{process}/fd")).unwrap().count() as u64;
    (figure("Threads"), descriptors, figure("VmRSS"))
}

#[test]
fn two_hundred_takeovers_leave_nothing_behind() {
    const SESSIONS: usize = 200;
    /// What the allocator may keep beyond what it kept after the first time, in KiB; a session has 64 KiB of buffers.
    const SLACK: u64 = 4 * 1024;
    let stage = Stage::start(&[("LOG_LEVEL", "warn,lavaproxy::server=info")]);
    let cycle = || {
        let bots: Vec<Musician> = (0..SESSIONS).map(|_| stage.bot()).collect();
        stage.nodes.named("eu1").die(Close::Reset);
        await_sessions(stage.nodes.named("eu2"), SESSIONS);
        bots.iter().for_each(|bot| bot.ping("alive"));
        bots.iter().for_each(|bot| assert!(position(&bot.player(1)) >= 20_000));
        drop(bots);
        await_sessions(stage.nodes.named("eu2"), 0);
        stage.nodes.named("eu1").revive().unwrap();
    };
    let process = stage.running.child.id();
    cycle();
    // Idle workers and idle connections to nodes stay for a while, as many as after the next time.
    let have_ended = || held(process).0 < SESSIONS as u64;
    eventually_within(Duration::from_secs(90), "the tunnels' threads have ended", have_ended);
    let before = held(process);
    cycle();
    cycle();
    let mut after = before;
    let is_back = || {
        after = held(process);
        after.0 <= before.0 && after.1 <= before.1 + 16 && after.2 <= before.2 + SLACK
    };
    // Idle carriers keep what a takeover has touched of their stacks, and end after 30 s.
    eventually_within(Duration::from_secs(90), "threads, descriptors and memory are back", is_back);
    println!("threads, descriptors and KiB: {before:?} after {SESSIONS} takeovers, {after:?} after {}", 3 * SESSIONS);
}
