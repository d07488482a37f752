//! The image in a real container engine, podman: its final stage as the Dockerfile has it, with the flags of the
//! README, compose.yaml as docker's compose brings it up, and the pod of the manifest for Kubernetes, with a pretend
//! Lavalink in the real one's place. The first stage runs without an engine, as its base image would come from a registry.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/engine.rs"]
mod engine;
mod support;
#[path = "support/web.rs"]
mod web;

use std::env;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Once;

use engine::Engine;
use serde_json::Value;
use support::tool::said;
use support::*;
use web::{BASIC, WEB_PASSWORD, ask_at};

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    fs::read_to_string(repository().join(name)).unwrap()
}

/// Where the first stage's folder /build is.
fn context() -> PathBuf {
    repository().join("target/image/context")
}

/// The two stages of the Dockerfile.
fn stages() -> (String, String) {
    let text = read("deploy/Dockerfile");
    let middle = text.rfind("\nFROM ").unwrap();
    (text[..middle].to_owned(), text[middle..].to_owned())
}

/// What follows the instruction `word` in each of its lines, with what is continued.
fn instructions(stage: &str, word: &str) -> Vec<String> {
    let lines: Vec<_> = stage.lines().filter(|line| !line.starts_with('#')).collect();
    let joined = lines.join("\n").replace("\\\n", "");
    joined.lines().filter_map(|line| line.strip_prefix(word)?.strip_prefix(' ').map(str::to_owned)).collect()
}

/// Does what the first stage does, once, in a folder that holds what it copies; what was built before is used again.
fn build() {
    static BUILT: Once = Once::new();
    BUILT.call_once(run_first_stage);
}

fn run_first_stage() {
    let (stage, _) = stages();
    let (context, target) = (context(), repository().join("target/image/target"));
    let _ = fs::remove_dir_all(&context);
    fs::create_dir_all(&context).unwrap();
    fs::create_dir_all(&target).unwrap();
    symlink(target, context.join("target")).unwrap();
    for names in instructions(&stage, "COPY") {
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
    let [run] = &instructions(&stage, "RUN")[..] else { panic!("one RUN") };
    let mut command = tool::command(&["sh", "-c", run]);
    command.current_dir(&context).env("TARGETARCH", architecture);
    let output = command.env_remove("CARGO_TARGET_DIR").output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    fs::remove_file(context.join("target")).unwrap();
}

/// The image as the Dockerfile's final stage makes it.
fn build_image(engine: &Engine, name: &str, options: &[&str]) {
    let (_, stage) = stages();
    // The first stage's folder is the whole of the additional context `build`.
    engine.build(name, &stage.replace(" /build/", " /"), &context(), options);
}

/// An image that serves as a Lavalink v4 does, at port 2333: lavaproxy's demo. Its password is [`PASSWORD`].
fn build_lavalink(engine: &Engine, name: &str) {
    let lines = format!(
        "FROM scratch\nCOPY lavaproxy /lavaproxy\n\
         ENV PROXY_HOST=0.0.0.0 PROXY_PORT=2333 DEFAULT_VERSION=v4 PROXY_PASSWORD={PASSWORD}\n\
         ENTRYPOINT [\"/lavaproxy\", \"--demo\"]\n"
    );
    engine.build(name, &lines, &context(), &[]);
}

fn has_rustup() -> bool {
    tool::works(&["rustup", "--version"], "install rustup")
}

/// The README's command that runs the image, with its flags for the web pages, for these passwords and this node.
fn run_command(node: &str) -> String {
    let readme = read("README.md");
    let (_, chapter) = readme.split_once("### Docker\n").unwrap();
    let (_, run) = chapter.split_once("\ndocker run ").unwrap();
    let (run, _) = run.split_once("\n```").unwrap();
    let (_, web) = chapter.split_once("`-e WEB_HOST=").unwrap();
    let (web, _) = web.split_once('`').unwrap();
    let run = run.strip_suffix(" lavaproxy").unwrap();
    let command = format!("podman run {run} -e WEB_HOST={web} lavaproxy");
    let mut replaced = command.clone();
    for (old, new) in [("what bots send", PASSWORD), ("what browsers send", WEB_PASSWORD), ("lavalink.example", node)] {
        assert!(command.contains(old), "{old} in {command}");
        replaced = replaced.replace(old, new);
    }
    replaced
}

/// The listeners `proxy` and `web` of a container, at the ports that the README and compose.yaml give them here.
fn listeners() -> [SocketAddr; 2] {
    let (_, image) = stages();
    let [ports] = &instructions(&image, "EXPOSE")[..] else { panic!("one EXPOSE") };
    let ports: Vec<u16> = ports.split(' ').map(|port| port.parse().unwrap()).collect();
    [ports[0], ports[1]].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

/// Opens a session, and reads its first message.
fn open_session(bot: &mut Client) {
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
}

/// Its process may do nothing, and its root folder is read-only.
fn assert_is_confined(container: &Value) {
    let pid = &container["State"]["Pid"];
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    for line in
        ["Uid:\t65532\t65532\t", "Gid:\t65532\t65532\t", "CapEff:\t0000000000000000\n", "CapBnd:\t0000000000000000\n"]
    {
        assert!(status.contains(line), "{line} in {status}");
    }
    assert!(status.contains("NoNewPrivs:\t1\n"), "{status}");
    assert!(fs::write(format!("/proc/{pid}/root/anything"), "").is_err(), "the root is read-only");
}

#[test]
fn the_image_serves_with_the_flags_of_the_readme() {
    if !has_rustup() || !engine::entered("the_image_serves_with_the_flags_of_the_readme", build) {
        return;
    }
    let engine = Engine::start();
    build_image(&engine, "lavaproxy", &[]);
    build_lavalink(&engine, "lavalink");
    engine.podman(&["run", "--detach", "--name", "lavalink", "lavalink"]);
    let node = engine.inspect("lavalink")["NetworkSettings"]["IPAddress"].as_str().unwrap().to_owned();
    let alone = engine.command(&["podman", "run", "--rm", "lavaproxy", "--healthcheck"]).output().unwrap();
    assert_eq!(alone.status.code(), Some(1), "nothing listens there: {}", said(&alone));

    let started = engine.command(&["sh", "-c", &run_command(&node)]).output().unwrap();
    assert!(started.status.success(), "{}", said(&started));
    eventually("the health check is content", || engine.health("lavaproxy") == Some(0));
    assert!(engine.podman(&["ps", "--format", "{{.Names}} {{.Status}}"]).contains("(healthy)"));
    let container = engine.inspect("lavaproxy");
    assert_is_confined(&container);
    assert_eq!(container["HostConfig"]["RestartPolicy"]["Name"], "unless-stopped");

    let [bots, web] = listeners();
    let mut bot = Client::connect(bots);
    assert_eq!(bot.get("/v4/info", "").json()["version"]["major"], 4);
    assert_eq!(bot.get("/v3/info", "").status, 503, "v3 is off");
    open_session(&mut bot);
    assert_eq!(ask_at(web, "GET", "/healthz", "").text(), "ok");
    for page in ["/", "/data-usage", "/health", "/metrics"] {
        assert_eq!(ask_at(web, "GET", page, "").status, 401, "{page}");
        assert_eq!(ask_at(web, "GET", page, BASIC).status, 200, "{page}");
    }
    let stats = ask_at(web, "GET", "/api/stats", BASIC).json();
    assert_eq!(stats["totals"]["websockets"], 1, "{stats}");

    engine.podman(&["stop", "lavaproxy"]);
    assert_eq!(engine.inspect("lavaproxy")["State"]["ExitCode"], 0);
    let log = engine.podman(&["logs", "lavaproxy"]);
    assert!(log.contains("event=stopping signal=SIGTERM") && log.contains("event=stopped"), "{log}");
    assert!(log.contains("reason=shutdown"), "the session was closed in order: {log}");
}

/// Docker's compose with compose.yaml at this engine.
fn compose(engine: &Engine, words: &[&str]) -> Output {
    let mut command = engine.command(tool::compose().expect("it was there before"));
    command.args(["--file", "deploy/compose.yaml", "--project-name", "test"]).args(words);
    command.env("PROXY_PASSWORD", PASSWORD).env("WEB_PASSWORD", WEB_PASSWORD).current_dir(repository());
    let output = command.output().unwrap();
    assert!(output.status.success(), "compose {words:?}: {}", said(&output));
    output
}

/// The id of the container of a service.
fn container_of(engine: &Engine, service: &str) -> String {
    let id = String::from_utf8(compose(engine, &["ps", "--quiet", service]).stdout).unwrap();
    id.trim().to_owned()
}

/// The usage of all clients: requests, by /api/data-usage.
fn requests(web: SocketAddr) -> u64 {
    let rows = ask_at(web, "GET", "/api/data-usage", BASIC).json();
    rows.as_array().unwrap().iter().map(|row| row["requests"].as_u64().unwrap()).sum()
}

#[test]
fn compose_brings_it_up_upgrades_it_and_stops_it() {
    if !has_rustup()
        || tool::compose().is_none()
        || !engine::entered("compose_brings_it_up_upgrades_it_and_stops_it", build)
    {
        return;
    }
    let engine = Engine::start();
    engine.serve();
    build_image(&engine, "lavaproxy", &[]);
    let file = read("deploy/compose.yaml");
    let lavalink = file.lines().find_map(|line| line.trim().strip_prefix("image: ghcr.io/")).unwrap();
    build_lavalink(&engine, &format!("ghcr.io/{lavalink}"));

    let [bots, web] = listeners();
    compose(&engine, &["up", "--detach", "--no-build"]);
    let first = container_of(&engine, "lavaproxy");
    eventually("the health check is content", || engine.health(&first) == Some(0));
    assert_is_confined(&engine.inspect(&first));
    let environment = engine.inspect(&container_of(&engine, "lavalink"))["Config"]["Env"].to_string();
    for own in [format!("LAVALINK_SERVER_PASSWORD={PASSWORD}"), "SERVER_PORT=2333".to_owned()] {
        assert!(environment.contains(&own), "{own} in {environment}");
    }
    let info = || Client::connect(bots).get("/v4/info", "").status;
    eventually("the node has an address and answers", || info() == 200);
    let mut bot = Client::connect(bots);
    open_session(&mut bot);
    let before = requests(web);
    assert!(before >= 2);

    // A new image under the same name, as `up --build` makes one after a `git pull`.
    build_image(&engine, "lavaproxy", &["--label", "release=next"]);
    compose(&engine, &["up", "--detach", "--no-build"]);
    let second = container_of(&engine, "lavaproxy");
    assert_ne!(first, second, "the container was replaced");
    eventually("the new container is healthy", || engine.health(&second) == Some(0));
    assert_eq!(engine.inspect(&second)["Config"]["Labels"]["release"], "next");
    assert!(requests(web) >= before, "the volume with the state was kept");
    eventually("the node answers again", || info() == 200);

    compose(&engine, &["stop"]);
    assert_eq!(engine.inspect(&second)["State"]["ExitCode"], 0);
    let log = engine.podman(&["logs", &second]);
    assert!(log.contains("event=state-read") && log.contains("event=stopped"), "{log}");
}

/// The manifest without the parts of a cluster: podman makes the Deployment's pod and ignores the other objects.
#[test]
fn the_pod_of_the_kubernetes_manifest_serves() {
    if !has_rustup() || !engine::entered("the_pod_of_the_kubernetes_manifest_serves", build) {
        return;
    }
    let engine = Engine::start();
    let manifest = read("deploy/kubernetes/lavaproxy.yaml");
    let image = manifest.lines().find_map(|line| line.trim().strip_prefix("image: ")).unwrap();
    build_image(&engine, image, &[]);
    build_lavalink(&engine, "lavalink");
    // The values are PASSWORD and WEB_PASSWORD in base64, in the form in which podman keeps a Secret.
    fs::write("/run/secret", r#"{"proxy-password":"RGV2YW1PUA==","web-password":"c2VjcmV0"}"#).unwrap();
    engine.podman(&["secret", "create", "lavaproxy", "/run/secret"]);
    // Pods of one machine share its ports here.
    assert!(manifest.contains("replicas: 2\n"));
    fs::write("/run/pod.yaml", manifest.replace("replicas: 2\n", "replicas: 1\n")).unwrap();
    engine.podman(&["play", "kube", "/run/pod.yaml"]);
    let network = "podman-default-kube-network";
    engine.podman(&["run", "--detach", "--name", "lavalink", "--network", network, "lavalink"]);

    let name = "lavaproxy-pod-0-lavaproxy";
    let [bots, web] = listeners();
    eventually("the pod is ready", || engine.exec(name, &["/lavaproxy", "--healthcheck"]));
    assert_eq!(ask_at(web, "GET", "/healthz", "").text(), "ok");
    assert_is_confined(&engine.inspect(name));
    assert_eq!(ask_at(web, "GET", "/metrics", "").status, 401);
    assert_eq!(ask_at(web, "GET", "/metrics", BASIC).status, 200);
    eventually("the node has an address and answers", || Client::connect(bots).get("/v4/info", "").status == 200);
    open_session(&mut Client::connect(bots));

    engine.podman(&["pod", "stop", "lavaproxy-pod-0"]);
    assert_eq!(engine.inspect(name)["State"]["ExitCode"], 0);
    let log = engine.podman(&["logs", name]);
    assert!(log.contains("event=stopping signal=SIGTERM") && log.contains("event=stopped"), "{log}");
}
