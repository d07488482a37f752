//! The machine and the versions that the figures come from.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;

use crate::contestant::Contestant;
use crate::instructions;

/// One line for each fact.
pub fn describe(lavaproxy: &Path, contestants: &[Contestant]) -> Vec<String> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown", |(_, model)| model);
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut facts = vec![format!("{model}, {cores} cores"), format!("Linux {}", kernel.trim())];
    let own = version(Command::new(lavaproxy).arg("--version"));
    facts.push(own);
    for contestant in contestants {
        if let Some(program) = contestant.program() {
            let mut words = version(Command::new(program).arg("-v"));
            words.truncate(words.find(" - ").unwrap_or(words.len()));
            facts.push(words);
        }
    }
    let valgrind = instructions::version();
    facts.push(valgrind.unwrap_or_else(|| "no valgrind, so that no instructions are counted".to_owned()));
    facts
}

/// The first line that a program says.
fn version(command: &mut Command) -> String {
    let Ok(output) = command.output() else { return "unknown".to_owned() };
    let said = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&said).lines().next().unwrap_or("unknown").to_owned()
}
