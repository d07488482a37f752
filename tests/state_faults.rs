//! State files that cannot be read, and disks that take none: the start goes on, and no file is lost.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/process.rs"]
mod process;
#[path = "support/state.rs"]
mod state;
mod support;

use std::env;
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use lavaproxy::state::MAX_SIZE;
use lavaproxy::state::file::StateFile;
use process::value;
use state::{Site, file, folder, node, request, saved, set_aside};
use support::tool::{self, said};

/// Set for the half of a test that runs in a mount namespace of its own: the folder to mount on.
const MOUNT: &str = "LAVAPROXY_STATE_MOUNT";

/// A file as lavaproxy writes it.
fn good() -> Vec<u8> {
    let (node, folder) = (node(), folder("good"));
    let site = Site::start(&folder, &[("LAVALINK_V4_PORT", &node.address.port().to_string())]);
    request(site.bots);
    site.stop();
    saved(&folder);
    fs::read(file(&folder)).unwrap()
}

#[test]
fn a_file_that_ends_early_is_set_aside_wherever_it_ends() {
    let (good, folder) = (good(), folder("truncated"));
    for length in 0..good.len() {
        let part = &good[..length];
        fs::write(file(&folder), part).unwrap();
        assert!(StateFile::new(&folder).read().is_none(), "{length} bytes");
        assert!(!file(&folder).exists(), "{length} bytes");
        let aside = set_aside(&folder);
        assert_eq!(aside.len(), 1, "{length} bytes");
        assert_eq!(fs::read(&aside[0]).unwrap(), part);
        fs::remove_file(&aside[0]).unwrap();
    }
    fs::write(file(&folder), &good).unwrap();
    assert!(StateFile::new(&folder).read().is_some());
    assert!(file(&folder).exists() && set_aside(&folder).is_empty());
}

#[test]
fn what_is_no_state_is_set_aside_and_the_start_goes_on() {
    let text = String::from_utf8(good()).unwrap();
    let newer = text.replacen("\"version\":1", "\"version\":2", 1);
    assert_ne!(newer, text);
    type Put<'p> = &'p dyn Fn(&Path);
    let cases: [(&str, Put<'_>, &[&str]); 8] = [
        ("garbled", &|path| fs::write(path, text.replace(':', ";")).unwrap(), &["it is damaged"]),
        ("zeros", &|path| fs::write(path, vec![0; 5000]).unwrap(), &["it is damaged"]),
        ("binary", &|path| fs::write(path, [0xff, 0xfe, 0x80].repeat(99)).unwrap(), &["it is damaged"]),
        ("other", &|path| fs::write(path, "{}").unwrap(), &["it is damaged", "version"]),
        ("newer", &|path| fs::write(path, &newer).unwrap(), &["version 2", "version 1"]),
        ("folder", &|path| fs::create_dir(path).unwrap(), &["not a regular file"]),
        ("unreadable", &|path| symlink("state.json", path).unwrap(), &["symbolic links"]),
        ("large", &|path| fs::File::create(path).unwrap().set_len(MAX_SIZE + 1).unwrap(), &["larger than 64 MiB"]),
    ];
    for (name, put, words) in cases {
        let (node, folder) = (node(), folder(name));
        put(&file(&folder));
        let mut site = Site::start(&folder, &[("LAVALINK_V4_PORT", &node.address.port().to_string())]);
        let seen = std::mem::take(&mut site.running.seen);
        let line = seen.lines().find(|line| line.contains("event=state-set-aside")).unwrap_or_else(|| panic!("{seen}"));
        assert!(line.contains("level=error") && words.iter().all(|word| line.contains(word)), "{line}");
        let aside = set_aside(&folder);
        assert_eq!(aside, [PathBuf::from(value(line, "to"))]);
        assert_eq!(site.figures_at_rest()["totals"]["connections"], 0, "{name}");
        request(site.bots);
        site.stop();
        assert_eq!(saved(&folder)["ledger"]["addresses"]["rows"][0]["connections"], 1, "{name}");
        assert_eq!(set_aside(&folder), aside, "{name}");
    }
}

#[test]
fn a_folder_that_is_not_there_is_a_warning() {
    let (node, folder) = (node(), folder("missing"));
    let missing = folder.join("missing");
    let mut site = Site::start(&missing, &[("LAVALINK_V4_PORT", &node.address.port().to_string())]);
    let line = site.running.line(&["level=warn", "event=state-not-saved"]);
    assert!(line.contains("No such file or directory") && line.contains("STATE_DIR"), "{line}");
    request(site.bots);
    fs::create_dir(&missing).unwrap();
    site.stop();
    saved(&missing);
}

/// Runs the test of this name again in a mount namespace, as root there. False where that is impossible: a skip.
fn in_a_namespace(name: &str) -> bool {
    let namespace = ["unshare", "--map-root-user", "--mount"];
    if !tool::works(&[&namespace[..], &["mount", "-t", "tmpfs", "none", "/mnt"]].concat(), "allow user namespaces") {
        return false;
    }
    let mut command = tool::command(&namespace);
    command.arg(env::current_exe().unwrap()).args([name, "--exact", "--nocapture"]).env(MOUNT, folder(name));
    let output = command.output().unwrap();
    assert!(output.status.success() && said(&output).contains("1 passed"), "{}", said(&output));
    true
}

fn mount(options: &str, at: &Path) {
    let status = Command::new("mount").args(["-t", "tmpfs", "-o", options, "none"]).arg(at).status().unwrap();
    assert!(status.success());
}

fn remount(options: &str, at: &Path) {
    let status = Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(at).status().unwrap();
    assert!(status.success());
}

#[test]
fn a_full_disk_is_a_warning_until_there_is_space() {
    let Some(disk) = env::var_os(MOUNT).map(PathBuf::from) else {
        in_a_namespace("a_full_disk_is_a_warning_until_there_is_space");
        return;
    };
    mount("size=64k", &disk);
    let node = node();
    let set = [("LAVALINK_V4_PORT", &*node.address.port().to_string())];
    let site = Site::start(&disk, &set);
    request(site.bots);
    site.stop();
    let whole = fs::read(file(&disk)).unwrap();

    let filler = disk.join("filler");
    let mut filling = fs::File::create(&filler).unwrap();
    while filling.write_all(&[1; 4096]).is_ok() {}
    drop(filling);
    for _ in 0..2 {
        let mut site = Site::start(&disk, &set);
        let line = site.running.line(&["level=warn", "event=state-not-saved"]);
        assert!(line.contains("No space left on device") && line.contains("free some space"), "{line}");
        request(site.bots);
        assert_eq!(site.figures_at_rest()["totals"]["connections"], 2);
        let log = site.stop();
        assert_eq!(log.matches("event=state-not-saved").count(), 2, "one at the start and one at the stop: {log}");
        assert_eq!(fs::read(file(&disk)).unwrap(), whole);
        assert_eq!(fs::read_dir(&disk).unwrap().count(), 2, "the temporary file is gone");
    }
    let mut site = Site::start(&disk, &set);
    site.running.line(&["event=state-not-saved"]);
    request(site.bots);
    assert_eq!(state::ask(site.web, "/api/history?range=30d")["step"], 3600, "the figures of the charts are in memory");
    fs::remove_file(&filler).unwrap();
    site.stop();
    assert_eq!(Site::start(&disk, &set).figures_at_rest()["totals"]["connections"], 2);
}

#[test]
fn a_read_only_disk_is_a_warning() {
    let Some(disk) = env::var_os(MOUNT).map(PathBuf::from) else {
        in_a_namespace("a_read_only_disk_is_a_warning");
        return;
    };
    mount("size=1m", &disk);
    let node = node();
    let set = [("LAVALINK_V4_PORT", &*node.address.port().to_string())];
    let site = Site::start(&disk, &set);
    request(site.bots);
    site.stop();
    remount("ro", &disk);
    let mut site = Site::start(&disk, &set);
    let line = site.running.line(&["level=warn", "event=state-not-saved"]);
    assert!(line.contains("Read-only file system") && line.contains("make the disk writable"), "{line}");
    request(site.bots);
    assert_eq!(site.figures_at_rest()["totals"]["connections"], 2);
    site.stop();
    remount("rw", &disk);
    assert_eq!(Site::start(&disk, &set).figures_at_rest()["totals"]["connections"], 1);
}

#[test]
fn a_file_that_can_be_neither_read_nor_moved_is_never_overwritten() {
    let Some(disk) = env::var_os(MOUNT).map(PathBuf::from) else {
        in_a_namespace("a_file_that_can_be_neither_read_nor_moved_is_never_overwritten");
        return;
    };
    mount("size=1m", &disk);
    fs::write(file(&disk), "precious").unwrap();
    remount("ro", &disk);
    let node = node();
    let set = [("LAVALINK_V4_PORT", &*node.address.port().to_string())];
    let mut site = Site::start(&disk, &set);
    let unreadable = ["level=error", "event=state-unreadable", "it is damaged", "Read-only file system"];
    assert!(site.running.seen.lines().any(|line| unreadable.iter().all(|word| line.contains(word))));
    site.running.line(&["level=warn", "event=state-not-saved"]);
    request(site.bots);
    site.stop();
    assert_eq!(fs::read(file(&disk)).unwrap(), b"precious");

    let site = Site::start(&disk, &set);
    request(site.bots);
    remount("rw", &disk);
    site.stop();
    let aside = set_aside(&disk);
    assert_eq!(fs::read(&aside[0]).unwrap(), b"precious");
    assert_eq!(saved(&disk)["ledger"]["addresses"]["rows"][0]["connections"], 1);
}
