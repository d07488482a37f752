//! A node is killed and another takes its place: its bots connect again at once, while the bots of another node go on.
//!
//! lavaproxy runs with `SESSION_TAKEOVER=off`. With it on, the bots notice nothing and connect no second time: then it is the
//! time until the messages of the last one pass again.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use crate::bench::{Bench, Findings};
use crate::compare::Goal::AtMost;
use crate::compare::{Metric, Row, Sample, Verdict};
use crate::contestant::Contestant::{Haproxy, Lavaproxy, Nginx, Unwatching};
use crate::contestant::{Node, Running, Stage};
use crate::loads::messages::SMALL;
use crate::tally::Tally;
use crate::tunnels::Tunnels;

pub const BOTS: usize = 2000;
/// The tunnels to the other node, and their messages a second on each.
const BYSTANDERS: usize = 10;
const PACE: f64 = 50.0;
/// The pause between two messages of a bot whose node is lost.
const PAUSE: Duration = Duration::from_millis(50);
/// The shortest run of the bystanders.
const SLICE: Duration = Duration::from_millis(50);
/// Of the bystanders' p99 in the storm, to that before.
const CALM_GOAL: f64 = 2.0;

pub fn run(bench: &Bench, findings: &mut Findings) {
    let count = bench.count(BOTS);
    let load = format!("{count} bots connect again to a restarted node");
    let (bench, node) = match with_two_nodes(bench) {
        Ok(both) => both,
        Err(error) => return findings.failures.push(format!("{load}: {error}")),
    };
    let mut node = Some(node);
    let all = [Unwatching, Haproxy, Nginx, Lavaproxy];
    let mut samples = bench.measure(&load, &all, findings, |running, contestant| match contestant {
        Lavaproxy => take_over(&bench, running, count, &mut node),
        _ => storm(&bench, running, count, &mut node),
    });
    let taken_over = samples.median(Lavaproxy, Metric::Opening);
    if let Some(ours) = samples.0.remove(&Unwatching) {
        samples.0.insert(Lavaproxy, ours);
    }
    findings.rows.push(Row::of(&load, Metric::Opening, &[AtMost(1.0, Haproxy)], &samples));
    findings.rows.push(Row::of(&load, Metric::Cpu, &[AtMost(1.2, Haproxy)], &samples));
    let meanwhile = format!("WebSocket echo 256 B, {BYSTANDERS} tunnels to another node × {PACE}/s, meanwhile");
    let mut row = Row::of(&meanwhile, Metric::P99, &[], &samples);
    let calm = [Lavaproxy, Haproxy, Nginx].map(|who| samples.to_calm(who));
    let [ours, haproxy, nginx] = calm.map(|ratio| ratio.map_or("failed".to_owned(), |ratio| ratio.to_string()));
    row.ours += &format!(", {ours} × before; HAProxy's is {haproxy} × before, nginx's {nginx}");
    let goal = format!("≤ {CALM_GOAL} × before");
    row.verdicts.push(Verdict::at_most(goal, calm[0].map(|ratio| ratio.median), CALM_GOAL));
    findings.rows.push(row);
    let time = taken_over.map_or("failed".to_owned(), |time| Metric::Opening.show(time));
    let last = format!("the node of {count} bots is restarted, SESSION_TAKEOVER=on: until all messages pass again");
    findings.rows.push(Row::alone(&last, Metric::Opening.name(), time, Vec::new()));
    findings.raw.push((load, samples));
}

/// The same bench before the v3 of one node and the v4 of another, which can be restarted alone.
fn with_two_nodes(bench: &Bench) -> io::Result<(Bench, Node)> {
    let Stage { lavaproxy, directory, has_limits, .. } = &bench.stage;
    let own = Node::start(directory)?;
    let node = Node::start(directory)?.beside(own.v4());
    let stage = Stage { lavaproxy: lavaproxy.clone(), directory: directory.clone(), node, has_limits: *has_limits };
    let Bench { rounds, window, shrink, counts_instructions, .. } = *bench;
    let contestants = bench.contestants.clone();
    Ok((Bench { stage, contestants, rounds, window, shrink, counts_instructions }, own))
}

fn storm(bench: &Bench, running: &Running, count: usize, node: &mut Option<Node>) -> io::Result<Sample> {
    let mut bystanders = Tunnels::open_v3(running.address, BYSTANDERS, SMALL)?;
    let mut bots = Tunnels::open_sessions_from_many(running.address, count)?;
    bots.run_closed(Duration::ZERO)?;
    bystanders.run_paced(PACE, bench.window / 4)?;
    let calm = bystanders.run_paced(PACE, bench.window)?;
    let before = running.cpu()?;
    let is_over = AtomicBool::new(false);
    let (took, meanwhile) = thread::scope(|scope| {
        let messages = scope.spawn(|| {
            let mut meanwhile = Tally::default();
            while !is_over.load(SeqCst) {
                meanwhile.go_on(bystanders.run_paced(PACE, SLICE)?);
            }
            Ok::<_, io::Error>(meanwhile)
        });
        let took = come_back(bots, running.address, node, &bench.stage);
        is_over.store(true, SeqCst);
        let meanwhile = messages.join().map_err(|_| io::Error::other("the messages ended in a panic"))??;
        Ok::<_, io::Error>((took?, meanwhile))
    })?;
    let cpu = running.cpu()?.saturating_sub(before);
    Ok(Sample::from([
        (Metric::Opening, took.as_secs_f64()),
        (Metric::Cpu, cpu.as_secs_f64() / count as f64),
        (Metric::P99, meanwhile.p99()),
        (Metric::Calm, calm.p99()),
    ]))
}

/// Restarts the node. How long it takes until the last bot has its `ready`.
fn come_back(bots: Tunnels, address: SocketAddr, node: &mut Option<Node>, stage: &Stage) -> io::Result<Duration> {
    let (start, count) = (Instant::now(), bots.count());
    restart(node, false, stage)?;
    bots.wait_until_closed()?;
    Tunnels::open_sessions_from_many(address, count)?.run_closed(Duration::ZERO)?;
    Ok(start.elapsed())
}

/// The same with bots that lavaproxy keeps.
fn take_over(bench: &Bench, running: &Running, count: usize, node: &mut Option<Node>) -> io::Result<Sample> {
    let mut bots = Tunnels::open_sessions_from_many(running.address, count)?;
    bots.run_closed(Duration::ZERO)?;
    let start = Instant::now();
    restart(node, true, &bench.stage)?;
    let answered = bots.send_until_all_answer(PAUSE);
    let took = start.elapsed();
    // The next contestant's bots need the other kind.
    restart(node, false, &bench.stage)?;
    answered?;
    Ok(Sample::from([(Metric::Opening, took.as_secs_f64())]))
}

fn restart(node: &mut Option<Node>, greets: bool, stage: &Stage) -> io::Result<()> {
    drop(node.take());
    *node = Some(Node::start_at(stage.node.v4(), greets, &stage.directory)?);
    Ok(())
}
