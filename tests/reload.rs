//! SIGHUP: settings that are good as a whole are swapped under connections that live on; others change nothing. And
//! what the supervisor is notified of.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/process.rs"]
mod process;
mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use process::{FREE, Running, Stray, directory, has_ended, lavaproxy, value};
use support::{Backend, Client, HANDSHAKE, OK, PATIENCE, Response, SWITCHING, eventually};

/// A lavaproxy whose env file is the test's to write.
struct Site {
    running: Running,
    file: PathBuf,
}

impl Site {
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

/// Answers with its name; a handshake becomes an echo.
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

fn listeners(rest: &str) -> String {
    format!("PROXY_HOST=127.0.0.1\nPROXY_PORT=0\nWEB_PORT=0\n{rest}")
}

#[test]
fn passwords_and_backends_change_and_open_connections_stay() {
    let (first, second) = (backend("first"), backend("second"));
    let settings = |password: &str, node: &Backend| {
        listeners(&format!("PROXY_PASSWORD={password}\nLAVALINK_V3_HOST=\nLAVALINK_V4_PORT={}\n", node.address.port()))
    };
    let mut site = Site::start("reload", &settings("before", &first));
    let (bots, web) = (site.running.listener("proxy"), site.running.listener("web"));
    let mut tunnel = Client::connect(bots);
    assert_eq!(ask(&mut tunnel, "before", "/v4/websocket", HANDSHAKE).status, 101);
    let mut kept = Client::connect(bots);
    assert_eq!(ask(&mut kept, "before", "/v4/info", "").text(), "first");

    let line = site.reload(&settings("after", &second));
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
    assert_eq!(health("/api/health")["nodes"][0]["address"], second.address.to_string());
    drop((tunnel, kept));

    site.running.signal("TERM");
    let (status, log) = site.running.end();
    assert!(status.success() && !log.contains("level=error"), "{log}");
}

#[test]
fn faulty_settings_change_nothing_and_all_faults_are_reported() {
    let node = backend("node");
    let good = listeners(&format!("PROXY_PASSWORD=secret-one\nLAVALINK_V4_PORT={}\n", node.address.port()));
    let mut site = Site::start("faulty", &good);
    let bots = site.running.listener("proxy");
    site.running.listener("web");
    for (faulty, reported) in [
        ("PROXY_PASSWORD=secret-two\nHEAD_TIMEOUT=ten\nMAX_BODY=much\n", &["HEAD_TIMEOUT=ten", "MAX_BODY=much"][..]),
        ("PROXY_PASSWORD=secret-two\nnonsense\n", &["line 7"]),
        ("LAVALINK_V3_HOST=\nLAVALINK_V4_HOST=\nPROXY_PASSWORD=secret-two\n", &["LAVALINK_V3_HOST"]),
    ] {
        fs::write(&site.file, format!("{good}{faulty}")).unwrap();
        site.running.signal("HUP");
        for fault in reported {
            site.running.line(&["level=error", "event=reload-refused", fault]);
        }
        assert_eq!(ask(&mut Client::connect(bots), "secret-one", "/v4/info", "").text(), "node");
    }
    // Without the file every setting would have its default, the password too: no reload and no upgrade.
    fs::remove_file(&site.file).unwrap();
    for (signal, refused) in [("HUP", "event=reload-refused"), ("USR2", "event=upgrade-failed")] {
        site.running.signal(signal);
        site.running.line(&["level=error", refused, "lavaproxy.env"]);
        assert_eq!(ask(&mut Client::connect(bots), "secret-one", "/v4/info", "").text(), "node");
    }
    fs::write(&site.file, "").unwrap();
    site.running.signal("HUP");
    site.running.line(&["level=warn", "event=settings", "PROXY_PASSWORD is the default"]);
    site.running.line(&["event=restart-needed"]);
    site.running.signal("TERM");
    assert!(!site.running.end().1.contains("secret-"));
}

#[test]
fn accounts_are_read_again_and_a_faulty_file_changes_nothing() {
    let node = backend("node");
    let rest = format!("ACCOUNTS_FILE=accounts.json\nLAVALINK_V4_PORT={}\nPROXY_PASSWORD=own\n", node.address.port());
    let settings = listeners(&rest);
    let file = directory("accounts").join("accounts.json");
    fs::write(&file, r#"[{"name":"alice","password":"secret-a"},{"name":"bob","password":"secret-b"}]"#).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let mut site = Site::start("accounts", &settings);
    let bots = site.running.listener("proxy");
    site.running.listener("web");
    let status = |password: &str| ask(&mut Client::connect(bots), password, "/v4/info", "").status;
    for (password, expected) in [("own", 200), ("secret-a", 200), ("Bearer secret-b", 200), ("secret-c", 403)] {
        assert_eq!(status(password), expected, "{password}");
    }

    fs::write(&file, r#"[{"name":"carol","password":"secret-c"},{"name":"bob","password":"secret-b"}]"#).unwrap();
    assert_eq!(value(&site.reload(&settings), "changed"), "ACCOUNTS_FILE");
    for (password, expected) in [("own", 200), ("secret-a", 403), ("Bearer secret-b", 200), ("secret-c", 200)] {
        assert_eq!(status(password), expected, "{password}");
    }

    fs::write(&file, r#"[{"name":"dave","password":"own"},{"name":"erin","password":" secret-e"},"secret-f"]"#)
        .unwrap();
    site.running.signal("HUP");
    for fault in ["entry 1 (dave): password: it is PROXY_PASSWORD", "entry 2 (erin): password: it begins", "entry 3: "]
    {
        site.running.line(&["level=error", "event=reload-refused", "ACCOUNTS_FILE=accounts.json: ", fault]);
    }
    assert_eq!((status("secret-c"), status("secret-e")), (200, 403));
    site.running.signal("TERM");
    let (_, log) = site.running.end();
    assert!(!log.contains("secret-"), "{log}");
}

#[test]
fn settings_that_need_a_restart_are_named_and_stay() {
    let node = backend("node");
    let rest = format!("LAVALINK_V4_PORT={}\nPROXY_PASSWORD=x\n", node.address.port());
    let mut site = Site::start("needs-restart", &listeners(&rest));
    let bots = site.running.listener("proxy");
    site.running.listener("web");
    site.reload(&format!("PROXY_HOST=127.0.0.1\nPROXY_PORT=1\nPROXY_V4_PORT=2\nWEB_PORT=0\n{rest}"));
    let line = site.running.line(&["event=restart-needed "]);
    assert_eq!(value(&line, "settings"), "PROXY_PORT,PROXY_V4_PORT");
    assert_eq!(ask(&mut Client::connect(bots), "x", "/v4/info", "").text(), "node");
}

#[test]
fn the_pages_never_lose_their_password_while_others_can_reach_them() {
    let open = "PROXY_HOST=127.0.0.1\nPROXY_PORT=0\nWEB_PORT=0\nWEB_HOST=0.0.0.0\nWEB_PASSWORD=secret\n";
    let mut site = Site::start("pages", open);
    let mut web = site.running.listener("web");
    web.set_ip([127, 0, 0, 1].into());
    fs::write(&site.file, listeners("WEB_HOST=127.0.0.1\n")).unwrap();
    site.running.signal("HUP");
    site.running.line(&["event=reload-refused", "WEB_HOST=0.0.0.0", "until a restart"]);
    let mut stranger = Client::connect(web);
    stranger.send(b"GET /api/stats HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(stranger.response().status, 401);
}

#[test]
fn the_log_level_changes() {
    let mut site = Site::start("level", &listeners("LOG_LEVEL=warn,lavaproxy::signals=info,lavaproxy::server=info\n"));
    site.running.listener("web");
    let line = site.reload(&listeners("LOG_LEVEL=info\n"));
    assert_eq!(value(&line, "changed"), "LOG_LEVEL");
    site.running.signal("TERM");
    let (_, log) = site.running.end();
    assert!(log.contains("event=stopped") && !log.contains("event=start"), "{log}");
}

/// A supervisor that keeps its notifications.
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
fn a_supervisor_is_notified_of_each_state() {
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
