//! One address attacks: what a dropped connection costs, and what an honest bot notices. Both contestants have the same
//! limits. What the attack costs all programs of one machine is seen by a bot that speaks to the node, while the attack
//! meets a port where nobody listens. It runs in a network namespace, as loopback has no limits.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Stdio;

use crate::attacker::{Attacker, Count, Kind};
use crate::bench::{Bench, Findings};
use crate::compare::Goal::AtMost;
use crate::compare::{Metric, Row, Sample, Verdict};
use crate::contestant::Contestant::{Direct, Haproxy, Lavaproxy};
use crate::contestant::Running;
use crate::loads::messages::SMALL;
use crate::namespace;
use crate::switches::Switches;
use crate::tunnels::Tunnels;

/// Of lavaproxy's CPU time for a dropped connection, to HAProxy's.
const DROP_GOAL: f64 = 1.5;
/// Of the p99 under attack, to that before.
const CALM_GOAL: f64 = 1.5;
/// The honest bot's address, its tunnels, and its messages a second on each.
const BOT: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
const TUNNELS: usize = 100;
const PACE: f64 = 10.0;
/// Nobody listens there.
const NOBODY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9);

/// Has this program measure it in a namespace.
pub fn run(bench: &Bench, findings: &mut Findings) {
    let mut command = namespace::this_program();
    let numbers = [bench.rounds as f64, bench.window.as_secs_f64(), bench.shrink as f64];
    command.arg("attack").args(numbers.map(|number| number.to_string())).stderr(Stdio::inherit());
    let inside = command.output().and_then(|output| Ok(serde_json::from_slice(&output.stdout)?));
    match inside {
        Ok(inside) => findings.add(inside),
        Err(error) => findings.failures.push(format!("attack: {error}; {}", namespace::HINT)),
    }
}

/// All of it, inside, with an attacker on that processor.
pub fn measure(bench: &Bench, processor: usize) -> Findings {
    let mut findings = Findings::default();
    drop_connections(bench, processor, &mut findings);
    attack(bench, processor, &mut findings, "guesses passwords", Kind::Guess);
    attack(bench, processor, &mut findings, "floods with connections, resets and half-open heads", Kind::Flood);
    findings
}

/// A banned address that connects again and again.
fn drop_connections(bench: &Bench, processor: usize, findings: &mut Findings) {
    let load = "connections of a banned address".to_owned();
    let samples = bench.measure(&load, &[Lavaproxy, Haproxy], findings, |running, _| {
        let attacker = Attacker::start(Kind::Banned, running.address, bench.window, processor, &bench.stage.directory)?;
        let switches = Switches::of(running.family())?;
        let before = running.cpu()?;
        let count = attacker.end()?;
        let cpu = running.cpu()?.saturating_sub(before);
        let switches = Switches::of(running.family())?.since(&switches);
        if count.answered > 0 || count.connections == 0 {
            return Err(io::Error::other(format!("it is not banned: {count:?}")));
        }
        let connections = count.connections as f64;
        Ok(Sample::from([
            (Metric::Cpu, cpu.as_secs_f64() / connections),
            (Metric::Switches, switches as f64 / connections),
            (Metric::Rate, count.rate()),
        ]))
    });
    findings.rows.push(Row::of(&load, Metric::Cpu, &[AtMost(DROP_GOAL, Haproxy)], &samples));
    findings.rows.push(Row::of(&load, Metric::Switches, &[], &samples));
    findings.raw.push((load, samples));
}

/// An honest bot's messages while an address attacks, and before.
fn attack(bench: &Bench, processor: usize, findings: &mut Findings, what: &str, kind: Kind) {
    let load = format!("WebSocket echo 256 B, {TUNNELS} tunnels × {PACE}/s, while an address {what}");
    let samples = bench.measure(&load, &[Lavaproxy, Haproxy, Direct], findings, |running, who| {
        messages(bench, running, if who == Direct { NOBODY } else { running.address }, kind, processor)
    });
    let mut row = Row::of(&load, Metric::P99, &[], &samples);
    let ratios = [Lavaproxy, Haproxy, Direct].map(|who| samples.to_calm(who));
    let [ours, theirs, nobody] = ratios.map(|ratio| ratio.map_or("failed".to_owned(), |ratio| ratio.to_string()));
    row.ours += &format!(
        ", {ours} × without the attack; HAProxy's is {theirs} × without; with no proxy and the attack on a closed port it is {nobody} × \
         without"
    );
    let goal = format!("≤ {CALM_GOAL} × without");
    row.verdicts.push(Verdict::at_most(goal, ratios[0].map(|ratio| ratio.median), CALM_GOAL));
    findings.rows.push(row);
    findings.raw.push((load, samples));
}

fn messages(bench: &Bench, running: &Running, target: SocketAddr, kind: Kind, processor: usize) -> io::Result<Sample> {
    let (address, window) = (running.address, bench.window);
    let (mut tunnels, _) = Tunnels::open_from(BOT, address, bench.count(TUNNELS), SMALL)?;
    tunnels.run_paced(PACE, window / 4)?;
    let calm = tunnels.run_paced(PACE, window)?;
    let attacker = Attacker::start(kind, target, window * 3 / 2, processor, &bench.stage.directory)?;
    tunnels.run_paced(PACE, window / 4)?;
    let attacked = tunnels.run_paced(PACE, window)?;
    let count = attacker.end()?;
    check(kind, count)?;
    Ok(Sample::from([(Metric::P99, attacked.p99()), (Metric::Calm, calm.p99()), (Metric::Rate, count.rate())]))
}

/// True limits: without them the attack would be another load.
fn check(kind: Kind, count: Count) -> io::Result<()> {
    /// What the connection rate lets through: a burst and, for each second, more; twice that, as the second may be long.
    const BURST: f64 = 200.0;
    const RATE: f64 = 50.0;
    let most = match kind {
        Kind::Banned | Kind::Guess => 0.0,
        Kind::Flood => 2.0 * (BURST + RATE * count.took.as_secs_f64()),
    };
    if count.connections == 0 || count.served as f64 > most {
        return Err(io::Error::other(format!("the limits do not hold: {count:?}")));
    }
    Ok(())
}
