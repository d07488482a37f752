//! User instructions for one operation, as valgrind counts them (cachegrind without its caches, its fastest tool that
//! counts those of all threads). Each contestant has two turns, each with a start of its own: a short one, and the same
//! with [`OPERATIONS`] more. What the second takes beyond the first is the cost of these; the start cancels out. A
//! signal ends the contestant with its connections still open, so that their end is in neither count.
//!
//! Only one thread of a contestant runs at a time under valgrind, and 20 to 50 times slower. A repeated string
//! instruction counts once for each repetition. The kernel's instructions are not counted: virtual machines seldom
//! have the counters for that.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};

use crate::bench::{Bench, Findings};
use crate::compare::{Metric, Samples};
use crate::contestant::{Contestant, Running};
use crate::tally::Tally;
use crate::usage;

const VALGRIND: &str = "valgrind";
/// How many operations the long turn has beyond the short one.
const OPERATIONS: usize = 2000;
/// More tunnels are not opened: what it takes to open one wobbles by as much as a message costs.
pub const MOST_TUNNELS: usize = 20;
/// The load goes on in pieces of this length until it has had enough operations.
const PIECE: Duration = Duration::from_millis(50);
/// Kills every contestant, as none handles it. Valgrind still writes its count, which it cannot do after SIGKILL.
const END: Signal = Signal::SIGVTALRM;
/// How long that may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What valgrind says of its version; none where it is not installed.
pub fn version() -> Option<String> {
    let output = Command::new(VALGRIND).arg("--version").output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Adds to the samples what an operation of a load takes. `open` prepares a contestant's load, as it does for a round.
pub fn count<L: FnMut(Duration) -> io::Result<Tally>>(
    bench: &Bench,
    load: &str,
    findings: &mut Findings,
    samples: &mut Samples,
    open: impl Fn(&Running) -> io::Result<L> + Sync,
) {
    count_turns(bench, load, findings, samples, |running, further| {
        let mut run = open(running)?;
        let mut operations = run(PIECE)?.operations();
        let enough = operations + further as f64;
        while operations < enough {
            operations += run(PIECE)?.operations();
        }
        Ok((operations, run))
    });
}

/// The same for a load that is no run of operations. `turn` does a few and so many further ones. It says how many they
/// were, and leaves what keeps the connections open.
pub fn count_turns<C>(
    bench: &Bench,
    load: &str,
    findings: &mut Findings,
    samples: &mut Samples,
    turn: impl Fn(&Running, usize) -> io::Result<(f64, C)> + Sync,
) {
    if !bench.counts_instructions {
        return;
    }
    let mut contestants: Vec<_> = samples.0.keys().copied().filter(|who| *who != Contestant::Direct).collect();
    if bench.shrink > 1 {
        // A smoke test counts each contestant once, one in each of its first loads.
        contestants = contestants.into_iter().skip(findings.raw.len()).take(1).collect();
    }
    if contestants.is_empty() {
        return;
    }
    eprint!("{load}, instructions:");
    let costs = thread::scope(|scope| {
        let (bench, turn) = (bench, &turn);
        let start = |who| (who, scope.spawn(move || cost(bench, who, turn)));
        let threads: Vec<_> = contestants.into_iter().map(start).collect();
        let failed = || Err(io::Error::other("the count panicked"));
        threads.into_iter().map(|(who, thread)| (who, thread.join().unwrap_or_else(|_| failed()))).collect::<Vec<_>>()
    });
    for (contestant, cost) in costs {
        eprint!(" {}", contestant.name());
        match cost {
            Ok(cost) => samples.add_to_first_round(contestant, Metric::Instructions, cost),
            Err(error) => {
                eprint!(" FAILED");
                findings.failures.push(format!("{load}: instructions of {}: {error}", contestant.name()));
            }
        }
    }
    eprintln!();
}

fn cost<C>(
    bench: &Bench,
    contestant: Contestant,
    turn: impl Fn(&Running, usize) -> io::Result<(f64, C)>,
) -> io::Result<f64> {
    let further = bench.count(OPERATIONS);
    let [short, long] = [0, further].map(|further| take_turn(bench, contestant, |running| turn(running, further)));
    let ((few, least), (many, most)) = (short?, long?);
    Ok((most - least) / (many - few))
}

/// Operations and instructions from the start of a contestant to its end.
fn take_turn<C>(
    bench: &Bench,
    contestant: Contestant,
    turn: impl Fn(&Running) -> io::Result<(f64, C)>,
) -> io::Result<(f64, f64)> {
    let directory = bench.stage.directory.join("instructions").join(contestant.name());
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory)?;
    let running = bench.stage.start_under(&launcher(&directory), contestant)?;
    let (operations, _connections) = turn(&running)?;
    let root = *running.family().first().ok_or_else(|| io::Error::other("it has no process"))?;
    let family = usage::family(root)?;
    for pid in &family {
        kill(*pid, END)?;
    }
    let counts = family.iter().map(|pid| wait_for_count(&directory.join(pid.to_string())));
    Ok((operations, counts.sum::<io::Result<f64>>()?))
}

/// The words before a program's own. Each of its processes leaves its count in a file of the directory.
fn launcher(directory: &Path) -> Vec<String> {
    let files = format!("--cachegrind-out-file={}", directory.join("%p").display());
    [VALGRIND, "--tool=cachegrind", "--cache-sim=no", "--branch-sim=no", "--max-threads=10000", &files]
        .map(str::to_owned)
        .to_vec()
}

/// What valgrind writes when the process ends.
fn wait_for_count(file: &Path) -> io::Result<f64> {
    let since = Instant::now();
    loop {
        let text = fs::read_to_string(file).unwrap_or_default();
        // The last line; a part of it has no end.
        let count = text.lines().last().and_then(|line| line.strip_prefix("summary:")?.trim().parse().ok());
        if let Some(count) = count.filter(|_| text.ends_with('\n')) {
            return Ok(count);
        }
        if since.elapsed() > PATIENCE {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "valgrind does not write its count"));
        }
        thread::sleep(Duration::from_millis(5));
    }
}
