//! The run in figures: a line now and then, and a block of Markdown at the end.

use std::fmt::Write as _;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use crate::lavaproxy::{Held, Lavaproxy};
use crate::ledger::{Counted, Group, Known};
use crate::load::Load;

/// The most that was held at any look.
#[derive(Default)]
pub struct Peak {
    pub held: Held,
    pub open: usize,
}

impl Peak {
    pub fn look(&mut self, now: Held, open: usize) {
        self.held.threads = self.held.threads.max(now.threads);
        self.held.descriptors = self.held.descriptors.max(now.descriptors);
        self.held.memory = self.held.memory.max(now.memory);
        self.open = self.open.max(open);
    }
}

pub fn progress(load: &Load, lavaproxy: &Lavaproxy, started: Instant) {
    let Held { threads, descriptors, memory } = lavaproxy.held();
    let (seconds, done, open) = (started.elapsed().as_secs(), load.findings.done.sum(), load.open.load(SeqCst));
    let restarts = load.restarts();
    let troubles: Vec<String> =
        load.findings.troubles.all().iter().map(|(what, count)| format!("{count} x {what}")).collect();
    println!(
        "{seconds:>5} s: {done} done; {open} connections, {threads} threads, {descriptors} descriptors, {memory} KiB; {restarts} restarts; {}",
        troubles.join(", ")
    );
}

/// All that the report shows.
pub struct Run<'r> {
    pub seed: u64,
    pub time: Duration,
    pub load: &'r Load,
    pub start: Held,
    pub warm: Held,
    pub peak: &'r Peak,
    pub end: Held,
    pub cpu: f64,
    pub upgrades: usize,
    /// Sessions and their players that another node took over.
    pub taken_over: (u64, u64),
    pub ledger: [(Group, u64, Known, Counted); 2],
}

pub fn markdown(run: &Run<'_>) -> String {
    let mut out = String::new();
    let Run { seed, time, load, start, warm, peak, end, cpu, upgrades, taken_over, ledger } = run;
    let minutes = time.as_secs_f64() / 60.0;
    let _ = writeln!(out, "### {minutes:.1} minutes, seed {seed}\n");
    let _ = writeln!(
        out,
        "| held by lavaproxy | at the start | after the warm-up | at the most | at the end |\n|---|---|---|---|---|"
    );
    for (name, of) in [
        ("threads", (|held: &Held| held.threads) as fn(&Held) -> u64),
        ("descriptors", |held| held.descriptors),
        ("memory, KiB", |held| held.memory),
    ] {
        let _ = writeln!(out, "| {name} | {} | {} | {} | {} |", of(start), of(warm), of(&peak.held), of(end));
    }
    let _ = writeln!(out, "\n| counted by | connections | requests | bytes in | bytes out |\n|---|---|---|---|---|");
    for (group, connections, known, counted) in ledger {
        let kind = if *group == Group::Clean { "ended properly" } else { "cut" };
        let Known { requests, bytes_in, bytes_out } = known;
        let _ = writeln!(out, "| clients, {kind} | {connections} | {requests} | {bytes_in} | {bytes_out} |");
        let Counted { requests, bytes_in, bytes_out } = counted;
        let _ = writeln!(out, "| lavaproxy, the same | {connections} | {requests} | {bytes_in} | {bytes_out} |");
    }
    let _ = writeln!(out, "\n| done | times |\n|---|---|");
    for (what, count) in load.findings.done.all() {
        let _ = writeln!(out, "| {what} | {count} |");
    }
    let _ = writeln!(out, "\n| trouble made, and come through | times |\n|---|---|");
    for (what, count) in load.findings.troubles.all() {
        let _ = writeln!(out, "| {what} | {count} |");
    }
    let restarts = load.restarts();
    let _ = writeln!(
        out,
        "\n{restarts} restarts of nodes, in which {} sessions with {} players were taken over; {upgrades} upgrades of lavaproxy and a restart; {} connections at once; {cpu:.0} s of CPU since the restart.",
        taken_over.0, taken_over.1, peak.open
    );
    out
}
