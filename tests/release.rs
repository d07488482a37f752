//! The release as people download it: static, the same bytes wherever it was built, and at work on the processors
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
use support::{Client, HANDSHAKE, PASSWORD};
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

/// What `make release` made here, and from the same files in another folder. `None`, with a word on standard error,
/// where a tool is missing; that is a failure where CI is set.
static RELEASES: LazyLock<Option<[PathBuf; 2]>> = LazyLock::new(|| {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let elsewhere = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("release-elsewhere");
    copy(&here, &elsewhere);
    let complaints = thread::scope(|scope| {
        [&here, &elsewhere].map(|folder| scope.spawn(|| make_release(folder))).map(|build| build.join().unwrap())
    });
    if let Some(complaint) = complaints.into_iter().find_map(Result::err) {
        assert!(complaint.contains("is missing"), "make release failed:\n{complaint}");
        skip(&complaint);
        return None;
    }
    Some([here, elsewhere].map(|folder| folder.join("target/dist")))
});

fn skip(why: &str) {
    assert!(env::var_os("CI").is_none(), "{why}");
    eprintln!("skipped: {why}");
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

/// A released binary with free doors, before two pretend nodes.
struct Running {
    child: Child,
    log: BufReader<ChildStderr>,
    /// From the log: the addresses of the doors.
    bots: SocketAddr,
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
        let mut door = |name: &str| {
            let start = format!("event=listening listener={name} address=");
            loop {
                let mut line = String::new();
                assert!(log.read_line(&mut line).unwrap() > 0, "no door {name}:\n{seen}");
                seen += &line;
                if let Some((_, rest)) = line.split_once(&start) {
                    return rest.split_whitespace().next().unwrap().parse().unwrap();
                }
            }
        };
        let (bots, web) = (door("proxy"), door("web"));
        Self { child, log, bots, web }
    }

    /// Ends with 0 on a SIGTERM.
    fn terminate(&mut self) {
        let status = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
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
    let mut bot = Client::connect(running.bots);
    for (target, expected) in [("/loadtracks?identifier=ytsearch:a", "loadType"), ("/v4/info", "semver")] {
        let response = bot.get(target, "");
        assert!(response.status == 200 && response.text().contains(expected), "{target}: {response:?}");
    }
    let mut wrong = Client::connect(running.bots);
    wrong.send(b"GET /v4/info HTTP/1.1\r\nHost: bot\r\nAuthorization: wrong\r\n\r\n");
    assert_eq!(wrong.response().status, 403);

    let mut socket = Client::connect(running.bots);
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
    let Some([dist, _]) = &*RELEASES else { return };
    let files = fs::read_dir(dist).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut files: Vec<_> = files.collect();
    files.sort();
    let mut expected = vec!["SHA256SUMS".to_owned()];
    expected.extend(MACHINES.map(|machine| format!("lavaproxy-{}", machine.target)));
    expected.sort();
    assert_eq!(files, expected);

    let checked = output_of(Command::new("sha256sum").args(["-c", "SHA256SUMS"]).current_dir(dist)).unwrap();
    assert_eq!(checked.matches(": OK\n").count(), MACHINES.len(), "{checked}");
    for machine in MACHINES {
        let binary = dist.join(format!("lavaproxy-{}", machine.target));
        let size = fs::metadata(&binary).unwrap().len();
        assert!(size <= 3 * MIB, "{binary:?} has {size} bytes");
        let Some(facts) = output_of(Command::new("file").arg("-b").arg(&binary)) else {
            skip("the facts of the binaries need file (apt-get install file)");
            continue;
        };
        let is_static = facts.contains("statically linked") || facts.contains("static-pie linked");
        assert!(is_static && facts.contains(machine.known_as) && facts.contains(", stripped"), "{facts}");
    }
}

#[test]
fn another_folder_makes_the_same_bytes() {
    let Some(releases) = &*RELEASES else { return };
    let [here, elsewhere] = releases.each_ref().map(|dist| fs::read_to_string(dist.join("SHA256SUMS")).unwrap());
    assert_eq!(here, elsewhere);
}

#[test]
fn each_binary_serves_a_bot_on_its_processor() {
    let Some([dist, _]) = &*RELEASES else { return };
    for machine in MACHINES {
        let binary = dist.join(format!("lavaproxy-{}", machine.target));
        let is_native = machine.arch == ARCH;
        let [qemu, as_processor @ ..] = machine.qemu;
        let mut command = if is_native { Command::new(&binary) } else { Command::new(qemu) };
        if !is_native {
            if Command::new(qemu).arg("--version").stdout(Stdio::null()).status().is_err() {
                skip(&format!("{} needs {qemu} (apt-get install qemu-user-static)", machine.target));
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
}
