//! A driver in another language: a process that says STEP <name> after each step and, in capitals, what the
//! test is to do meanwhile.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::support::{PASSWORD, tool};

/// What tests/real/install.sh ends with when the runtime is missing.
const NO_RUNTIME: i32 = 3;

/// How a driver ended.
pub struct Driven {
    pub status: ExitStatus,
    /// The names of its steps and its commands, in their order.
    pub steps: Vec<String>,
    pub complaints: String,
}

/// Runs a driver to its end; `run` is called for each line that is not a step.
pub fn drive(command: &mut Command, mut run: impl FnMut(&str)) -> Driven {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = child.stderr.take().unwrap();
    let complaints = thread::spawn(move || {
        let mut text = String::new();
        stderr.read_to_string(&mut text).map(|_| text)
    });
    let mut steps = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        match line.strip_prefix("STEP ") {
            Some(step) => steps.push(step.to_owned()),
            None => {
                run(&line);
                steps.push(line);
            }
        }
    }
    Driven { status: child.wait().unwrap(), steps, complaints: complaints.join().unwrap().unwrap() }
}

/// The driver of a bot library, to speak to 127.0.0.1 at this port; `None` is a skip.
pub fn library(environment: &str, bot: &str, port: u16) -> Option<Command> {
    if !is_installed(environment) {
        return None;
    }
    let own = path("target/real").join(environment).join("bin/python");
    let mut command = Command::new(if environment == "node" { PathBuf::from("node") } else { own });
    command
        .arg(path("tests/real").join(bot))
        .env("LAVALINK_HOST", "127.0.0.1")
        .env("LAVALINK_PORT", port.to_string())
        .env("LAVALINK_PASSWORD", PASSWORD)
        .env("LAVALINK_IDENTIFIER", "http://127.0.0.1/tone.mp3")
        .env("PYTHONDONTWRITEBYTECODE", "1");
    Some(command)
}

/// A file of this repository.
pub fn path(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}

/// Installs what the drivers of this environment need, once. False is a skip: its runtime is missing.
pub fn is_installed(environment: &str) -> bool {
    static INSTALLED: Mutex<Option<HashMap<String, bool>>> = Mutex::new(None);
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    let installed = installed.get_or_insert_default();
    *installed.entry(environment.to_owned()).or_insert_with(|| install(environment))
}

fn install(environment: &str) -> bool {
    let mut command = Command::new("bash");
    command.arg(path("tests/real/install.sh")).arg(environment);
    let output = command.stderr(Stdio::inherit()).output().unwrap();
    let said = tool::said(&output);
    if output.status.code() == Some(NO_RUNTIME) {
        tool::skip(said.trim());
        return false;
    }
    assert!(output.status.success(), "tests/real/install.sh {environment} failed: {said}");
    true
}
