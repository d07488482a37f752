//! The release as it is downloaded: static, the same bytes wherever it was built, and at work on the processors
//! it is for, under qemu where this machine has another.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;
#[path = "support/web.rs"]
mod web;

use std::env::{self, consts::ARCH};
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::LazyLock;
use std::thread;

use lavaproxy::config::Lavalink;
use lavaproxy::demo::Node;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::{Client, HANDSHAKE, PASSWORD, tool};
use web::ask_at;

const MIB: u64 = 1024 * 1024;

/// A machine to release for.
struct Machine {
    target: &'static str,
    arch: &'static str,
    /// What `file` calls it.
    known_as: &'static str,
    /// qemu, as the oldest processor that must do.
    qemu: [&'static str; 3],
}

const MACHINES: [Machine; 3] = [
    Machine {
        target: "x86_64-unknown-linux-musl",
        arch: "x86_64",
        known_as: "x86-64",
        qemu: ["qemu-x86_64-static", "-cpu", "qemu64"],
    },
    Machine {
        target: "aarch64-unknown-linux-musl",
        arch: "aarch64",
        known_as: "ARM aarch64",
        qemu: ["qemu-aarch64-static", "-cpu", "cortex-a53"],
    },
    Machine {
        target: "arm-unknown-linux-musleabihf",
        arch: "armv6",
        known_as: "ARM, EABI5",
        qemu: ["qemu-arm-static", "-cpu", "arm1176"],
    },
];

/// What `make release` made.
struct Release {
    /// `target/dist` here, and the one of the same files in another folder.
    folders: [PathBuf; 2],
    /// The targets that this machine's Rust can build for.
    machines: Vec<Machine>,
    /// What `make release` says of each of the others.
    missing: Vec<String>,
}

static RELEASE: LazyLock<Release> = LazyLock::new(|| {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let elsewhere = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("release-elsewhere");
    copy(&here, &elsewhere);
    let outcomes = thread::scope(|scope| {
        [&here, &elsewhere].map(|folder| scope.spawn(|| make_release(folder))).map(|build| build.join().unwrap())
    });
    let [missing, _] = outcomes.map(|outcome| {
        let complaints = outcome.err().unwrap_or_default();
        let is_missing = |line: &&str| line.starts_with("Rust's target ") && line.contains(" is missing");
        let missing: Vec<_> = complaints.lines().filter(is_missing).map(str::to_owned).collect();
        assert!(complaints.is_empty() || !missing.is_empty(), "make release failed:\n{complaints}");
        missing
    });
    let is_built = |machine: &Machine| !missing.iter().any(|line| line.contains(machine.target));
    let machines = MACHINES.into_iter().filter(is_built).collect();
    Release { folders: [here, elsewhere].map(|folder| folder.join("target/dist")), machines, missing }
});

/// Runs `test` on what can be released from here. The targets that are missing are a skip at its end.
fn test_release(test: impl FnOnce(&Release)) {
    if !RELEASE.machines.is_empty() {
        test(&RELEASE);
    }
    if !RELEASE.missing.is_empty() {
        tool::skip(&RELEASE.missing.join("; "));
    }
}

/// What a clone would have. Times are kept, so that a second build has nothing to do.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let name = entry.file_name();
        if [".git", "target"].map(OsStr::new).contains(&&*name) {
            continue;
        }
        let removed = Command::new("rm").arg("-rf").arg(to.join(&name)).status().unwrap();
        let copied = Command::new("cp").arg("-a").arg(entry.path()).arg(to).status().unwrap();
        assert!(removed.success() && copied.success(), "{name:?} was not copied");
    }
}

/// # Errors
/// With what it complained of.
fn make_release(folder: &Path) -> Result<(), String> {
    // As an operator's shell would run it: nothing of what cargo tells its tests.
    let kept = ["PATH", "HOME", "CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN"];
    let environment = kept.into_iter().filter_map(|name| Some((name, env::var_os(name)?)));
    let output =
        Command::new("make").arg("release").current_dir(folder).env_clear().envs(environment).output().unwrap();
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

fn output_of(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    assert!(output.status.success(), "{command:?}: {output:?}");
    Some(String::from_utf8(output.stdout).unwrap())
}

/// A released binary with free listeners, before two pretend nodes.
struct Running {
    child: Child,
    log: BufReader<ChildStderr>,
    /// The addresses of the listeners, from the log.
    proxy: SocketAddr,
    web: SocketAddr,
}

impl Running {
    fn start(command: &mut Command, nodes: &[Node; 2]) -> Self {
        let [v3, v4] = nodes.each_ref().map(|node| node.address().port().to_string());
        command.env_clear().envs([("LAVALINK_V3_PORT", v3), ("LAVALINK_V4_PORT", v4)]);
        command.envs([("PROXY_HOST", "127.0.0.1"), ("PROXY_PORT", "0"), ("WEB_PORT", "0")]);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut seen = String::new();
        let mut listener = |name: &str| {
            let start = format!("event=listening listener={name} address=");
            loop {
                let mut line = String::new();
                assert!(log.read_line(&mut line).unwrap() > 0, "no listener {name}:\n{seen}");
                seen += &line;
                if let Some((_, rest)) = line.split_once(&start) {
                    return rest.split_whitespace().next().unwrap().parse().unwrap();
                }
            }
        };
        let (proxy, web) = (listener("proxy"), listener("web"));
        Self { child, log, proxy, web }
    }

    /// Ends with 0 on a SIGTERM.
    fn terminate(&mut self) {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM).unwrap();
        let mut log = String::new();
        self.log.read_to_string(&mut log).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.code() == Some(0) && log.contains("event=stopped"), "{status}:\n{log}");
    }

    fn resident_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Only after a failure is it still there.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The next frame from a node, which masks nothing: its first byte and its payload.
fn frame(client: &mut Client) -> (u8, Vec<u8>) {
    let head = client.exactly(2);
    let length = match head[1] {
        126 => u16::from_be_bytes(client.exactly(2).try_into().unwrap()).into(),
        short => usize::from(short),
    };
    (head[0], client.exactly(length))
}

/// What a bot and its operator do: REST through both versions, a WebSocket with messages both ways, the pages.
fn serves_a_bot(running: &Running) {
    let mut bot = Client::connect(running.proxy);
    for (target, expected) in [("/loadtracks?identifier=ytsearch:a", "loadType"), ("/v4/info", "semver")] {
        let response = bot.get(target, "");
        assert!(response.status == 200 && response.text().contains(expected), "{target}: {response:?}");
    }
    let mut wrong = Client::connect(running.proxy);
    wrong.send(b"GET /v4/info HTTP/1.1\r\nHost: bot\r\nAuthorization: wrong\r\n\r\n");
    assert_eq!(wrong.response().status, 403);

    let mut socket = Client::connect(running.proxy);
    assert_eq!(socket.get("/v4/websocket", HANDSHAKE).status, 101);
    let (kind, ready) = frame(&mut socket);
    assert!(kind == 0x81 && ready.starts_with(br#"{"op":"ready""#), "{}", String::from_utf8_lossy(&ready));
    let (ping, pong, mask) = (0x89, 0x8a, [0; 4]);
    socket.send(&[&[ping, 0x80 | 5], &mask[..], b"hello"].concat());
    while frame(&mut socket) != (pong, b"hello".to_vec()) {}

    for page in ["/", "/health", "/data-usage"] {
        let response = ask_at(running.web, "GET", page, "");
        assert!(response.status == 200 && response.text().trim_end().ends_with("</html>"), "{page}: {response:?}");
    }
    let stats = ask_at(running.web, "GET", "/api/stats", "").json();
    assert_eq!((&stats["totals"]["websockets"], &stats["totals"]["requests"]), (&1.into(), &4.into()), "{stats}");
    assert_eq!(ask_at(running.web, "GET", "/healthz", "").text(), "ok");
}

#[test]
fn each_binary_is_static_small_and_named_in_the_sums() {
    test_release(|release| {
        let dist = &release.folders[0];
        let files = fs::read_dir(dist).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut files: Vec<_> = files.collect();
        files.sort();
        let mut expected: Vec<_> =
            release.machines.iter().map(|machine| format!("lavaproxy-{}", machine.target)).collect();
        expected.push("SHA256SUMS".to_owned());
        expected.sort();
        assert_eq!(files, expected);

        let checked = output_of(Command::new("sha256sum").args(["-c", "SHA256SUMS"]).current_dir(dist)).unwrap();
        assert_eq!(checked.matches(": OK\n").count(), release.machines.len(), "{checked}");
        for machine in &release.machines {
            let binary = dist.join(format!("lavaproxy-{}", machine.target));
            let size = fs::metadata(&binary).unwrap().len();
            assert!(size <= 4 * MIB, "{binary:?} has {size} bytes");
            let Some(facts) = output_of(Command::new("file").arg("-b").arg(&binary)) else {
                tool::skip("whether the binaries are static needs file (apt-get install file)");
                continue;
            };
            let is_static = facts.contains("statically linked") || facts.contains("static-pie linked");
            assert!(is_static && facts.contains(machine.known_as) && facts.contains(", stripped"), "{facts}");
        }
    });
}

#[test]
fn another_folder_makes_the_same_bytes() {
    test_release(|release| {
        let [here, elsewhere] =
            release.folders.each_ref().map(|dist| fs::read_to_string(dist.join("SHA256SUMS")).unwrap());
        assert_eq!(here, elsewhere);
    });
}

#[test]
fn each_binary_serves_a_bot_on_its_processor() {
    test_release(|release| {
        let dist = &release.folders[0];
        for machine in &release.machines {
            let binary = dist.join(format!("lavaproxy-{}", machine.target));
            let is_native = machine.arch == ARCH;
            let [qemu, as_processor @ ..] = machine.qemu;
            let mut command = if is_native { Command::new(&binary) } else { Command::new(qemu) };
            if !is_native {
                if Command::new(qemu).arg("--version").stdout(Stdio::null()).status().is_err() {
                    tool::skip(&format!("{} needs {qemu} (apt-get install qemu-user-static)", machine.target));
                    continue;
                }
                command.args(as_processor).arg(&binary);
            }
            let nodes = Lavalink::ALL.map(|version| Node::start(version, PASSWORD).unwrap());
            let mut running = Running::start(&mut command, &nodes);
            let idle = running.resident_memory();
            assert!(!is_native || idle <= 4 * MIB, "idle it takes {idle} bytes of memory");
            serves_a_bot(&running);
            running.terminate();
        }
    });
}
