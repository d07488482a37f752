//! Tools of the system that some tests need.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::env;
use std::process::{Command, Output, Stdio};

/// True when this command ends well. Else false, with a word on standard error; that is a failure where CI is set.
pub fn works(command: &[&str], remedy: &str) -> bool {
    let works = quietly(command);
    if !works {
        assert!(env::var_os("CI").is_none(), "{command:?} does not work: {remedy}");
        eprintln!("skipped: {command:?} does not work: {remedy}");
    }
    works
}

/// True when this command ends well, whatever it says.
pub fn quietly(command: &[&str]) -> bool {
    let mut command = self::command(command);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

pub fn command(words: &[&str]) -> Command {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    command
}

/// Standard output and error, one behind the other.
pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}
