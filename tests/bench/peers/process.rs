//! A process that the bench started: it ends with its guard, and with the bench however that ends.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::usage;

const PATIENCE: Duration = Duration::from_secs(5);

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
        let family = usage::family(self.pid()).unwrap_or_default();
        let _ = kill(self.pid(), Signal::SIGTERM);
        let since = Instant::now();
        while self.is_running() && since.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(5));
        }
        if self.is_running() {
            for pid in family {
                let _ = kill(pid, Signal::SIGKILL);
            }
        }
        let _ = self.child.wait();
    }
}
