//! The image without a container engine: its root folder, made from the Dockerfile's own lines, with the static binary
//! chrooted in it: an unprivileged user, read-only, no /etc, no /tmp, no /proc, a network of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;
#[path = "support/web.rs"]
mod web;

use std::collections::HashMap;
use std::env;
use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use lavaproxy::config::Lavalink;
use lavaproxy::demo::Node;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::tool::said;
use support::*;
use web::{BASIC, WEB_PASSWORD, ask_at};

/// Set for the half of the test that runs in namespaces of its own: the image's root folder.
const ROOT: &str = "LAVAPROXY_IMAGE_ROOT";

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The stages of the Dockerfile: per stage the instructions in their order, with what follows each.
fn stages() -> Vec<Vec<(String, String)>> {
    let text = fs::read_to_string(repository().join("deploy/Dockerfile")).unwrap();
    let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let mut stages = Vec::new();
    for line in lines.join("\n").replace("\\\n", "").lines().filter(|line| !line.is_empty()) {
        let (word, rest) = line.split_once(' ').unwrap();
        if word == "FROM" {
            stages.push(Vec::new());
        }
        stages.last_mut().expect("FROM comes first").push((word.to_owned(), rest.trim().to_owned()));
    }
    stages
}

/// What follows the only instruction of this name.
fn only<'a>(stage: &'a [(String, String)], word: &str) -> &'a str {
    let found: Vec<_> = stage.iter().filter(|(own, _)| own == word).collect();
    assert_eq!(found.len(), 1, "{word}");
    &found[0].1
}

/// The words of a list in JSON, as ENTRYPOINT and CMD have it.
fn words(list: &str) -> Vec<String> {
    serde_json::from_str(list).unwrap_or_else(|error| panic!("{error}: {list}"))
}

/// Does what the build stage does, in a folder that holds what it copies; what was built before is used again.
fn build(stage: &[(String, String)]) -> PathBuf {
    let folder = repository().join("target/image");
    let context = folder.join("context");
    let _ = fs::remove_dir_all(&context);
    fs::create_dir_all(&context).unwrap();
    fs::create_dir_all(folder.join("target")).unwrap();
    symlink(folder.join("target"), context.join("target")).unwrap();
    for (_, names) in stage.iter().filter(|(word, _)| word == "COPY") {
        let (sources, destination) = names.rsplit_once(' ').unwrap();
        assert!(destination == sources || destination == "./", "{names}");
        // With their times, so that cargo sees what changed.
        let mut copy = tool::command(&["cp", "--archive"]);
        let sources = sources.split(' ').map(|source| repository().join(source));
        assert!(copy.args(sources).arg(context.join(".")).status().unwrap().success());
    }
    let architecture = match env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let mut command = tool::command(&["sh", "-c", only(stage, "RUN")]);
    command.current_dir(&context).env("TARGETARCH", architecture);
    let output = command.env_remove("CARGO_TARGET_DIR").output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    context
}

/// The root folder of the image.
fn assemble(build: &[(String, String)], image: &[(String, String)], context: &Path) -> PathBuf {
    let root = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("image");
    let _ = fs::remove_dir_all(&root);
    fs::create_dir_all(&root).unwrap();
    assert_eq!(only(image, "FROM"), "scratch");
    for (_, names) in image.iter().filter(|(word, _)| word == "COPY") {
        let names = names.strip_prefix("--from=build ").unwrap();
        let names =
            names.strip_prefix("--chown=").and_then(|rest| rest.split_once(' ')).map_or(names, |(_, names)| names);
        let (source, destination) = names.split_once(' ').unwrap();
        let source = context.join(Path::new(source).strip_prefix(only(build, "WORKDIR")).unwrap());
        let destination = root.join(destination.strip_prefix('/').unwrap());
        match source.is_dir() {
            // Empty, and a volume is mounted there.
            true => fs::create_dir_all(destination).unwrap(),
            false => drop(fs::copy(source, destination).unwrap()),
        }
    }
    root
}

/// The folder for a volume with the state, and the user and group that the image gives it.
fn state_folder(image: &[(String, String)]) -> (String, String) {
    let copies = image.iter().filter(|(word, _)| word == "COPY");
    let owned: Vec<_> = copies.filter_map(|(_, names)| names.split_once("--chown=")?.1.split_once(' ')).collect();
    assert_eq!(owned.len(), 1, "one folder has an owner");
    let (owner, names) = owned[0];
    (names.split_once(' ').unwrap().1.to_owned(), owner.to_owned())
}

/// What an engine does with a new volume: it gets the owner of the folder in the image.
fn mount_volume(at: &Path, owner: &str) {
    let (user, group) = owner.split_once(':').unwrap();
    let options = format!("uid={user},gid={group},mode=0755");
    let mut mount = tool::command(&["mount", "-t", "tmpfs", "-o", &options, "none"]);
    assert!(mount.arg(at).status().unwrap().success());
}

#[test]
fn the_image_serves_bots_read_only_and_without_privileges() {
    if let Some(root) = env::var_os(ROOT) {
        return serve(Path::new(&root));
    }
    let [build_stage, image] = &stages()[..] else { panic!("two stages") };
    let as_root: &[&str] = if tool::quietly(&["test", "-w", "/"]) { &[] } else { &["sudo", "-n"] };
    let namespaces = [as_root, &["unshare", "--mount", "--net", "ip", "link", "set", "lo", "up"]].concat();
    if !tool::works(&["rustup", "--version"], "install rustup")
        || !tool::works(&namespaces, "be root, or let sudo ask no password; install util-linux and iproute2")
    {
        return;
    }
    let root = assemble(build_stage, image, &build(build_stage));

    let this_test = env::current_exe().unwrap();
    let script = "ip link set lo up; mount --bind \"$0\" \"$0\"; mount -o remount,bind,ro \"$0\"; exec \"$@\"";
    let mut command = tool::command(&[as_root, &["env"]].concat());
    command.arg(format!("{ROOT}={}", root.display()));
    command.args(["unshare", "--mount", "--net", "sh", "-ec", script]).arg(root).arg(this_test);
    command.args(["the_image_serves_bots_read_only_and_without_privileges", "--exact", "--nocapture"]);
    let output = command.output().unwrap();
    assert!(output.status.success() && said(&output).contains("1 passed"), "{}", said(&output));
}

/// A command of the image as an engine runs it: its user, its environment, no way to more rights.
fn contained(root: &Path, image: &[(String, String)], command: &[String], settings: &HashMap<&str, String>) -> Command {
    let (user, group) = only(image, "USER").split_once(':').unwrap();
    for number in [user, group] {
        assert!(
            number.parse::<u32>().is_ok_and(|number| number > 0),
            "engines can tell only from numbers who is not root"
        );
    }
    let mut contained = Command::new("setpriv");
    contained.args(["--no-new-privs", "unshare", "--wd=/", "--setgid", group, "--setuid", user]);
    contained.arg(format!("--root={}", root.display())).args(command);
    contained.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").envs(settings);
    contained
}

/// In namespaces of its own, so that the image's own ports are free.
fn serve(root: &Path) {
    let image = stages().pop().unwrap();
    assert!(fs::write(root.join("anything"), "").is_err(), "the root is read-only");
    let ports: Vec<u16> = only(&image, "EXPOSE").split(' ').map(|port| port.parse().unwrap()).collect();
    let [bots, web] = [ports[0], ports[1]].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let node = Node::start(Lavalink::V4, PASSWORD).unwrap();
    let (folder, owner) = state_folder(&image);
    assert_eq!(owner, only(&image, "USER"));
    let volume = root.join(folder.strip_prefix('/').unwrap());
    mount_volume(&volume, &owner);
    let settings = HashMap::from([
        ("STATE_DIR", folder),
        ("WEB_HOST", "0.0.0.0".to_owned()),
        ("WEB_PASSWORD", WEB_PASSWORD.to_owned()),
        ("LAVALINK_V3_HOST", "a-name-that-does-not-resolve".to_owned()),
        ("LAVALINK_V4_HOST", "127.0.0.1".to_owned()),
        ("LAVALINK_V4_PORT", node.address().port().to_string()),
        ("CONNECT_TIMEOUT", "1s".to_owned()),
    ]);
    let (_, check) = only(&image, "HEALTHCHECK").split_once(" CMD ").unwrap();
    let healthcheck = || contained(root, &image, &words(check), &settings).output().unwrap();
    assert_eq!(healthcheck().status.code(), Some(1), "nothing listens yet");

    let mut command = contained(root, &image, &words(only(&image, "ENTRYPOINT")), &settings);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    eventually("the healthcheck is content", || healthcheck().status.success());
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    for line in [
        &*format!("Uid:\t{}\t", only(&image, "USER").split(':').next().unwrap()),
        "CapEff:\t0000000000000000\n",
        "NoNewPrivs:\t1\n",
    ] {
        assert!(status.contains(line), "{line} in {status}");
    }

    let mut bot = Client::connect(bots);
    assert_eq!(bot.get("/v4/info", "").json()["version"]["major"], 4);
    let error = bot.get("/v3/info", "");
    assert!([502, 504].contains(&error.status), "{}", error.text());
    assert_eq!(bot.upgrade("/v4/websocket").status, 101);
    let frame = bot.exactly(2);
    let message = match frame[1] {
        126 => {
            let length = bot.exactly(2);
            bot.exactly(u16::from_be_bytes([length[0], length[1]]).into())
        }
        length => bot.exactly(length.into()),
    };
    assert!(String::from_utf8(message).unwrap().contains(r#""op":"ready""#));

    assert_eq!(ask_at(web, "GET", "/healthz", "").text(), "ok");
    for page in ["/", "/data-usage", "/health", "/metrics"] {
        assert_eq!(ask_at(web, "GET", page, "").status, 401, "{page}");
        assert_eq!(ask_at(web, "GET", page, BASIC).status, 200, "{page}");
    }
    let stats = ask_at(web, "GET", "/api/stats", BASIC).json();
    assert_eq!(stats["totals"]["websockets"], 1, "{stats}");

    kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
    let status = child.wait().unwrap();
    let mut log = String::new();
    child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert!(status.success() && log.contains("event=stopped"), "{log}");
    let state: serde_json::Value = serde_json::from_slice(&fs::read(volume.join("state.json")).unwrap()).unwrap();
    assert_eq!(state["ledger"]["addresses"]["rows"][0]["key"], "127.0.0.1", "{state}");
    assert!(log.contains("event=monitor-exposed"), "there was no folder to write to: {log}");
    assert_eq!(healthcheck().status.code(), Some(1));
}
