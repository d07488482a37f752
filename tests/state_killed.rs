//! A process that saves all the time is killed at any moment: the file is whole, and not older than it was.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/logged.rs"]
mod logged;
#[path = "support/process.rs"]
mod process;
#[path = "support/state.rs"]
mod state;
mod support;

use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use lavaproxy::process::sockets::Inherited;
use lavaproxy::server::Server;
use lavaproxy::state::file::StateFile;
use lavaproxy::state::saver::Saver;
use logged::logged;
use serde_json::{Value, json};
use state::{file, folder, node, saved};
use support::{Client, PASSWORD, eventually, settings};

/// Set for the process that is killed: its folder.
const FOLDER: &str = "LAVAPROXY_STATE_FOLDER";
const TIMES: usize = 500;
/// The longest life of a process, in microseconds.
const LIFE: u64 = 60_000;
/// Makes the file so large that many kills meet it half written.
const KEYS: u64 = 500;

/// Serves a load of its own and saves without a pause, until it is killed.
fn serve_and_save(folder: &Path) -> ! {
    let node = node();
    let settings = settings(&[("LAVALINK_V4_PORT", &node.address.port().to_string())]);
    let mut file = StateFile::new(folder);
    let state = file.read().expect("the file before is whole");
    let before = state.saved_at;
    let server = Server::start_on(&settings, Inherited::default(), Some(state), None).unwrap();
    let lasting = server.lasting();
    let _saver = Saver::start(file, Duration::ZERO, move || lasting.state()).unwrap();
    let bots = server.address("proxy").unwrap();
    eventually("the first save", || saved(folder)["savedAt"].as_u64() > Some(before));
    println!("serving");
    loop {
        let mut client = Client::connect(bots);
        let head =
            format!("GET /v4/info HTTP/1.1\r\nHost: bot\r\nAuthorization: {PASSWORD}\r\nConnection: close\r\n\r\n");
        client.send(head.as_bytes());
        client.response();
    }
}

/// A file with figures of nothing and many keys.
fn begin(folder: &Path) {
    let server = Server::start(&settings(&[])).unwrap();
    let lasting = server.lasting();
    Saver::start(StateFile::new(folder), Duration::from_secs(3600), move || lasting.state()).unwrap().finish();
    let mut state = saved(folder);
    state["resumeKeys"] = (0..KEYS).map(|number| json!([format!("{number:032x}"), "v3"])).collect();
    fs::write(file(folder), state.to_string()).unwrap();
}

fn connections(state: &Value) -> u64 {
    let rows = state["ledger"]["addresses"]["rows"].as_array().unwrap();
    rows.iter().map(|row| row["connections"].as_u64().unwrap()).sum()
}

#[test]
fn a_file_is_whole_whenever_its_process_is_killed() {
    if let Some(folder) = env::var_os(FOLDER) {
        serve_and_save(&PathBuf::from(folder));
    }
    let folder = folder("killed");
    begin(&folder);
    let mut random = 1;
    let (mut half_written, mut grown, mut last) = (0, 0, saved(&folder));
    for _ in 0..TIMES {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["a_file_is_whole_whenever_its_process_is_killed", "--exact", "--nocapture"]);
        let mut child = command.env(FOLDER, &folder).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.map_while(Result::ok).any(|line| line.ends_with("serving")), "the process has not started");
        random = u64::wrapping_mul(random, 6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        thread::sleep(Duration::from_micros((random >> 33) % LIFE));
        child.kill().unwrap();
        child.wait().unwrap();

        let state = saved(&folder);
        assert_eq!(state["resumeKeys"].as_array().map(Vec::len), Some(KEYS as usize));
        assert!(connections(&state) >= connections(&last) && state["savedAt"].as_u64() >= last["savedAt"].as_u64());
        grown += usize::from(connections(&state) > connections(&last));
        half_written += usize::from(folder.join("state.json.new").exists());
        last = state;
    }
    assert!(state::set_aside(&folder).is_empty());
    println!("{TIMES} kills, {half_written} of them within a write; {grown} files with new figures");
    assert!(half_written > TIMES / 20 && grown > TIMES / 20, "{half_written} within a write, {grown} grown");
}

/// A saver whose state changes with each call, and how often it was called.
fn counting(folder: &Path, interval: Duration) -> (Saver, Arc<AtomicU64>) {
    let calls = Arc::new(AtomicU64::new(0));
    let server = Server::start(&settings(&[])).unwrap();
    let (lasting, counted) = (server.lasting(), Arc::clone(&calls));
    let collect = move || {
        let number = counted.fetch_add(1, SeqCst);
        let mut state = lasting.state();
        state.draining.push(number.to_string().into());
        state
    };
    (Saver::start(StateFile::new(folder), interval, collect).unwrap(), calls)
}

fn number(folder: &Path) -> Option<u64> {
    let state: Value = serde_json::from_slice(&fs::read(file(folder)).ok()?).unwrap();
    state["draining"][0].as_str()?.parse().ok()
}

#[test]
fn a_saver_pauses_for_a_successor_and_goes_on_without_one() {
    let folder = folder("pause");
    let (saver, calls) = counting(&folder, Duration::ZERO);
    eventually("it saves", || number(&folder) > Some(3));
    saver.pause().unwrap();
    let at_pause = (calls.load(SeqCst), number(&folder));
    thread::sleep(Duration::from_millis(50));
    assert_eq!((calls.load(SeqCst), number(&folder)), at_pause);
    saver.resume();
    eventually("it saves again", || number(&folder) > at_pause.1);
    saver.pause().unwrap();
    saver.finish();
    assert_eq!(number(&folder), Some(calls.load(SeqCst) - 1), "the last save is the last state");
}

#[test]
fn a_saver_that_is_dropped_saves_nothing_more() {
    let folder = folder("dropped");
    let (saver, calls) = counting(&folder, Duration::from_secs(3600));
    eventually("the first save", || number(&folder) == Some(0));
    drop(saver);
    // Its thread drops what it collects with.
    eventually("the thread ends", || Arc::strong_count(&calls) == 1);
    assert_eq!(number(&folder), Some(0));
}

#[test]
fn a_save_that_is_stuck_holds_nothing_up_for_long() {
    let folder = folder("stuck");
    let server = Server::start(&settings(&[])).unwrap();
    let (lasting, (unblock, blocked)) = (server.lasting(), mpsc::channel::<()>());
    // It stands for a disk that does not answer.
    let collect = move || {
        let _ = blocked.recv();
        lasting.state()
    };
    let saver = Saver::start(StateFile::new(&folder), Duration::ZERO, collect).unwrap();
    assert!(saver.pause().unwrap_err().to_string().contains("STATE_DIR"));
    drop(unblock);
    eventually("it goes on by itself", || file(&folder).exists());
    saver.pause().unwrap();
    saver.finish();
}

#[test]
fn a_state_that_is_as_it_was_is_not_written_again() {
    let folder = folder("unchanged");
    let server = Server::start(&settings(&[])).unwrap();
    let (lasting, calls) = (server.lasting(), Arc::new(AtomicU64::new(0)));
    let counted = Arc::clone(&calls);
    let collect = move || {
        counted.fetch_add(1, SeqCst);
        lasting.state()
    };
    let saver = Saver::start(StateFile::new(&folder), Duration::from_millis(1), collect).unwrap();
    eventually("the first save", || file(&folder).exists());
    let first = saved(&folder);
    let before = calls.load(SeqCst);
    eventually("more looks", || calls.load(SeqCst) > before + 20);
    saver.finish();
    assert_eq!(saved(&folder), first);
}

#[test]
fn a_disk_that_takes_nothing_is_one_warning_a_minute() {
    let nowhere = folder("nowhere").join("missing");
    logged(&[]);
    let (saver, calls) = counting(&nowhere, Duration::ZERO);
    eventually("many failures", || calls.load(SeqCst) > 100);
    let warned = || logged(&["event=state-not-saved", &nowhere.display().to_string()]);
    assert_eq!(warned(), 1);
    saver.finish();
    assert_eq!(warned(), 2, "the last one is always said");
}
