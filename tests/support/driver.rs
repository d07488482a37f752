//! A driver in another language: a process that says STEP <name> after each step and, in capitals, what it wants
//! done meanwhile.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::env;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::thread;

/// How a driver ended.
pub struct Driven {
    pub status: ExitStatus,
    /// The names of its steps and its wishes, in their order.
    pub steps: Vec<String>,
    pub complaints: String,
}

/// Runs a driver to its end; `wish` is called for each line that is no step.
pub fn drive(command: &mut Command, mut wish: impl FnMut(&str)) -> Driven {
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
                wish(&line);
                steps.push(line);
            }
        }
    }
    Driven { status: child.wait().unwrap(), steps, complaints: complaints.join().unwrap().unwrap() }
}

/// A file of this repository.
pub fn path(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}

/// Installs what the drivers need, once. False, with a word on standard error, where `environment` could not be
/// installed for want of its runtime; that is a failure where CI is set.
pub fn is_installed(environment: &str) -> bool {
    static INSTALL: LazyLock<bool> = LazyLock::new(|| {
        let status = Command::new("bash").arg(path("tests/real/install.sh")).status();
        status.is_ok_and(|status| status.success())
    });
    assert!(*INSTALL, "tests/real/install.sh failed; its output says what to install");
    let installed = path("target/real").join(environment).join("installed").exists();
    if !installed {
        assert!(env::var_os("CI").is_none(), "{environment} is not installed");
        eprintln!("skipped: no {environment}");
    }
    installed
}
