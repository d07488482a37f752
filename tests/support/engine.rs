//! A real container engine, podman, in namespaces of its own: its images, containers and networks end with them, and
//! the ports of the machine are free there.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::support::eventually;
use super::support::tool::{self, said};

/// Set in the half of a test that runs in the namespaces.
const INSIDE: &str = "LAVAPROXY_ENGINE";

/// Layers are copied and cgroups are written as files, so that it runs in a container too. Limits as low as those of
/// any machine, since podman asks for more than some allow.
const CONTAINERS: &str = r#"
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
[network]
network_backend = "netavark"
network_config_dir = "/run/networks"
"#;
const STORAGE: &str = r#"
[storage]
driver = "vfs"
graphroot = "/run/graph"
runroot = "/run/containers/storage"
"#;

const SOCKET: &str = "/run/podman.sock";

/// True where the test goes on: in the namespaces. Elsewhere it has run there, or was skipped.
pub fn entered(test: &str, prepare: impl FnOnce()) -> bool {
    if env::var_os(INSIDE).is_some() {
        return true;
    }
    let as_root: &[&str] = if tool::quietly(&["test", "-w", "/"]) { &[] } else { &["sudo", "-n"] };
    let script = "ip link set lo up; for folder in /run /dev/shm; do mount -t tmpfs none $folder; done; exec \"$@\"";
    let unshare = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"];
    let namespaces = [as_root, &unshare, &["sh", "-ec", script, "sh"]].concat();
    let packages = "apt-get install podman runc netavark aardvark-dns catatonit iptables util-linux iproute2";
    if !tool::works(&[&namespaces[..], &["true"]].concat(), "be root, or let sudo ask no password")
        || !tool::works(&["podman", "--version"], packages)
    {
        return false;
    }
    prepare();
    let mut command = tool::command(&namespaces);
    command.args(["env", &format!("{INSIDE}=1")]).arg(env::current_exe().unwrap());
    let output = command.args([test, "--exact", "--nocapture"]).output().unwrap();
    assert!(output.status.success() && said(&output).contains("1 passed"), "{}", said(&output));
    false
}

/// The engine, inside the namespaces.
pub struct Engine;

impl Engine {
    pub fn start() -> Self {
        fs::write("/run/containers.conf", CONTAINERS).unwrap();
        fs::write("/run/storage.conf", STORAGE).unwrap();
        Self
    }

    /// Its interface for docker's programs.
    #[expect(clippy::zombie_processes, reason = "it ends with the namespaces")]
    pub fn serve(&self) {
        let address = format!("unix://{SOCKET}");
        self.command(&["podman", "system", "service", "--time", "0", &address]).spawn().unwrap();
        eventually("podman serves docker's interface", || Path::new(SOCKET).exists());
    }

    /// A program that finds this engine.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = tool::command(words);
        command.env("CONTAINERS_CONF", "/run/containers.conf").env("CONTAINERS_STORAGE_CONF", "/run/storage.conf");
        // OCI's own format has no health checks.
        command.env("BUILDAH_FORMAT", "docker").env("DOCKER_HOST", format!("unix://{SOCKET}"));
        command
    }

    /// Runs podman, which must end well; returns all that it said.
    pub fn podman(&self, words: &[&str]) -> String {
        let output = self.command(&["podman"]).args(words).output().unwrap();
        assert!(output.status.success(), "podman {words:?}: {}", said(&output));
        said(&output)
    }

    /// The exit code of the health check of a container.
    pub fn health(&self, container: &str) -> Option<i32> {
        self.command(&["podman", "healthcheck", "run", container]).output().unwrap().status.code()
    }

    /// True when a command in a container ends well.
    pub fn exec(&self, container: &str, command: &[&str]) -> bool {
        let output = self.command(&["podman", "exec", container]).args(command).output();
        output.unwrap().status.success()
    }

    pub fn inspect(&self, container: &str) -> Value {
        let output = self.command(&["podman", "inspect", container]).output().unwrap();
        let all: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
        all[0].clone()
    }

    /// Builds an image from these lines. The folder `context` is what they copy from, also under the name `build`.
    pub fn build(&self, name: &str, lines: &str, context: &Path, options: &[&str]) {
        let file = format!("/run/{}.Dockerfile", name.replace(['/', ':'], "-"));
        fs::write(&file, lines).unwrap();
        let build = format!("build={}", context.display());
        let context = context.to_str().unwrap();
        self.podman(
            &[&["build", "--quiet", "--build-context", &build, "--tag", name, "--file", &file], options, &[context]]
                .concat(),
        );
    }
}
