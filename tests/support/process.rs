//! The binary as a process of its own, with nothing of this process's environment.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

pub const SECRET: &str = "hunter2-of-the-test";

/// The command without anything of this process's environment.
pub fn lavaproxy(set: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lavaproxy"));
    command.env_clear().envs(set.iter().copied()).current_dir(directory("empty"));
    command
}

pub fn directory(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("command").join(name);
    fs::create_dir_all(&path).unwrap();
    path
}

/// A started command whose log is read line by line.
pub struct Running {
    pub child: Child,
    log: BufReader<std::process::ChildStderr>,
    pub seen: String,
}

/// Listeners on free ports.
pub const FREE: [(&str, &str); 4] =
    [("PROXY_HOST", "127.0.0.1"), ("PROXY_PORT", "0"), ("WEB_PORT", "0"), ("PROXY_PASSWORD", SECRET)];

impl Running {
    pub fn start(set: &[(&str, &str)]) -> Self {
        let mut command = lavaproxy(&FREE);
        command.envs(set.iter().copied());
        Self::spawn(command)
    }

    pub fn spawn(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        Self { child, log, seen: String::new() }
    }

    /// The next log line that has all of `words`.
    pub fn line(&mut self, words: &[&str]) -> String {
        loop {
            let mut line = String::new();
            assert!(self.log.read_line(&mut line).unwrap() > 0, "no line with {words:?} in\n{}", self.seen);
            self.seen += &line;
            if words.iter().all(|word| line.contains(word)) {
                return line;
            }
        }
    }

    pub fn listener(&mut self, name: &str) -> SocketAddr {
        value(&self.line(&["event=listening ", &format!("listener={name} ")]), "address").parse().unwrap()
    }

    pub fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Waits for the end; the rest of the log is in `seen` then.
    pub fn end(mut self) -> (ExitStatus, String) {
        let status = self.child.wait().unwrap();
        self.log.read_to_string(&mut self.seen).unwrap();
        (status, std::mem::take(&mut self.seen))
    }
}

pub fn value(line: &str, key: &str) -> String {
    let start = line.find(&format!(" {key}=")).unwrap_or_else(|| panic!("no {key} in {line}")) + key.len() + 2;
    line[start..].split_whitespace().next().unwrap_or_default().to_owned()
}

pub fn signal(pid: u32, name: &str) {
    let signal: Signal = format!("SIG{name}").parse().unwrap();
    kill(Pid::from_raw(pid as i32), signal).unwrap_or_else(|error| panic!("{signal} to {pid}: {error}"));
}

/// True when the process has ended with all its threads, whether or not its exit code was read. While its first thread is a
/// zombie, another may still accept a connection.
pub fn has_ended(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let is_over =
        stat.rsplit(')').next().is_none_or(|rest| rest.trim_start().starts_with(['Z', 'X']) || rest.is_empty());
    let threads = fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    is_over && threads <= 1
}

impl Drop for Running {
    fn drop(&mut self) {
        // Fails when it has ended and its exit code was read.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process that is not a child of this one. It is killed on drop.
pub struct Stray(pub u32);

impl Drop for Stray {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.0 as i32), Signal::SIGKILL);
    }
}
