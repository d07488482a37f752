//! What happens when descriptors, threads or slots run out: clients get a clear refusal, nothing aborts, and service
//! resumes when they are free again.
//!
//! Each test runs in a process of its own, whose limits it lowers and raises.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;
#[path = "support/tunnels.rs"]
mod tunnels;

use std::env;
use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use log::{LevelFilter, Log, Metadata, Record};
use rlimit::Resource;
use socket2::{Domain, Socket, Type};
use support::*;
use tunnels::Tunnels;

/// Says which test a child process is to run.
const SCENE: &str = "LAVAPROXY_TEST_SCENE";
/// A user number that no account has.
const NOBODY_ELSE: u32 = 54_321;

/// Whose limits bind the child.
enum As {
    Me,
    /// The limit of threads does not bind root.
    NotRoot,
}

/// Runs `scene` in a process of its own, which the test `name` starts by running itself again.
fn in_a_process_of_its_own(name: &str, user: As, scene: impl FnOnce()) {
    if env::var_os(SCENE).is_some_and(|running| running == name) {
        log::set_logger(&Lines).unwrap();
        log::set_max_level(LevelFilter::Info);
        return scene();
    }
    let own = env::current_exe().unwrap();
    let copy = env::temp_dir().join(format!("lavaproxy-{name}-{}", std::process::id()));
    let am_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    let mut command = match &user {
        As::NotRoot if am_root => {
            // Where the build lies may be closed to others.
            fs::copy(own, &copy).unwrap();
            let mut command = Command::new(&copy);
            command.uid(NOBODY_ELSE).gid(NOBODY_ELSE).current_dir("/");
            command
        }
        _ => Command::new(own),
    };
    let _copy = Removed(copy);
    let log = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.log"));
    let output = File::create(&log).unwrap();
    command.stdout(output.try_clone().unwrap()).stderr(output);
    let mut child = match command.args(["--exact", name, "--nocapture"]).env(SCENE, name).spawn() {
        Err(error) if am_root && matches!(user, As::NotRoot) => {
            tool::say(&format!("skipped: {name}: no process can be run as another user here: {error}"));
            return;
        }
        spawned => spawned.unwrap(),
    };
    let deadline = Instant::now() + 3 * PATIENCE;
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None if Instant::now() > deadline => child.kill().unwrap(),
            None => thread::sleep(Duration::from_millis(20)),
        }
    };
    assert!(status.success(), "{name}: {status}\n{}", fs::read_to_string(log).unwrap());
}

struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// A logger that keeps every line and when it came.
struct Lines;

static LINES: Mutex<Vec<(Instant, String)>> = Mutex::new(Vec::new());

impl Log for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        LINES.lock().unwrap().push((Instant::now(), record.args().to_string()));
    }

    fn flush(&self) {}
}

/// Each listener has a limit of its own for this line.
const PROXY_FAILED: &str = "accept-failed listener=proxy";

/// When lines of this event came.
fn logged(event: &str) -> Vec<Instant> {
    let prefix = format!("event={event} ");
    LINES.lock().unwrap().iter().filter(|(_, line)| line.starts_with(&prefix)).map(|(time, _)| *time).collect()
}

fn assert_at_most_once_a_second(event: &str) {
    for pair in logged(event).windows(2) {
        assert!(pair[1] - pair[0] >= Duration::from_millis(990), "{event} after {:?}", pair[1] - pair[0]);
    }
}

/// Takes every descriptor that is left.
fn take_all_descriptors() -> Vec<File> {
    let mut taken = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        taken.push(file);
    }
    taken
}

/// Processor time of this process so far.
fn processor_time() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let after_name: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = after_name[11].parse::<u64>().unwrap() + after_name[12].parse::<u64>().unwrap();
    // USER_HZ is 100 on every Linux.
    Duration::from_millis(ticks * 10)
}

/// A backend whose threads are all there before threads run out.
fn early_backend() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    for _ in 0..8 {
        let listener = listener.try_clone().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut client = Client::over(stream.unwrap());
                while let Some(request) = client.next_request() {
                    let upgrade = support::find(&request, b"Upgrade: websocket").is_some();
                    if client.try_send(if upgrade { SWITCHING } else { OK }).is_err() {
                        break;
                    }
                }
            }
        });
    }
    address
}

#[test]
fn lavaproxy_survives_without_free_descriptors() {
    in_a_process_of_its_own("lavaproxy_survives_without_free_descriptors", As::Me, || {
        Resource::NOFILE.set(700, 700).unwrap();
        let backend = Backend::answering(OK);
        let tunnels = Tunnels::start(&[("LAVALINK_V3_PORT", &backend.address.port().to_string())]);
        let (mut bot, mut node) = tunnels.open();
        let mut kept = tunnels.proxy.connect();
        assert_eq!(kept.get("/v3/info", "").status, 200);
        let waiting: Vec<Socket> = (0..3).map(|_| Socket::new(Domain::IPV4, Type::STREAM, None).unwrap()).collect();

        let (started, worked) = (Instant::now(), processor_time());
        let taken = take_all_descriptors();
        for socket in &waiting {
            socket.connect(&tunnels.proxy.address().into()).unwrap();
        }
        eventually("it says so", || logged(PROXY_FAILED).len() >= 3);
        assert_at_most_once_a_second(PROXY_FAILED);

        let refusal = kept.get("/v4/info", "");
        assert_eq!(refusal.status, 503);
        assert!(refusal.text().contains("no file descriptor is left") && refusal.text().contains("open files"));
        assert_eq!(refusal.field("retry-after"), Some("5"));
        assert_eq!(kept.get("/v3/info", "").status, 200, "what needs no new descriptor works");
        bot.send(b"still there?");
        assert_eq!(node.exactly(12), b"still there?");

        drop(taken);
        let (time, work) = (started.elapsed(), processor_time() - worked);
        assert!(work < time / 4, "{work:?} of work in {time:?} of waiting");
        for socket in waiting {
            assert_eq!(Client::over(socket.into()).get("/v3/info", "").status, 200);
        }
        assert_eq!(logged("node-down").len(), 0, "the node lacks nothing");
        eventually("the pages are back", || page_status(&tunnels.proxy) == 200);
        assert_eq!(tunnels.proxy.stats()["totals"]["websockets"], 1);

        for left in 1..=4 {
            ask_with_few_descriptors(&tunnels.proxy, left);
        }
        eventually("the pages are back", || page_status(&tunnels.proxy) == 200);
    });
}

/// A node that goes on after it could not accept a connection.
fn patient_node() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        loop {
            let Ok((stream, _)) = listener.accept() else {
                thread::sleep(Duration::from_millis(5));
                continue;
            };
            let mut client = Client::over(stream);
            while client.next_request().is_some() && client.try_send(OK).is_ok() {}
        }
    });
    address
}

#[test]
fn a_shortage_of_descriptors_makes_no_node_down() {
    in_a_process_of_its_own("a_shortage_of_descriptors_makes_no_node_down", As::Me, || {
        Resource::NOFILE.set(700, 700).unwrap();
        let port = patient_node().port().to_string();
        let proxy = Proxy::start(&[("LAVALINK_V3_HOST", ""), ("LAVALINK_V4_PORT", &port), ("HEALTH_INTERVAL", "1s")]);
        eventually("the node is up", || !logged("node-up").is_empty());
        // On a busy machine its first rounds may have failed.
        let before = logged("node-down").len();
        let waiting = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let mut taken = take_all_descriptors();
        waiting.connect(&proxy.address().into()).unwrap();
        // These lines come at most once a second, so that several health rounds are due meanwhile.
        eventually("it goes on for a while", || {
            taken.extend(take_all_descriptors());
            logged(PROXY_FAILED).len() >= 5
        });
        assert_eq!(logged("node-down").len(), before);
        drop(taken);
        assert_eq!(Client::over(waiting.into()).get("/v4/info", "").status, 200);
    });
}

/// Asks for a page with this many descriptors left: enough for the web listener to accept, but up to three not for
/// all that the monitor behind it opens. Its listener ends for ever when it fails to accept.
fn ask_with_few_descriptors(proxy: &Proxy, left: usize) {
    let waiting = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let mut taken = take_all_descriptors();
    taken.truncate(taken.len() - left);
    waiting.connect(&proxy.listener("web").into()).unwrap();
    let status = ask_for_page(&mut Client::over(waiting.into()));
    // A monitor that has no thread for a connection which it has taken does not answer: 504.
    assert!([200, 500, 502, 503, 504].contains(&status), "{status} with {left} left");
}

/// What the web listener says at the moment.
fn page_status(proxy: &Proxy) -> u16 {
    ask_for_page(&mut Client::connect(proxy.listener("web")))
}

fn ask_for_page(browser: &mut Client) -> u16 {
    browser.send(b"GET /api/stats HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    browser.response().status
}

#[test]
fn lavaproxy_survives_without_free_threads() {
    in_a_process_of_its_own("lavaproxy_survives_without_free_threads", As::NotRoot, || {
        Resource::NOFILE.set(700, 700).unwrap();
        let (_, hard) = Resource::NPROC.get().unwrap();
        let threads_end = || Resource::NPROC.set(1.min(hard), hard).unwrap();
        let threads_return = || Resource::NPROC.set(hard, hard).unwrap();
        let port = early_backend().port().to_string();
        let by_name = [("LAVALINK_V3_PORT", &*port), ("LAVALINK_V3_HOST", "localhost"), ("LAVALINK_V4_PORT", &port)];
        let proxy = Proxy::start(&by_name);
        let ended = |reason| proxy.server.ledger().snapshot().ended[reason];
        eventually("the pages are there", || page_status(&proxy) == 200);

        threads_end();
        assert!(thread::Builder::new().spawn(|| {}).is_err(), "the limit binds");
        let request = format!("GET /v4/info HTTP/1.1\r\nHost: bot\r\nAuthorization: {PASSWORD}\r\n\r\n");
        for number in 0..100 {
            let mut client = proxy.connect();
            if number % 2 == 0 {
                // The answer may come before it is read: the only worker must not wait.
                let _ = client.try_send(request.as_bytes());
            }
            let refusal = client.response();
            assert_eq!(refusal.status, 503);
            assert!(refusal.closes());
            let message = refusal.json()["message"].as_str().unwrap().to_owned();
            assert!(message.contains("no thread") && message.contains("limit of threads"), "{message}");
        }
        eventually("all are counted", || ended("rejected-threads") == 100);
        assert_at_most_once_a_second("no-thread");
        assert!(!logged("no-thread").is_empty());
        threads_return();
        assert_eq!(proxy.connect().get("/v4/info", "").status, 200, "the very next client");

        // Three at once leave idle workers behind, so that the next client is accepted.
        let mut crowd: Vec<Client> = (0..3).map(|_| proxy.connect()).collect();
        assert!(crowd.iter_mut().all(|client| client.get("/v4/info", "").status == 200));
        drop(crowd);
        proxy.wait_until_empty();
        let mut bot = proxy.connect();
        assert_eq!(bot.get("/v4/info", "").status, 200);
        threads_end();
        let refusal = bot.get("/v3/info", "");
        assert_eq!(refusal.status, 503, "a name to look up needs a thread: {}", refusal.text());
        assert!(refusal.text().contains("no thread"), "{}", refusal.text());
        let mut bot = proxy.connect();
        assert_eq!(bot.get("/v4/info", "").status, 200);
        let refusal = bot.upgrade("/v4/websocket");
        assert_eq!(refusal.status, 503, "a tunnel needs a second thread");
        assert!(refusal.text().contains("no thread"), "{}", refusal.text());
        threads_return();
        let mut bot = proxy.connect();
        assert_eq!(bot.get("/v3/info", "").status, 200);
        assert_eq!(bot.upgrade("/v4/websocket").status, 101);
        assert_eq!(logged("node-down").len(), 0, "the node lacks nothing");

        // The monitor loses its listener, and finds no thread for the next one. Two browsers at once leave enough idle
        // workers behind for the next.
        let mut browsers = [Client::connect(proxy.listener("web")), Client::connect(proxy.listener("web"))];
        assert!(browsers.iter_mut().all(|browser| ask_for_page(browser) == 200));
        drop(browsers);
        threads_end();
        eventually("the listener is lost", || {
            ask_with_few_descriptors(&proxy, 2);
            !logged("monitor-restart").is_empty()
        });
        eventually("the monitor tries again and again", || logged("monitor-restart").len() >= 2);
        threads_return();
        eventually("the pages are back", || page_status(&proxy) == 200);
    });
}

#[test]
fn lavaproxy_survives_without_free_slots() {
    in_a_process_of_its_own("lavaproxy_survives_without_free_slots", As::Me, || {
        // Three slots, by the arithmetic of `admission::capacity`.
        Resource::NOFILE.set(384 + 2 * 3, 384 + 2 * 3).unwrap();
        let backend = Backend::answering(OK);
        let proxy = Proxy::before(backend.address, backend.address, &[]);
        let mut inside: Vec<Client> = (0..3).map(|_| proxy.connect()).collect();
        assert!(inside.iter_mut().all(|client| client.get("/v4/info", "").status == 200));
        for handshake in [false, true] {
            let mut fourth = proxy.connect();
            let refusal = if handshake { fourth.upgrade("/v4/websocket") } else { fourth.get("/v4/info", "") };
            assert_eq!(refusal.status, 503);
            assert!(refusal.closes() && refusal.field("retry-after") == Some("5"), "{}", refusal.head);
            let json = refusal.json();
            assert_eq!((json["status"].as_u64(), json["error"].as_str()), (Some(503), Some("Service Unavailable")));
            let message = json["message"].as_str().unwrap();
            for part in ["all 3 slots are taken", "open files, ulimit -n", "raise that limit"] {
                assert!(message.contains(part), "{message}");
            }
            assert!(fourth.is_at_end());
        }
        assert!(inside.iter_mut().all(|client| client.get("/v4/info", "").status == 200), "no client lost its slot");
        drop(inside.pop());
        eventually("the slot is free", || proxy.connect().get("/v4/info", "").status == 200);

        // More at once than the queue holds, most of them silent: all get a refusal, and the listeners stay open.
        let mut inside_again = proxy.connect();
        eventually("it is full again", || inside_again_is_served(&mut inside_again, &proxy));
        let mut flood: Vec<Client> = (0..60).map(|_| proxy.connect()).collect();
        for client in &mut flood {
            let refusal = client.response();
            assert_eq!(refusal.status, 503);
            assert!(refusal.text().contains("all 3 slots are taken"));
        }
        drop(flood);
        eventually("there is time again to hear refused clients before they are answered", || {
            let mut late = proxy.connect();
            let started = Instant::now();
            assert_eq!(late.response().status, 503);
            started.elapsed() > Duration::from_millis(500)
        });
        check_refusals_arrive_whole(&proxy);
        check_a_trickle_is_cut_off(&proxy);
        drop((inside, inside_again));
        eventually("there is room again", || proxy.connect().get("/v4/info", "").status == 200);
        proxy.wait_until_empty();
        assert!(proxy.ended("rejected-limit") >= 63);
        assert_at_most_once_a_second("refused");
        assert!(!logged("refused").is_empty());
        let lines = LINES.lock().unwrap();
        assert!(!lines.iter().any(|(_, line)| line.contains("event=ended") && line.contains("rejected-limit")));
    });
}

/// More clients than the proxy waits for, whose requests are there when it accepts them: no reset follows their answer.
fn check_refusals_arrive_whole(proxy: &Proxy) {
    let request = format!("GET /v4/info HTTP/1.1\r\nHost: bot\r\nAuthorization: {PASSWORD}\r\n\r\n");
    let waiting: Vec<Socket> = (0..60).map(|_| Socket::new(Domain::IPV4, Type::STREAM, None).unwrap()).collect();
    // The proxy cannot accept until these are given back.
    let taken = take_all_descriptors();
    for socket in &waiting {
        socket.connect(&proxy.address().into()).unwrap();
        assert_eq!(socket.send(request.as_bytes()).unwrap(), request.len());
    }
    drop(taken);
    for socket in waiting {
        let mut client = Client::over(socket.into());
        assert_eq!(client.response().status, 503);
        assert!(client.is_at_end());
    }
}

/// A refused client cannot hold the proxy by sending its request byte by byte.
fn check_a_trickle_is_cut_off(proxy: &Proxy) {
    let (mut client, started) = (proxy.connect(), Instant::now());
    while client.silent_for(Duration::from_millis(50)) == Some(std::io::ErrorKind::WouldBlock) {
        assert!(started.elapsed() < Duration::from_secs(5), "the request is still waited for");
        let _ = client.try_send(b"x");
    }
    assert_eq!(client.response().status, 503);
}

/// A slot may take a moment to become free; a refused client connects again.
fn inside_again_is_served(client: &mut Client, proxy: &Proxy) -> bool {
    if client.get("/v4/info", "").status == 200 {
        return true;
    }
    *client = proxy.connect();
    false
}

/// The workers of the proxy listeners.
fn workers() -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("comm")).ok());
    names.filter(|name| name.starts_with("proxy")).count()
}

#[test]
fn idle_workers_end() {
    in_a_process_of_its_own("idle_workers_end", As::Me, || {
        let backend = Backend::answering(OK);
        let proxy = Proxy::before(backend.address, backend.address, &[]);
        let mut crowd: Vec<Client> = (0..40).map(|_| proxy.connect()).collect();
        assert!(crowd.iter_mut().all(|client| client.get("/v4/info", "").status == 200));
        assert!(workers() >= 41);
        drop(crowd);
        proxy.wait_until_empty();
        assert!(workers() >= 40, "they stay for the next clients");
        eventually("they end when no client comes", || workers() == 2);
        assert_eq!(proxy.connect().get("/v4/info", "").status, 200);
    });
}

#[test]
fn idle_workers_are_as_many_at_three_listeners_as_at_one() {
    in_a_process_of_its_own("idle_workers_are_as_many_at_three_listeners_as_at_one", As::Me, || {
        const MOST: usize = 256;
        let backend = Backend::answering(OK);
        let proxy = Proxy::before(backend.address, backend.address, &[("PROXY_V3_PORT", "0"), ("PROXY_V4_PORT", "0")]);
        let listeners = ["proxy", "proxy-v3", "proxy-v4"].map(|name| proxy.listener(name));
        let mut crowd: Vec<Client> =
            listeners.iter().flat_map(|listener| (0..MOST / 2).map(|_| Client::connect(*listener))).collect();
        assert!(crowd.iter_mut().all(|client| client.get("/info", "").status == 200));
        assert!(workers() > MOST);
        drop(crowd);
        proxy.wait_until_empty();
        // Sooner than those that nobody needs leave.
        eventually_within(Duration::from_secs(5), "those beyond the limit have left", || workers() <= MOST);
        assert!(workers() >= MOST / 2, "the others stay for the next clients");
    });
}
