//! SIGHUP: settings that are good as a whole are swapped under connections that live on; others change nothing. And
//! what a supervisor is told of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/process.rs"]
mod process;
mod support;

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use process::{FREE, Running, Stray, directory, has_ended, lavaproxy, value};
use support::{Backend, Client, HANDSHAKE, OK, PATIENCE, Response, SWITCHING, eventually};

/// A lavaproxy whose env file is the test's to write.
struct House {
    running: Running,
    file: PathBuf,
}

impl House {
    fn start(name: &str, settings: &str) -> Self {
        let home = directory(name);
        let file = home.join("lavaproxy.env");
        fs::write(&file, settings).unwrap();
        let mut command = lavaproxy(&[]);
        command.env_clear().current_dir(&home);
        Self { running: Running::spawn(command), file }
    }

    /// Has these settings read, and returns the log line that says what came of it.
    fn reload(&mut self, settings: &str) -> String {
        fs::write(&self.file, settings).unwrap();
        self.running.signal("HUP");
        self.running.line(&["event=reload"])
    }
}

fn ask(client: &mut Client, password: &str, target: &str, fields: &str) -> Response {
    let head = format!("GET {target} HTTP/1.1\r\nHost: x\r\nAuthorization: {password}\r\n{fields}\r\n");
    client.send(head.as_bytes()).response()
}

/// Says who it is; a handshake becomes an echo.
fn backend(name: &'static str) -> Backend {
    Backend::start(move |mut client, _| {
        while let Some(request) = client.next_request() {
            if request.starts_with(b"GET /v4/websocket") {
                client.send(SWITCHING);
                return client.echo();
            }
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len());
            client.send(answer.as_bytes());
        }
    })
}

fn doors(rest: &str) -> String {
    format!("PROXY_HOST=127.0.0.1\nPROXY_PORT=0\nWEB_PORT=0\n{rest}")
}

#[test]
fn passwords_and_backends_change_under_connections_that_live_on() {
    let (first, second) = (backend("first"), backend("second"));
    let settings = |password: &str, node: &Backend| {
        doors(&format!("PROXY_PASSWORD={password}\nLAVALINK_V3_HOST=\nLAVALINK_V4_PORT={}\n", node.address.port()))
    };
    let mut house = House::start("reload", &settings("before", &first));
    let (bots, web) = (house.running.door("proxy"), house.running.door("web"));
    let mut tunnel = Client::connect(bots);
    assert_eq!(ask(&mut tunnel, "before", "/v4/websocket", HANDSHAKE).status, 101);
    let mut kept = Client::connect(bots);
    assert_eq!(ask(&mut kept, "before", "/v4/info", "").text(), "first");

    let line = house.reload(&settings("after", &second));
    assert_eq!(value(&line, "changed"), "PROXY_PASSWORD,LAVALINK_V4_PORT,LAVALINK_V4_PASSWORD");
    assert_eq!(ask(&mut kept, "before", "/v4/info", "").status, 403);
    assert_eq!(ask(&mut kept, "after", "/v4/info", "").text(), "second");
    assert_eq!(ask(&mut Client::connect(bots), "after", "/v4/info", "").text(), "second");
    assert_eq!(tunnel.send(b"\x81\x02hi").exactly(4), b"\x81\x02hi");
    let health = |path: &str| {
        let mut client = Client::connect(web);
        client.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes());
        client.response().json()
    };
    assert_eq!(health("/api/health")["backends"][0]["address"], second.address.to_string());
    drop((tunnel, kept));

    house.running.signal("TERM");
    let (status, log) = house.running.end();
    assert!(status.success() && !log.contains("level=error"), "{log}");
}

#[test]
fn faulty_settings_change_nothing_and_all_faults_are_told() {
    let node = backend("node");
    let good = doors(&format!("PROXY_PASSWORD=secret-one\nLAVALINK_V4_PORT={}\n", node.address.port()));
    let mut house = House::start("faulty", &good);
    let bots = house.running.door("proxy");
    house.running.door("web");
    for (faulty, told) in [
        ("PROXY_PASSWORD=secret-two\nHEAD_TIMEOUT=ten\nMAX_BODY=much\n", &["HEAD_TIMEOUT=ten", "MAX_BODY=much"][..]),
        ("PROXY_PASSWORD=secret-two\nnonsense\n", &["line 7"]),
        ("LAVALINK_V3_HOST=\nLAVALINK_V4_HOST=\nPROXY_PASSWORD=secret-two\n", &["LAVALINK_V3_HOST"]),
    ] {
        fs::write(&house.file, format!("{good}{faulty}")).unwrap();
        house.running.signal("HUP");
        for fault in told {
            house.running.line(&["level=error", "event=reload-refused", fault]);
        }
        assert_eq!(ask(&mut Client::connect(bots), "secret-one", "/v4/info", "").text(), "node");
    }
    fs::remove_file(&house.file).unwrap();
    house.running.signal("HUP");
    house.running.line(&["event=restart-needed"]);
    house.running.signal("TERM");
    assert!(!house.running.end().1.contains("secret-"));
}

#[test]
fn what_needs_a_restart_is_named_and_stays() {
    let node = backend("node");
    let rest = format!("LAVALINK_V4_PORT={}\nPROXY_PASSWORD=x\n", node.address.port());
    let mut house = House::start("needs-restart", &doors(&rest));
    let bots = house.running.door("proxy");
    house.running.door("web");
    house.reload(&format!("PROXY_HOST=127.0.0.1\nPROXY_PORT=1\nPROXY_V4_PORT=2\nWEB_PORT=0\n{rest}"));
    let line = house.running.line(&["event=restart-needed "]);
    assert_eq!(value(&line, "settings"), "PROXY_PORT,PROXY_V4_PORT");
    assert_eq!(ask(&mut Client::connect(bots), "x", "/v4/info", "").text(), "node");
}

#[test]
fn the_pages_never_lose_their_password_while_others_can_reach_them() {
    let open = "PROXY_HOST=127.0.0.1\nPROXY_PORT=0\nWEB_PORT=0\nWEB_HOST=0.0.0.0\nWEB_PASSWORD=secret\n";
    let mut house = House::start("pages", open);
    let mut web = house.running.door("web");
    web.set_ip([127, 0, 0, 1].into());
    fs::write(&house.file, doors("WEB_HOST=127.0.0.1\n")).unwrap();
    house.running.signal("HUP");
    house.running.line(&["event=reload-refused", "WEB_HOST=0.0.0.0", "until a restart"]);
    let mut stranger = Client::connect(web);
    stranger.send(b"GET /api/stats HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(stranger.response().status, 401);
}

#[test]
fn the_log_level_changes() {
    let mut house = House::start("level", &doors("LOG_LEVEL=warn,lavaproxy::signals=info,lavaproxy::server=info\n"));
    house.running.door("web");
    let line = house.reload(&doors("LOG_LEVEL=info\n"));
    assert_eq!(value(&line, "changed"), "LOG_LEVEL");
    house.running.signal("TERM");
    let (_, log) = house.running.end();
    assert!(log.contains("event=stopped") && !log.contains("event=start"), "{log}");
}

/// A supervisor that keeps what it is told.
struct Supervisor(UnixDatagram);

impl Supervisor {
    fn hears(&self) -> String {
        let mut text = [0; 512];
        let length = self.0.recv(&mut text).expect("the supervisor hears nothing");
        String::from_utf8(text[..length].to_vec()).unwrap()
    }

    /// The next datagram that is no sign of life.
    fn is_told(&self) -> String {
        std::iter::repeat_with(|| self.hears()).find(|text| text != "WATCHDOG=1").unwrap()
    }
}

#[test]
fn a_supervisor_is_told_how_things_are() {
    let home = directory("supervisor");
    let path = home.join("notify");
    let _ = fs::remove_file(&path);
    let supervisor = Supervisor(UnixDatagram::bind(&path).unwrap());
    supervisor.0.set_read_timeout(Some(PATIENCE)).unwrap();
    let node = Backend::answering(OK);
    let mut command = lavaproxy(&FREE);
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "3000000").current_dir(&home);
    command.env("LAVALINK_V4_PORT", node.address.port().to_string());
    let mut running = Running::spawn(command);
    let begins = |text: String, expected: &str| assert!(text.starts_with(expected), "{text} is not {expected}");
    begins(supervisor.is_told(), "READY=1\n");
    for _ in 0..2 {
        eventually("a sign of life comes", || supervisor.hears() == "WATCHDOG=1");
    }
    running.signal("HUP");
    begins(supervisor.is_told(), "RELOADING=1\n");
    begins(supervisor.is_told(), "READY=1\n");

    running.signal("USR2");
    let successor = value(&running.line(&["event=upgraded "]), "successor");
    let next = Stray(successor.parse().unwrap());
    begins(supervisor.is_told(), &format!("MAINPID={successor}\nREADY=1\n"));
    eventually("the predecessor has ended", || has_ended(running.child.id()));
    for _ in 0..2 {
        eventually("a sign of life comes from the successor", || supervisor.hears() == "WATCHDOG=1");
    }
    process::signal(next.0, "TERM");
    begins(supervisor.is_told(), "STOPPING=1\n");
}
