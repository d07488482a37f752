//! lavaproxy beside HAProxy, nginx, a toy and no proxy at all, on one pretend Lavalink: `make bench`.
//!
//! ```text
//! load (tunnels, rest) -> contestant, one at a time -> node
//!       rounds (bench) of loads/ -> samples -> compare -> report, plot
//! ```
//!
//! Without `--bench`, as `cargo test` starts it, every load runs once for an instant, so that it cannot rot.
#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, missing_docs)]

mod answer;
mod attacker;
mod bench;
mod compare;
mod contestant;
mod footprint;
mod instructions;
mod loads;
mod machine;
mod message;
#[path = "../../support/namespace.rs"]
mod namespace;
mod node;
mod pipe;
mod plot;
mod process;
mod processors;
mod report;
mod rest;
mod source;
mod switches;
mod tally;
mod tunnels;
mod usage;
mod wire;

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bench::{Bench, Findings};
use contestant::{Contestant, Node, Stage};
use loads::{LOADS, Load, ON_REQUEST};

const HELP: &str = "\
cargo bench --bench peers -- [--loads NAME,NAME,...] [--rounds N] [--seconds N]

  --loads    some of: idle, storm, restart, echo, closed, large, watch, rest, connect, bodies, growth, crowd, scrape,
             attack; and fleet, which runs only when it is named
  --rounds   how often each contestant has its turn, 5
  --seconds  how long a turn is, 2

The environment variable LAVAPROXY names the binary to measure.";
/// 12,000 connections to the load, two descriptors for each of the 8,000 or so that lavaproxy holds.
const DESCRIPTORS: u64 = 17_000;

/// The arguments.
struct Arguments {
    is_smoke: bool,
    loads: Vec<&'static Load>,
    rounds: usize,
    window: Duration,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["node", port] => Ok(node::run(port.parse()?, false)?),
        ["node", port, "greets"] => Ok(node::run(port.parse()?, true)?),
        ["pipe", port, node] => Ok(pipe::run(port.parse()?, node.parse()?)?),
        ["attacker", kind, target, millis] => Ok(attacker::run(kind, target, millis)?),
        ["attack", rounds, seconds, shrink] => run_attack(rounds.parse()?, seconds.parse()?, shrink.parse()?),
        _ => run(&Arguments::parse()?),
    }
}

impl Arguments {
    fn parse() -> Result<Self, Box<dyn Error>> {
        use lexopt::prelude::*;
        let mut arguments =
            Self { is_smoke: true, loads: LOADS.iter().collect(), rounds: 5, window: Duration::from_secs(2) };
        let mut parser = lexopt::Parser::from_env();
        while let Some(argument) = parser.next()? {
            match argument {
                Long("bench") => arguments.is_smoke = false,
                Long("loads") => arguments.loads = chosen(&parser.value()?.string()?)?,
                Long("rounds") => arguments.rounds = parser.value()?.parse()?,
                Long("seconds") => arguments.window = Duration::from_secs_f64(parser.value()?.parse()?),
                // A smoke test ignores what `cargo test` passes to every test.
                _ if arguments.is_smoke => {}
                _ => return Err(format!("{}\n\n{HELP}", argument.unexpected()).into()),
            }
        }
        if arguments.is_smoke {
            (arguments.rounds, arguments.window) = (1, Duration::from_millis(80));
            arguments.loads.extend(&ON_REQUEST);
        }
        Ok(arguments)
    }
}

fn chosen(names: &str) -> Result<Vec<&'static Load>, String> {
    let all = || LOADS.iter().chain(&ON_REQUEST);
    let find = |name| all().find(|load| load.name == name).ok_or(format!("no load is called {name}\n\n{HELP}"));
    names.split([',', ' ']).filter(|name| !name.is_empty()).map(find).collect()
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let descriptors = rlimit::increase_nofile_limit(u64::MAX)?;
    if !arguments.is_smoke && descriptors < DESCRIPTORS {
        return Err(format!("{descriptors} open files are too few: allow {DESCRIPTORS} (ulimit -Hn)").into());
    }
    let shrink = if arguments.is_smoke { 100 } else { 1 };
    let bench = bench(arguments.rounds, arguments.window, shrink, false)?;
    let machine = machine::describe(&bench.stage.lavaproxy, &bench.contestants);
    let mut findings = Findings::default();
    for load in &arguments.loads {
        (load.run)(&bench, &mut findings);
    }
    if arguments.is_smoke {
        println!("{} rows, {} failures", findings.rows.len(), findings.failures.len());
        return if findings.failures.is_empty() { Ok(()) } else { Err(findings.failures.join("\n").into()) };
    }
    let directory = &bench.stage.directory;
    let markdown = report::markdown(&findings, &machine, arguments.rounds);
    println!("{markdown}");
    fs::write(directory.join("results.md"), &markdown)?;
    fs::write(directory.join("results.json"), report::json(&findings, &machine).to_string())?;
    if !findings.growth.is_empty() {
        fs::write(directory.join("growth.svg"), plot::svg(&findings.growth))?;
    }
    eprintln!("written to {}: results.md, results.json, growth.svg", directory.display());
    Ok(())
}

/// The bench of the load `attack`, in a process of its own in a network namespace. Says what it found as JSON.
fn run_attack(rounds: usize, seconds: f64, shrink: usize) -> Result<(), Box<dyn Error>> {
    rlimit::increase_nofile_limit(u64::MAX)?;
    let attackers_processor = processors::leave_one()?;
    let bench = bench(rounds, Duration::from_secs_f64(seconds), shrink, true)?;
    println!("{}", serde_json::to_string(&loads::attack::measure(&bench, attackers_processor))?);
    Ok(())
}

fn bench(rounds: usize, window: Duration, shrink: usize, has_limits: bool) -> Result<Bench, Box<dyn Error>> {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench");
    fs::create_dir_all(&directory)?;
    let lavaproxy = env::var_os("LAVAPROXY").map_or(env!("CARGO_BIN_EXE_lavaproxy").into(), PathBuf::from);
    let contestants = installed(shrink > 1)?;
    let stage = Stage { lavaproxy, node: Node::start(&directory)?, directory, has_limits };
    let counts_instructions = counts_instructions()?;
    Ok(Bench { stage, contestants, rounds, window, shrink, counts_instructions })
}

/// False where valgrind is not installed, but where CI is set.
fn counts_instructions() -> Result<bool, String> {
    let is_here = instructions::version().is_some();
    if !is_here && env::var_os("CI").is_some() {
        return Err("install what counts instructions: apt-get install valgrind".to_owned());
    }
    Ok(is_here)
}

/// Those that can take part. A smoke test does without those that are not installed, but where CI is set.
fn installed(is_smoke: bool) -> Result<Vec<Contestant>, String> {
    let (mut here, missing): (Vec<_>, Vec<_>) = Contestant::ALL
        .into_iter()
        .chain([Contestant::Unwatching])
        .partition(|contestant| contestant.package().is_none() || contestant.program().is_some());
    here.extend(here.contains(&Contestant::Haproxy).then_some(Contestant::Fleet));
    let packages: Vec<_> = missing.iter().filter_map(|contestant| contestant.package()).collect();
    if packages.is_empty() {
        return Ok(here);
    }
    let advice = format!("install what it is compared with: apt-get install {}", packages.join(" "));
    if !is_smoke || env::var_os("CI").is_some() {
        return Err(advice);
    }
    eprintln!("skipped: no {}; {advice}", packages.join(", "));
    Ok(here)
}
