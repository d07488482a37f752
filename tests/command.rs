//! The command as an operator meets it: flags, exit codes, settings from file and environment, signals, log lines.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/process.rs"]
mod process;
mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};
use std::process::{Command, Output, Stdio};

use process::{Running, SECRET, directory, lavaproxy, signal, value};
use support::{Backend, Client, OK, SWITCHING, eventually};

fn run(mut command: Command) -> (Output, String, String) {
    let output = command.output().unwrap();
    let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8(text.clone()).unwrap());
    (output, out, err)
}

#[test]
fn flags_that_only_print() {
    for (flag, expected) in [("--version", env!("CARGO_PKG_VERSION")), ("--help", "--env-file FILE")] {
        let mut command = lavaproxy(&[]);
        command.arg(flag);
        let (output, out, err) = run(command);
        assert!(output.status.success() && out.contains(expected) && err.is_empty(), "{flag}: {out}{err}");
    }
}

#[test]
fn a_wrong_flag_is_a_usage_error() {
    for flags in [&["--nonsense"][..], &["extra"], &["--env-file"], &["--check=yes"]] {
        let mut command = lavaproxy(&[]);
        command.args(flags);
        let (output, out, err) = run(command);
        assert_eq!(output.status.code(), Some(2), "{flags:?}");
        assert!(out.is_empty() && err.contains("--help") && err.lines().count() == 1, "{flags:?}: {err}");
    }
}

#[test]
fn all_faults_are_reported_at_once_without_secrets() {
    let mut command = lavaproxy(&[
        ("PROXY_PORT", "seventy"),
        ("PROXY_PASSWORD", " hunter2-of-the-test"),
        ("HEAD_TIMEOUT", "10"),
        ("WEB_HOST", "0.0.0.0"),
    ]);
    command.arg("--check");
    let (output, out, err) = run(command);
    assert_eq!(output.status.code(), Some(2));
    for name in ["PROXY_PORT=seventy", "PROXY_PASSWORD=***", "HEAD_TIMEOUT=10", "WEB_PASSWORD"] {
        assert!(err.contains(name), "{name} in {err}");
    }
    assert!(out.is_empty() && !err.contains(SECRET), "{err}");
    assert!(err.ends_with('\n'));
}

#[test]
fn check_reports_the_faults_of_the_accounts_file_with_those_of_the_settings() {
    let home = directory("accounts-check");
    let content = format!(r#"[{{"name":"alice","password":" {SECRET}"}},{{"name":"bob","expires":"soon"}}]"#);
    fs::write(home.join("accounts.json"), content).unwrap();
    let check = |set: &[(&str, &str)]| {
        let mut command = lavaproxy(set);
        command.arg("--check").current_dir(&home);
        run(command)
    };
    let (output, out, err) = check(&[("ACCOUNTS_FILE", "accounts.json"), ("PROXY_PORT", "seventy")]);
    assert_eq!(output.status.code(), Some(2));
    assert!(out.is_empty() && !err.contains(SECRET), "{err}");
    let starts = [
        "PROXY_PORT=seventy: ",
        "ACCOUNTS_FILE=accounts.json: entry 1 (alice): password: it begins or ends with a space",
        "ACCOUNTS_FILE=accounts.json: entry 2 (bob): it has no password",
        "ACCOUNTS_FILE=accounts.json: entry 2 (bob): expires: it is not a date or time",
    ];
    assert_eq!(err.lines().count(), starts.len(), "{err}");
    for (line, start) in err.lines().zip(starts) {
        assert!(line.starts_with(start), "{err}");
    }
    let (output, _, err) = check(&[("ACCOUNTS_FILE", "missing.json")]);
    assert_eq!(output.status.code(), Some(2));
    assert!(err.starts_with("ACCOUNTS_FILE=missing.json: it cannot be read: "), "{err}");
}

#[test]
fn a_faulty_accounts_file_does_not_make_a_running_process_unhealthy() {
    let file = directory("accounts-health").join("accounts.json");
    fs::write(&file, "[]").unwrap();
    let file = file.to_str().unwrap();
    let mut running = Running::start(&[("ACCOUNTS_FILE", file)]);
    let web = running.listener("web").port().to_string();
    fs::write(file, "[").unwrap();
    let mut command = lavaproxy(&[("ACCOUNTS_FILE", file), ("WEB_PORT", &web)]);
    command.arg("--healthcheck");
    let (output, _, err) = run(command);
    assert!(output.status.success(), "{err}");
    running.signal("TERM");
    running.end();
}

/// Names and addresses by which this machine reaches itself, apart from those that need no look-up.
fn own_hosts() -> Vec<String> {
    let is_ours = |address: &SocketAddr| UdpSocket::bind(SocketAddr::new(address.ip(), 0)).is_ok();
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
    let named = (name.as_str(), 0).to_socket_addrs().is_ok_and(|mut found| found.any(|a| a.is_ipv4() && is_ours(&a)));
    // Connecting a UDP socket sends nothing; it only chooses the local address.
    let outward = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect("192.0.2.1:9")?;
        socket.local_addr()
    });
    named.then_some(name).into_iter().chain(outward.ok().map(|address| address.ip().to_string())).collect()
}

#[test]
fn check_refuses_a_node_whose_name_leads_back() {
    let hosts = own_hosts();
    if hosts.is_empty() {
        eprintln!("skipped: this machine has no host name that resolves and no address besides its loopback");
    }
    for host in hosts {
        let check = |port: &str| {
            let mut command = lavaproxy(&[
                ("PROXY_HOST", "0.0.0.0"),
                ("PROXY_V4_PORT", "7004"),
                ("LAVALINK_V4_HOST", &host),
                ("LAVALINK_V4_PORT", port),
            ]);
            command.arg("--check");
            run(command)
        };
        for port in ["6923", "7004"] {
            let (output, out, err) = check(port);
            assert_eq!(output.status.code(), Some(2), "{host}: {out}{err}");
            assert!(err.starts_with(&format!("LAVALINK_V4_PORT={port}: {host}:{port} leads to ")), "{err}");
            assert!(out.is_empty() && err.lines().count() == 1, "{err}");
        }
        let (output, _, err) = check("2333");
        assert!(output.status.success(), "{host}: {err}");
    }
}

#[test]
fn check_prints_the_nodes_without_their_passwords() {
    let set = [
        ("LAVALINK_V4_NODES", "eu1=127.0.0.1:2333,eu2=[::1]:2334"),
        ("LAVALINK_V4_PASSWORD_EU2", SECRET),
        ("LAVALINK_V4_PATHS", "/youtube"),
    ];
    let mut command = lavaproxy(&set);
    command.arg("--check");
    let (output, out, err) = run(command);
    assert!(output.status.success() && err.is_empty(), "{err}");
    for line in [
        "LAVALINK_V4_NODES=eu1=127.0.0.1:2333, eu2=[::1]:2334",
        "LAVALINK_V4_PASSWORD_EU2=***",
        "LAVALINK_V4_PATHS=/youtube",
        "HEALTH_INTERVAL=5s",
    ] {
        assert!(out.lines().any(|printed| printed == line), "{line} in {out}");
    }
    assert!(!out.contains(SECRET), "{out}");
}

#[test]
fn settings_come_from_the_file_and_the_environment_wins() {
    let home = directory("files");
    fs::write(home.join("lavaproxy.env"), "PROXY_PORT=1111\nWEB_PORT=2222\n").unwrap();
    fs::write(home.join(".env"), "PROXY_PORT=3333\n").unwrap();
    fs::write(home.join("other.env"), "PROXY_PORT=4444\nPROXY_PASSWORD='hunter2-of-the-test'\n").unwrap();
    let check = |flags: &[&str], set: &[(&str, &str)]| {
        let mut command = lavaproxy(set);
        command.current_dir(&home).arg("--check").args(flags);
        let (output, out, err) = run(command);
        assert!(output.status.success(), "{err}");
        assert!(!out.contains(SECRET) && !err.contains(SECRET));
        out
    };
    let out = check(&[], &[("WEB_PORT", "5555")]);
    assert!(out.contains("PROXY_PORT=1111\n") && out.contains("WEB_PORT=5555\n"), "{out}");
    let out = check(&["--env-file", "other.env"], &[]);
    assert!(out.contains("PROXY_PORT=4444\n") && out.contains("PROXY_PASSWORD=***\n"), "{out}");
    fs::remove_file(home.join("lavaproxy.env")).unwrap();
    assert!(check(&[], &[]).contains("PROXY_PORT=3333\n"));

    let mut missing = lavaproxy(&[]);
    missing.args(["--check", "--env-file", "no-such-file"]);
    let (output, _, err) = run(missing);
    assert!(output.status.code() == Some(2) && err.contains("no-such-file"), "{err}");
}

#[test]
fn a_taken_port_is_an_error_that_says_what_to_do() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let (output, _, err) =
        run(lavaproxy(&[("PROXY_HOST", "127.0.0.1"), ("PROXY_PORT", &port), ("WEB_PORT", "0"), ("LOG_LEVEL", "off")]));
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.contains(&port) && err.contains("set another port"), "{err}");
}

#[test]
fn the_log_has_a_line_per_listener_backend_and_connection_and_no_secret() {
    let v4 = Backend::answering(OK);
    let port = v4.address.port().to_string();
    let mut running = Running::start(&[("LAVALINK_V4_PORT", &port), ("RUST_LOG", "trace"), ("LOG_LEVEL", "trace")]);
    for version in ["v3", "v4"] {
        running.line(&["event=node ", &format!("backend={version}@")]);
    }
    running.line(&["event=limit ", "connections=", "rule="]);
    let bots = running.listener("proxy");
    running.listener("web");

    let mut bot = Client::connect(bots);
    bot.send(format!("GET /v4/info?secret=query HTTP/1.1\r\nHost: x\r\nAuthorization: {SECRET}\r\n\r\n").as_bytes());
    assert_eq!(bot.response().status, 200);
    let (sent, received) = (bot.sent, bot.received);
    drop(bot);
    let line = running.line(&["event=ended "]);
    for (key, expected) in [
        ("listener", "proxy".to_owned()),
        ("kind", "http".to_owned()),
        ("version", "v4".to_owned()),
        ("backend", v4.address.to_string()),
        ("requests", "1".to_owned()),
        ("in", sent.to_string()),
        ("out", received.to_string()),
        ("reason", "client-closed".to_owned()),
    ] {
        assert_eq!(value(&line, key), expected, "{key} in {line}");
    }

    let mut lost = Client::connect(bots);
    lost.send(b"\x16\x03\x01\x02\x00\x01");
    assert_eq!(lost.response().status, 400);
    drop(lost);
    assert!(running.line(&["event=ended ", "reason=bad-request"]).contains("TLS"));

    running.signal("TERM");
    let (status, log) = running.end();
    assert!(status.success(), "{log}");
    assert!(!log.contains(SECRET), "{log}");
    assert!(!log.chars().any(|c| c.is_control() && c != '\n'), "{log}");
}

#[test]
fn a_signal_stops_the_process_and_a_second_one_stops_it_at_once() {
    let v4 = Backend::start(|mut client, _| {
        while let Some(request) = client.next_request() {
            if request.starts_with(b"GET /v4/websocket") {
                client.send(SWITCHING);
            }
        }
    });
    let port = v4.address.port().to_string();
    let head = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: x\r\nAuthorization: {SECRET}\r\n");
    for (signal, twice) in [("TERM", false), ("INT", false), ("TERM", true)] {
        let before = v4.accepted();
        let mut running =
            Running::start(&[("LAVALINK_V4_PORT", &port), ("DRAIN_TIMEOUT", if twice { "1h" } else { "200ms" })]);
        let bots = running.listener("proxy");
        running.listener("web");
        let mut tunnel = Client::connect(bots);
        tunnel.send(format!("{}{}\r\n", head("/v4/websocket"), support::HANDSHAKE).as_bytes());
        assert_eq!(tunnel.response().status, 101);
        let mut waiting = Client::connect(bots);
        waiting.send(format!("{}\r\n", head("/v4/never")).as_bytes());
        eventually("both have reached the backend", || v4.accepted() == before + 2);
        running.signal(signal);
        running.line(&["event=stopping "]);
        if twice {
            running.signal(signal);
        }
        let (status, log) = running.end();
        assert_eq!(status.code(), Some(i32::from(twice)), "{log}");
        if !twice {
            assert!(log.contains("event=stopped") && log.contains("reason=shutdown"), "{log}");
        }
    }
}

#[test]
fn a_paused_process_continues_with_all_its_connections() {
    let v4 = Backend::start(|mut client, _| {
        while let Some(request) = client.next_request() {
            assert!(request.starts_with(b"GET /v4/info "));
            client.send(OK);
        }
    });
    let running = &mut Running::start(&[("LAVALINK_V4_PORT", &v4.address.port().to_string())]);
    let [bots, web] = ["proxy", "web"].map(|listener| running.listener(listener));
    let request = format!("GET /v4/info HTTP/1.1\r\nHost: x\r\nAuthorization: {SECRET}\r\n\r\n");
    let (head, rest) = request.split_at(20);
    let mut kept = Client::connect(bots);
    assert_eq!(kept.send(request.as_bytes()).response().text(), "ok");
    let mut begun = Client::connect(bots);
    begun.send(head.as_bytes());
    let mut person = Client::connect(web);
    let ask = b"GET /api/version HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert_eq!(person.send(ask).response().status, 200);

    let state = |pid: u32| fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().contains(") T ");
    for _ in 0..3 {
        running.signal("STOP");
        eventually("it is paused", || state(running.child.id()));
        running.signal("CONT");
        eventually("it goes on", || !state(running.child.id()));
        assert_eq!(kept.send(request.as_bytes()).response().text(), "ok");
        assert_eq!(person.send(ask).response().status, 200);
    }
    assert_eq!(begun.send(rest.as_bytes()).response().text(), "ok");
    running.signal("TERM");
    running.line(&["event=stopped"]);
}

#[test]
fn the_demo_shows_live_numbers() {
    let mut command = lavaproxy(&[("PROXY_PORT", "0"), ("WEB_PORT", "0")]);
    let mut child = command.arg("--demo").stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    while !text.contains("Ctrl-C") {
        assert!(out.read_line(&mut text).unwrap() > 0, "{text}");
    }
    let url = text.split_whitespace().find_map(|word| word.strip_suffix("/api/stats")).unwrap();
    let web: SocketAddr = url.strip_prefix("http://").unwrap().parse().unwrap();
    let stats = || {
        let mut client = Client::connect(web);
        client.send(b"GET /api/stats HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        client.response().json()
    };
    eventually("bots of both versions are connected", || {
        let stats = stats();
        let rows = stats["connections"].as_array().unwrap().clone();
        ["v3", "v4"]
            .iter()
            .all(|version| rows.iter().any(|row| row["version"] == *version && row["kind"] == "websocket"))
    });
    let before = stats()["totals"]["bytesOut"].as_u64();
    eventually("the numbers move", || stats()["totals"]["bytesOut"].as_u64() > before);
    // The bots of a node that is killed stay connected.
    let sockets = || {
        let stats = stats();
        let rows = stats["connections"].as_array().unwrap().iter();
        let sockets = rows.filter(|row| row["kind"] == "websocket" && row["version"] == "v4");
        sockets.map(|row| (row["id"].as_u64().unwrap(), row["node"].as_str().unwrap().to_owned())).collect::<Vec<_>>()
    };
    let (bot, node) = sockets().pop().unwrap();
    let act = |action: &str| {
        let mut client = Client::connect(web);
        let target = format!("/api/demo/{node}/{action}");
        client.send(format!("POST {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes());
        client.response().status
    };
    assert_eq!(act("kill"), 200);
    eventually("its bot is on another node", || sockets().iter().any(|(id, present)| *id == bot && *present != node));
    assert_eq!((act("revive"), act("hide")), (200, 404));
    signal(child.id(), "TERM");
    assert!(child.wait().unwrap().success());
}
