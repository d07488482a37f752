//! The systemd units as systemd reads them, and what `make install` and `make uninstall` leave.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use lavaproxy::admission::capacity::Machine;
use support::tool::{self, said};

/// Ten times the exposure that `systemd-analyze security` may find.
const THRESHOLD: &str = "--threshold=15";
/// vm.max_map_count of a stock kernel.
const STOCK_MAPPINGS: u64 = 65_530;

const UNITS: [&str; 2] = ["lavaproxy.service", "lavaproxy.socket"];

fn file(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}

fn unit(name: &str) -> String {
    fs::read_to_string(file("deploy").join(name)).unwrap()
}

/// An empty folder for this test.
fn folder(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("service").join(name);
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}

/// The unit's only value of this name.
fn value<'a>(unit: &'a str, name: &str) -> &'a str {
    let values: Vec<_> = unit.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('=')).collect();
    assert_eq!(values.len(), 1, "{name}");
    values[0]
}

fn has_systemd_analyze() -> bool {
    tool::works(&["systemd-analyze", "--version"], "install the package systemd")
}

fn make(target: &str, variables: &[String]) -> Output {
    let mut command = tool::command(&["make", "--no-print-directory", target]);
    // Not a part of the make that runs the tests.
    command.env_remove("MAKEFLAGS").env_remove("MAKELEVEL");
    command.args(variables).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap()
}

/// All files below, with their rights, in order.
fn files(below: &Path) -> Vec<(String, u32)> {
    let mut found = Vec::new();
    let mut folders = vec![below.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let mode = path.metadata().unwrap().permissions().mode() & 0o7777;
            found.push((path.strip_prefix(below).unwrap().display().to_string(), mode));
        }
    }
    found.sort();
    found
}

#[test]
fn systemd_accepts_the_units() {
    if !has_systemd_analyze() {
        return;
    }
    let folder = folder("verify");
    let built = Path::new(env!("CARGO_BIN_EXE_lavaproxy")).parent().unwrap().display().to_string();
    for name in UNITS {
        fs::write(folder.join(name), unit(name).replace("/usr/local/bin", &built)).unwrap();
    }
    let mut command = tool::command(&["systemd-analyze", "verify"]);
    let output = command.args(UNITS.map(|name| folder.join(name))).output().unwrap();
    assert!(output.status.success() && said(&output).is_empty(), "{}", said(&output));
}

#[test]
fn the_service_has_a_low_exposure() {
    if !has_systemd_analyze() {
        return;
    }
    let mut command = tool::command(&["systemd-analyze", "security", "--offline=true", THRESHOLD]);
    let output = command.arg(file("deploy/lavaproxy.service")).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn the_limits_fit_each_other_and_the_machine() {
    let service = unit("lavaproxy.service");
    let capacity = |descriptors: &str, tasks: &str, mappings: u64| {
        let machine = Machine {
            descriptors: Some(descriptors.parse().unwrap()),
            // An upgrade doubles what is there for a while.
            group_pids: Some(tasks.parse::<u64>().unwrap() / 2),
            mappings: Some(mappings),
            ..Machine::default()
        };
        machine.capacity()
    };
    let [descriptors, tasks] = ["LimitNOFILE", "TasksMax"].map(|name| value(&service, name));
    assert_eq!(capacity(descriptors, tasks, u64::MAX).connections, 8000);
    let stock = capacity(descriptors, tasks, STOCK_MAPPINGS);
    assert!(stock.connections == 7935 && stock.rule.contains("vm.max_map_count"), "{stock:?}");

    // What the comments say about more.
    let said = |name: &str| {
        let comments = service.lines().filter(|line| line.starts_with('#'));
        let mut words = comments.flat_map(str::split_whitespace).filter_map(|word| word.strip_prefix(name));
        words.next_back().unwrap()
    };
    let mappings = said("vm.max_map_count=").parse().unwrap();
    assert_eq!(capacity(said("LimitNOFILE="), said("TasksMax="), mappings).connections, 20_000);
}

#[test]
fn systemd_waits_longer_than_lavaproxy_drains() {
    let patience = value(&unit("lavaproxy.service"), "TimeoutStopSec").parse().unwrap();
    assert!(Duration::from_secs(patience) >= support::settings(&[]).timeouts.drain * 2);
}

#[test]
fn the_state_has_a_folder_of_its_own() {
    let service = unit("lavaproxy.service");
    assert_eq!((value(&service, "StateDirectory"), value(&service, "StateDirectoryMode")), ("lavaproxy", "0700"));
    // The folder is known from STATE_DIRECTORY, which systemd sets, so the settings need not name it.
    let example = fs::read_to_string(file("lavaproxy.env.example")).unwrap();
    assert!(example.lines().any(|line| line == "#STATE_DIR="), "{example}");
}

#[test]
fn install_and_uninstall_leave_what_they_should() {
    let root = folder("install");
    let binary = format!("BINARY={}", env!("CARGO_BIN_EXE_lavaproxy"));
    let destination = format!("DESTDIR={}", root.display());
    for (prefix, units) in [("/usr/local", "usr/local/lib/systemd/system"), ("/opt/lavaproxy", "etc/systemd/system")] {
        let variables = [binary.clone(), destination.clone(), format!("PREFIX={prefix}")];
        let settings = root.join("etc/lavaproxy/lavaproxy.env");
        let output = make("install", &variables);
        assert!(output.status.success(), "{}", said(&output));
        let mut expected = vec![
            ("etc/lavaproxy/lavaproxy.env".to_owned(), 0o600),
            (format!("{units}/lavaproxy.service"), 0o644),
            (format!("{units}/lavaproxy.socket"), 0o644),
            (format!("{}/bin/lavaproxy", &prefix[1..]), 0o755),
        ];
        expected.sort();
        assert_eq!(files(&root), expected);
        let example = fs::read(file("lavaproxy.env.example")).unwrap();
        assert_eq!(fs::read(&settings).unwrap(), example);
        let service = fs::read_to_string(root.join(units).join("lavaproxy.service")).unwrap();
        assert_eq!(service.matches(&format!("={prefix}/bin/lavaproxy --env-file")).count(), 2, "{service}");
        assert_eq!(value(&service, "ExecStart").split(' ').next(), Some(&*format!("{prefix}/bin/lavaproxy")));

        fs::write(&settings, "PROXY_PASSWORD=mine\n").unwrap();
        let output = make("install", &variables);
        assert!(output.status.success() && said(&output).contains("is kept"), "{}", said(&output));
        assert_eq!(fs::read_to_string(&settings).unwrap(), "PROXY_PASSWORD=mine\n");

        for _ in 0..2 {
            let output = make("uninstall", &variables);
            assert!(output.status.success() && said(&output).contains("is kept"), "{}", said(&output));
            assert_eq!(files(&root), [("etc/lavaproxy/lavaproxy.env".to_owned(), 0o600)]);
        }
        fs::remove_file(settings).unwrap();
    }
}

#[test]
fn install_builds_nothing_and_says_what_is_missing() {
    let root = folder("nothing");
    let variables = ["BINARY=target/no-such-file".to_owned(), format!("DESTDIR={}", root.display())];
    let output = make("install", &variables);
    assert!(!output.status.success() && said(&output).contains("make release"), "{}", said(&output));
    assert!(files(&root).is_empty());
}
