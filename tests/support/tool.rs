//! Programs of the system that some tests need, and what a test says when one is missing.

use std::collections::HashSet;
use std::env;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;

/// Says, once in this process, that something is not tested here. Where CI is set that is a failure.
pub fn skip(why: &str) {
    assert!(env::var_os("CI").is_none(), "{why}");
    say(&format!("skipped: {why}"));
}

/// Says something once in this process, with the name of the test program, even when the test passes: libtest holds
/// back what `eprintln` writes, but not what goes to standard error itself. `make` repeats these lines at its end.
pub fn say(what: &str) {
    static SAID: Mutex<Option<HashSet<String>>> = Mutex::new(None);
    if SAID.lock().unwrap().get_or_insert_default().insert(what.to_owned()) {
        let line = format!("tests/{}: {what}\n", env!("CARGO_CRATE_NAME"));
        let _ = io::stderr().write_all(line.as_bytes());
        let list = Path::new(env!("CARGO_TARGET_TMPDIR")).join("skipped");
        if let Ok(mut list) = OpenOptions::new().append(true).create(true).open(list) {
            let _ = list.write_all(line.as_bytes());
        }
    }
}

/// The program of this name, also where a user's PATH does not lead; `None` is a skip.
pub fn program(name: &str, package: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|file| file.is_file());
    if found.is_none() {
        skip(&format!("{name} is not installed (apt-get install {package})"));
    }
    found
}

/// True when this command ends well; else it is a skip.
pub fn works(command: &[&str], remedy: &str) -> bool {
    let works = quietly(command);
    if !works {
        skip(&format!("`{}` does not work ({remedy})", command.join(" ")));
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

/// Docker's compose: its plugin, or the program of its own. `None` is a skip.
pub fn compose() -> Option<&'static [&'static str]> {
    let plugin = quietly(&["docker", "compose", "version"]);
    let compose: &[&str] = if plugin { &["docker", "compose"] } else { &["docker-compose"] };
    let version = [compose, &["version"]].concat();
    works(&version, "install docker's compose plugin, or the package docker-compose").then_some(compose)
}

/// Standard output and error, one behind the other.
pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}
