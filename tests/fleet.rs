//! The fleet of deploy/fleet, whole: bots through real HAProxy to three lavaproxies and three nodes, while one lavaproxy
//! after the other is killed, upgraded, hangs and comes back.
//!
//! Names, ports and paths of haproxy.cfg are replaced, and beside its port with TLS it has one without. Clients come from
//! addresses of their own on loopback. Without HAProxy or openssl a test says that it was skipped; where CI is set that
//! is a failure.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/driver.rs"]
mod driver;
#[path = "support/fleet.rs"]
mod fleet;
#[path = "support/front.rs"]
mod front;
#[path = "support/music.rs"]
mod music;
#[path = "support/namespace.rs"]
mod namespace;
#[path = "support/nodes.rs"]
mod nodes;
#[path = "support/plain_bots.rs"]
mod plain_bots;
#[path = "support/process.rs"]
mod process;
#[path = "support/relay.rs"]
mod relay;
mod support;

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use fleet::{Fleet, Member};
use lavaproxy::config::Lavalink::V4;
use lavaproxy::demo::{Close, Node};
use music::Musician;
use plain_bots::Crowd;
use relay::Relay;
use serde_json::json;
use support::{Client, eventually};

/// How many plain bots there are.
const CROWD: u8 = 216;
/// Where a bot alone is.
const BOT: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 7);

/// What happens to a lavaproxy.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Blow {
    Killed,
    Stopped,
    Upgraded,
}

/// Each bot of this lavaproxy comes back once, no other bot notices, and no request is lost after the blow.
fn strike(crowd: &Crowd, members: &[Member; 3], index: usize, blow: Blow) {
    crowd.await_requests();
    let member = &members[index];
    let tunnels = members.each_ref().map(|member| member.tunnels().len());
    assert_eq!(tunnels.iter().sum::<usize>(), usize::from(CROWD), "{tunnels:?}");
    let (hit, before) = (tunnels[index], crowd.comebacks());
    assert!(hit > 0, "{tunnels:?}");
    let start = Instant::now();
    match blow {
        Blow::Killed => member.end("KILL"),
        Blow::Stopped => member.end("TERM"),
        Blow::Upgraded => member.upgrade(),
    }
    let over = Instant::now();
    eventually("its bots are back", || crowd.are_connected() && crowd.comebacks() >= before + hit);
    let back = crowd.bots().filter(|bot| bot.last_back() > start);
    let slowest = back.map(|bot| match blow {
        Blow::Killed => bot.last_back() - start,
        Blow::Stopped | Blow::Upgraded => bot.last_absence(),
    });
    let slowest = slowest.max().unwrap();
    crowd.await_requests();
    assert_eq!(crowd.comebacks(), before + hit, "a bot of another lavaproxy lost its tunnel");
    let lost = crowd.take_failures();
    let late: Vec<_> = lost.iter().filter(|(at, _)| blow == Blow::Upgraded || *at > over).collect();
    assert!(late.is_empty(), "{blow:?}: {late:?}");
    println!("{} {blow:?} with tunnels {tunnels:?}: its bots are back after {slowest:?} at most", member.name());
}

#[test]
fn bots_resume_at_once_through_another_lavaproxy_and_no_node_gets_a_request_of_another() {
    let Some(fleet) = Fleet::start("fleet-crowd") else { return };
    let crowd = Crowd::start(CROWD, fleet.front.plain);
    eventually("all are connected", || crowd.are_connected());
    for (index, next) in [(0, 1), (1, 2), (2, 0)] {
        let member = &fleet.members[index];
        strike(&crowd, &fleet.members, index, Blow::Killed);
        fleet.bring_back(member);
        strike(&crowd, &fleet.members, next, Blow::Upgraded);
    }
    strike(&crowd, &fleet.members, 0, Blow::Stopped);
    let (ids, opened, requests) = crowd.finish();
    for id in &ids {
        let (name, own) = id.split_once('.').unwrap();
        assert!(fleet.nodes.named(name).session_ids().iter().any(|id| id == own), "{name} has no {own}");
    }
    assert_eq!(fleet.nodes.sessions_opened().iter().sum::<u64>(), opened);
    println!("{CROWD} bots, {opened} sessions, {requests} requests, none answered by a wrong node");
}

/// A bot that plays a track.
fn play(through: SocketAddr) -> (Musician, u64) {
    let (bot, guild) = (Musician::open(through, V4, ""), 7);
    assert_eq!(bot.rest("PATCH", "", &json!({"resuming": true, "timeout": 60}).to_string()).status, 200);
    bot.play(guild, "the fleet", json!({}));
    (bot, guild)
}

#[test]
fn a_session_that_was_taken_over_is_asked_about_at_its_own_lavaproxy() {
    let Some(fleet) = Fleet::start("fleet-takeover") else { return };
    let relay = Relay::from(BOT, fleet.front.plain, Duration::ZERO);
    let (before, _) = play(relay.address);
    // The first choice for this address goes away, and is there again when the session moves.
    let first = fleet.member_of(BOT);
    first.end("KILL");
    before.await_end();
    let (bot, guild) = play(relay.address);
    assert_ne!(fleet.member_of(BOT).name(), first.name());
    fleet.bring_back(first);

    let node = bot.id.split_once('.').unwrap().0;
    let own = |node: &Node| node.session_ids().len();
    let others: usize = fleet.nodes.but(node).map(own).sum();
    fleet.nodes.named(node).die(Close::Fin);
    eventually("another node has the session", || fleet.nodes.but(node).map(own).sum::<usize>() == others + 1);
    let is_asked_about = || {
        for _ in 0..20 {
            let player = bot.player(guild);
            assert_eq!(player["track"]["info"]["title"], "the fleet (1)", "{player}");
        }
    };
    is_asked_about();
    fleet.front.reload();
    is_asked_about();
    assert!(bot.is_open());
}

#[test]
fn a_lavaproxy_that_hangs_loses_its_tunnels_and_gets_no_new_ones() {
    let Some(fleet) = Fleet::start("fleet-hangs") else { return };
    let relay = Relay::from(BOT, fleet.front.plain, Duration::ZERO);
    let (bot, _) = play(relay.address);
    let hanging = fleet.member_of(BOT);
    hanging.hang();
    let start = Instant::now();
    bot.await_end();
    println!("the tunnels of a lavaproxy that hangs are closed after {:?}", start.elapsed());
    let again = Musician::open(relay.address, V4, "");
    again.ping("here?");
    hanging.go_on();
    fleet.wait_until_up(hanging);
    assert_ne!(fleet.member_of(BOT).name(), hanging.name());
}

/// A library's whole life over https:// and wss://. Its lavaproxy is killed, and comes back; later its next lavaproxy is
/// upgraded, or with `takes_over` its node is killed.
fn drive(fleet: &Fleet, environment: &str, bot: &str, takes_over: bool) {
    let front = &fleet.front.front;
    let relay = Relay::from(BOT, front.address, Duration::ZERO);
    let Some(mut command) = driver::library(environment, bot, relay.address.port()) else { return };
    front.secure(&mut command);
    command.env("LAVALINK_TAKEOVER", if takes_over { "1" } else { "0" });
    let mut dead = None;
    let driven = thread::scope(|scope| {
        driver::drive(&mut command, |command| match command {
            "CUT" => {
                let member = fleet.member_of(BOT);
                member.end("KILL");
                scope.spawn(|| fleet.bring_back(member));
            }
            "KILL" if takes_over => {
                let (_, node) = fleet.way_of(BOT);
                node.die(Close::Fin);
                dead = Some(node.name());
            }
            "KILL" => fleet.member_of(BOT).upgrade(),
            _ => {}
        })
    });
    let driver::Driven { status, steps, complaints } = driven;
    let last = steps.last().map(String::as_str);
    assert!(status.success() && last == Some("play-on"), "{bot}: {status}, steps {steps:?}\n{complaints}");
    dead.iter().for_each(|node| fleet.revive(node));
}

#[test]
fn real_libraries_play_on_while_lavaproxies_are_killed_upgraded_and_come_back() {
    let Some(fleet) = Fleet::start("fleet-libraries") else { return };
    for takes_over in [false, true] {
        drive(&fleet, "node", "node/shoukaku.mjs", takes_over);
        drive(&fleet, "python/v4", "python/lavalink_bot.py", takes_over);
    }
}

/// `make fleet`.
struct Script(Child);

impl Script {
    fn start() -> Self {
        let mut command = Command::new("bash");
        command.arg(driver::path("deploy/fleet/try.sh")).arg(env!("CARGO_BIN_EXE_lavaproxy"));
        Self(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// The process ids that it says.
    fn lavaproxies(&mut self) -> Vec<u32> {
        let said = BufReader::new(self.0.stdout.as_mut().unwrap()).lines();
        said.take(3).map(|line| process::value(&line.unwrap(), "pid").parse().unwrap()).collect()
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        process::signal(self.0.id(), "TERM");
        self.0.wait().unwrap();
    }
}

#[test]
fn the_fleet_to_look_around_serves_and_ends() {
    namespace::run(|| {
        if support::tool::program("haproxy", "haproxy").is_none() {
            return;
        }
        let mut script = Script::start();
        let pids = script.lavaproxies();
        let front = SocketAddr::from(([127, 0, 0, 1], 6923));
        let ask = |number| {
            let mut client = Client::try_connect_from([127, 0, 4, number], front).ok()?;
            let request =
                "GET /v4/info HTTP/1.1\r\nHost: bot\r\nAuthorization: what bots send\r\nConnection: close\r\n\r\n";
            client.try_send(request.as_bytes()).ok()?;
            let (answer, _) = client.rest_or_error();
            answer.starts_with(b"HTTP/1.1 200 ").then_some(())
        };
        eventually("it serves", || ask(1).is_some());
        process::signal(pids[0], "KILL");
        let is_closed = || TcpStream::connect((Ipv4Addr::new(127, 0, 0, 11), 6923)).is_err();
        eventually("it is killed", || process::has_ended(pids[0]) && is_closed());
        (1..=20).for_each(|number| ask(number).unwrap_or_else(|| panic!("{number} got no answer")));
        drop(script);
        eventually("all have ended", || pids.iter().all(|pid| process::has_ended(*pid)));
    });
}
