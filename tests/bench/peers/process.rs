//! A process that the bench started: it ends with its guard, and with the bench however that ends.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::usage;

/// A running program and the processes that it started.
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts a program; what it says goes to `log`.
    pub fn start(command: &Command, log: &Path) -> io::Result<Self> {
        let log = File::create(log)?;
        // The kernel ends it when the bench dies without a chance to.
        let mut guarded = Command::new("setpriv");
        guarded.args(["--pdeathsig", "TERM", "--"]).arg(command.get_program()).args(command.get_args());
        guarded.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        guarded.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        Ok(Self { child: guarded.spawn()? })
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The first line that it says.
    pub fn first_line(&mut self) -> io::Result<String> {
        let (mut line, mut byte) = (Vec::new(), [0]);
        let stdout = self.child.stdout.as_mut().ok_or_else(|| io::Error::other("no standard output"))?;
        while stdout.read(&mut byte)? == 1 && byte != *b"\n" {
            line.extend_from_slice(&byte);
        }
        String::from_utf8(line).map_err(io::Error::other)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // At once: nothing that it would do at a proper end is measured.
        for pid in usage::family(self.pid()).unwrap_or_else(|_| vec![self.pid()]) {
            let _ = kill(pid, Signal::SIGKILL);
        }
        let _ = self.child.wait();
    }
}
