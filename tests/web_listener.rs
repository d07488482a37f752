//! Hostile clients at the web listener: after each attack the next client is served within two seconds, and nothing
//! stays behind.
//!
//! A process of its own, because it counts what the process holds. One attack at a time, on one proxy for all.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/attack.rs"]
mod attack;
mod support;
#[path = "support/web.rs"]
mod web;

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::{Duration, Instant};

use attack::*;
use socket2::{Domain, Socket, Type};
use support::*;
use web::get;

#[test]
fn absurd_and_conflicting_lengths() {
    let attack = Attack::begin();
    for method in ["GET", "POST", "HEAD"] {
        for fields in [
            "Content-Length: 999999999999999\r\n",
            "Content-Length: 18446744073709551615\r\n",
            "Content-Length: 18446744073709551616\r\n",
            "Content-Length: -1\r\n",
            "Content-Length: +1\r\n",
            "Content-Length: 0x10\r\n",
            "Content-Length: 1, 1\r\n",
            "Content-Length:\r\n",
            "Content-Length: 0\r\nContent-Length: 7\r\n",
            "Content-Length: 7\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 7\r\n",
        ] {
            for path in ["/", "/api/health/check"] {
                let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
                let mut client = attack.connect();
                let status = client.send(head.as_bytes()).response_to("HEAD").status;
                assert!([400, 405, 413].contains(&status), "{status} {head}");
            }
        }
        attack.serves();
    }
    attack.leaves_no_mark();
}

#[test]
fn unknown_codings() {
    let attack = Attack::begin();
    for coding in ["xchunked", "chunkedx", "gzip", "gzip, chunked", "chunked, chunked", "identity", "", "\x0bchunked"] {
        for _ in 0..10 {
            let head = format!(
                "POST /api/health/check HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: {coding}\r\n\r\n0\r\n\r\n"
            );
            let status = attack.status(head.as_bytes());
            assert!([400, 501].contains(&status), "{status} {coding:?}");
        }
    }
    attack.leaves_no_mark();
}

#[test]
fn hundreds_of_http_2_requests() {
    let attack = Attack::begin();
    for _ in 0..300 {
        assert_eq!(attack.status(b"GET / HTTP/2.0\r\nHost: localhost\r\n\r\n"), 505);
        assert_eq!(attack.status(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 505);
    }
    attack.leaves_no_mark();
}

#[test]
fn resets_before_accept_and_at_every_later_moment() {
    let attack = Attack::begin();
    for number in 0..600 {
        let mut client = attack.connect();
        match number % 4 {
            0 => {}
            1 => drop(client.try_send(b"GET /api/st")),
            2 => drop(client.try_send(b"GET /api/stats HTTP/1.1\r\nHost: localhost\r\n\r\n")),
            _ => {
                client.send(b"GET /api/stats HTTP/1.1\r\nHost: localhost\r\n\r\n");
                client.exactly(1);
            }
        }
        client.reset();
    }
    attack.leaves_no_mark();
}

#[test]
fn bodies_that_never_come() {
    let attack = Attack::begin();
    for body in
        ["Content-Length: 10\r\n", "Transfer-Encoding: chunked\r\n", "Content-Length: 10\r\nExpect: 100-continue\r\n"]
    {
        let head = format!("POST /api/health/check HTTP/1.1\r\nHost: localhost\r\n{body}\r\n");
        let held: Vec<_> = (0..100)
            .map(|_| {
                let mut client = attack.connect();
                // Some are refused before they have sent a byte.
                let _ = client.try_send(head.as_bytes());
                client
            })
            .collect();
        attack.serves();
        drop(held);
    }
    attack.leaves_no_mark();
}

#[test]
fn readers_that_never_read() {
    let attack = Attack::begin();
    let ledger = attack.proxy.server.ledger();
    let rows: Vec<_> =
        (0..200u32).map(|row| ledger.open((Ipv4Addr::from(0x0A00_0000 + row), 1).into(), "proxy")).collect();
    let requests = b"GET /api/stats HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(20);
    let held: Vec<_> = (0..64)
        .map(|_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.set_recv_buffer_size(4096).unwrap();
            socket.connect(&attack.proxy.listener("web").into()).unwrap();
            let _ = (&socket).write(&requests);
            socket
        })
        .collect();
    for _ in 0..5 {
        attack.serves();
    }
    drop(held);
    drop(rows);
    attack.leaves_no_mark();
}

#[test]
fn a_header_line_of_64_mib() {
    let attack = Attack::begin();
    let piece = [b'a'; 64 * 1024];
    for start in ["GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: ", "GET /", ""] {
        let mut client = attack.connect();
        client.send(start.as_bytes());
        let mut sent = 0;
        while sent < 64 * 1024 * 1024 && client.try_send(&piece).is_ok() {
            sent += piece.len();
        }
        assert!(sent < 64 * 1024 * 1024, "all of it was taken");
        attack.serves();
    }
    attack.leaves_no_mark();
}

#[test]
fn endless_pipelining() {
    let attack = Attack::begin();
    let requests = b"GET /api/version HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(100);
    while_under_fire(
        40,
        |number, over| {
            let mut stream = attack.connect().stream;
            // Half of them never read.
            let reader = stream.try_clone().ok().filter(|_| number % 2 == 0);
            let reader = reader.map(|mut reader| thread::spawn(move || io::copy(&mut reader, &mut io::sink())));
            stream.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
            let mut sent = 0;
            while !over.load(SeqCst) {
                match stream.write(&requests[sent..]) {
                    Ok(count) => sent = (sent + count) % requests.len(),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(_) => break,
                }
            }
            let _ = stream.shutdown(Shutdown::Both);
            drop(reader.map(|reader| reader.join()));
        },
        || {
            for _ in 0..20 {
                attack.serves();
            }
        },
    );
    attack.leaves_no_mark();
}

#[test]
fn six_hundred_idle_connections() {
    let attack = Attack::begin();
    for beginning in [&b""[..], b"GET /api/st", b"GET /api/version HTTP/1.1\r\nHost: localhost\r\n\r\n"] {
        let mut held = Vec::new();
        for number in 0..600 {
            let mut client = attack.connect();
            let _ = client.try_send(beginning);
            held.push(client);
            if number % 100 == 50 {
                attack.serves();
            }
        }
        attack.serves();
        drop(held);
    }
    attack.leaves_no_mark();
}

#[test]
fn no_descriptor_left() {
    let attack = Attack::begin();
    let (soft, hard) = rlimit::Resource::NOFILE.get().unwrap();
    let mut held = Vec::new();
    rlimit::Resource::NOFILE.set((descriptors() as u64 + 200).min(soft), hard).unwrap();
    let mut take_all = || {
        while let Ok(file) = File::open("/dev/null") {
            held.push(file)
        }
    };
    take_all();
    // Whenever one comes free, a client takes it, and accept has none; or accept has one, and the pages' socket none.
    let mut clients = Vec::new();
    for _ in 0..20 {
        held.truncate(held.len() - 2);
        clients.extend(TcpStream::connect(attack.proxy.listener("web")).ok());
        if let Some(client) = clients.last_mut() {
            let _ = client.write_all(b"GET /api/version HTTP/1.1\r\nHost: localhost\r\n\r\n");
        }
        // Time for the listener to try to accept, which nothing shows.
        thread::sleep(Duration::from_millis(20));
        while let Ok(file) = File::open("/dev/null") {
            held.push(file);
        }
    }
    drop((held, clients));
    rlimit::Resource::NOFILE.set(soft, hard).unwrap();
    let started = Instant::now();
    eventually("it serves again", || get(attack.proxy, "/api/version").status == 200);
    assert!(started.elapsed() < SOON, "only after {:?}", started.elapsed());
    attack.leaves_no_mark();
}

#[test]
fn no_other_user_reaches_the_private_socket() {
    let attack = Attack::begin();
    attack.serves();
    let name = format!("/lavaproxy-{}-", std::process::id());
    let sockets = fs::read_to_string("/proc/net/unix").unwrap();
    let path = sockets.lines().find_map(|line| line.split(' ').next_back().filter(|path| path.contains(&name)));
    let path = Path::new(path.expect("no private socket"));
    let directory = path.parent().unwrap();
    assert_eq!(fs::metadata(directory).unwrap().permissions().mode() & 0o777, 0o700);
    let can_connect = |user: Option<u32>| {
        let mut test = Command::new("/usr/bin/test");
        test.arg("-w").arg(path);
        if let Some(user) = user {
            test.uid(user).gid(user);
        }
        test.status().unwrap().success()
    };
    assert!(can_connect(None));
    const NOBODY: u32 = 65534;
    if fs::metadata("/proc/self").map(|own| std::os::unix::fs::MetadataExt::uid(&own)).unwrap() == 0 {
        assert!(!can_connect(Some(NOBODY)));
    } else {
        tool::say(
            "skipped in part: only the mode of the socket's folder is checked, since trying it as another user needs root",
        );
    }
}
