//! Stopping: what is idle ends at once, what is under way ends well or at its deadline, and nothing is left.
//!
//! One test at a time, since they count what the process holds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;
#[path = "support/tunnels.rs"]
mod tunnels;

use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use support::*;
use tunnels::Tunnels;

/// What stopping may take where it need not wait for DRAIN_TIMEOUT, which is 10 s: a client's closing read takes 2 s of it,
/// the last turns of idle workers 1 s.
const A_MOMENT: Duration = Duration::from_secs(8);

const REQUEST: &str = "GET /v4/info HTTP/1.1\r\nHost: bot\r\nAuthorization: DevamOP\r\n\r\n";

/// A WebSocket close frame with the code 1001.
const GOING_AWAY: [u8; 4] = [0x88, 2, 0x03, 0xe9];

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long stopping took.
fn stop(proxy: &Proxy) -> Duration {
    let started = Instant::now();
    proxy.server.stop();
    started.elapsed()
}

fn shutdowns(proxy: &Proxy) -> u64 {
    proxy.server.ledger().snapshot().ended["shutdown"]
}

/// A listener may take a moment to close. A client that still gets in is not served.
fn assert_refuses(listener: SocketAddr) {
    eventually("the listener refuses", || {
        let Ok(stream) = TcpStream::connect(listener) else { return true };
        let mut late = Client::over(stream);
        let _ = late.try_send(REQUEST.as_bytes());
        late.read_error();
        assert_eq!(late.received, 0, "no request is answered after the stop");
        false
    });
}

#[test]
fn idle_connections_close_at_once_and_the_listeners_refuse() {
    let _alone = alone();
    let backend = Backend::answering(OK);
    let proxy = Proxy::before(backend.address, backend.address, &[("PROXY_V3_PORT", "0"), ("PROXY_V4_PORT", "0")]);
    let listeners = ["proxy", "proxy-v3", "proxy-v4", "web"].map(|name| proxy.listener(name));
    let mut idle = Vec::new();
    for listener in &listeners[..3] {
        let mut client = Client::connect(*listener);
        assert_eq!(client.get("/v3/info", "").status, 200);
        idle.push(client);
    }
    let mut silent = proxy.connect();
    eventually("all have a slot", || proxy.server.ledger().snapshot().totals.active == 4);
    let time = stop(&proxy);
    assert!(time < A_MOMENT, "{time:?} where nothing is under way, with a DRAIN_TIMEOUT of 10 s");
    for client in &mut idle {
        assert!(client.is_at_end());
    }
    assert!(silent.is_at_end());
    proxy.wait_until_empty();
    assert_eq!(shutdowns(&proxy), 4);
    listeners.into_iter().for_each(assert_refuses);
}

#[test]
fn a_request_under_way_is_answered() {
    let _alone = alone();
    let mut busy = stop_amid_a_request(OK, |busy| {
        busy.send(REQUEST.as_bytes());
    });
    assert_eq!(busy.response().text(), "ok");
    assert!(busy.is_at_end());
}

#[test]
fn a_handshake_under_way_is_answered_and_its_tunnel_closed() {
    let _alone = alone();
    let mut busy = stop_amid_a_request(SWITCHING, |busy| {
        let head = REQUEST.strip_suffix("\r\n").unwrap();
        busy.send(format!("{head}{HANDSHAKE}\r\n").as_bytes());
    });
    assert_eq!(busy.response().status, 101);
    assert_eq!(busy.rest(), GOING_AWAY);
}

/// Stops a proxy while its backend holds an answer back. Returns the client that waits for this answer.
fn stop_amid_a_request(answer: &'static [u8], ask: impl FnOnce(&mut Client)) -> Client {
    let (go_on, answer_now) = mpsc::channel();
    let answer_now = Mutex::new(answer_now);
    let (arrived, arrival) = mpsc::channel();
    let backend = Backend::start(move |mut client, _| {
        while client.next_request().is_some() {
            arrived.send(()).unwrap();
            let _ = answer_now.lock().unwrap().recv();
            client.send(answer);
        }
    });
    let proxy = Arc::new(Proxy::before(backend.address, backend.address, &[]));
    let mut idle = proxy.connect();
    eventually("it has its slot", || proxy.server.ledger().snapshot().totals.active == 1);
    let mut busy = proxy.connect();
    ask(&mut busy);
    arrival.recv_timeout(PATIENCE).unwrap();

    let stopping = thread::spawn({
        let proxy = Arc::clone(&proxy);
        move || stop(&proxy)
    });
    assert!(idle.is_at_end(), "stopping has begun");
    assert!(!stopping.is_finished(), "it waits for the answer");
    go_on.send(()).unwrap();
    let time = stopping.join().unwrap();
    assert!(time < A_MOMENT, "{time:?} although the answer came, with a DRAIN_TIMEOUT of 10 s");
    proxy.wait_until_empty();
    assert_eq!(shutdowns(&proxy), 2);
    busy
}

#[test]
fn tunnels_end_on_both_sides() {
    let _alone = alone();
    let tunnels = Tunnels::start(&[]);
    let mut open: Vec<_> = (0..10).map(|_| tunnels.open()).collect();
    let time = stop(&tunnels.proxy);
    assert!(time < A_MOMENT, "{time:?} where no request is under way");
    for (client, backend) in &mut open {
        assert_eq!(client.rest(), GOING_AWAY);
        assert!(backend.is_at_end());
    }
    tunnels.proxy.wait_until_empty();
    assert_eq!(shutdowns(&tunnels.proxy), 10);
}

#[test]
fn a_tunnel_gets_a_close_frame_between_frames_and_not_within_one() {
    let _alone = alone();
    let tunnels = Tunnels::start(&[]);
    let text = [&[0x81, 126, 1, 0][..], &[b'x'; 256]].concat();
    let closed = [0x88, 2, 0x03, 0xe8];
    let streams = [vec![], text.clone(), text[..3].to_vec(), text[..100].to_vec(), [&text[..], &closed].concat()];
    let mut open: Vec<_> = streams.iter().map(|_| tunnels.open()).collect();
    for ((client, backend), stream) in open.iter_mut().zip(&streams) {
        backend.send(stream);
        assert_eq!(client.exactly(stream.len()), *stream);
    }
    let stopping = thread::scope(|scope| {
        let stopping = scope.spawn(|| stop(&tunnels.proxy));
        let ends = [&GOING_AWAY[..], &GOING_AWAY, &[], &[], &[]];
        for ((client, backend), expected) in open.iter_mut().zip(ends) {
            assert_eq!(client.rest(), expected);
            client.send(b"\x88\x82\0\0\0\0\x03\xe9").half_close();
            assert_eq!(backend.rest(), b"\x88\x82\0\0\0\0\x03\xe9", "the node hears the client's answer");
        }
        stopping.join().unwrap()
    });
    assert!(stopping < A_MOMENT, "{stopping:?} where all have taken leave");
    assert_eq!(shutdowns(&tunnels.proxy), 5);
}

#[test]
fn stalled_clients_do_not_delay_a_stop_beyond_the_drain_timeout() {
    let _alone = alone();
    let body = vec![b'x'; 32 * 1024 * 1024];
    let answer = [format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(), &body].concat();
    let backend = Backend::answering(answer);
    let tunnels = Tunnels::start(&[
        ("DRAIN_TIMEOUT", "300ms"),
        ("LAVALINK_V3_PORT", &backend.address.port().to_string()),
        ("RESPONSE_TIMEOUT", "60s"),
    ]);
    let proxy = &tunnels.proxy;
    let (mut half, mut deaf) = (proxy.connect(), proxy.connect());
    half.send(&REQUEST.as_bytes()[..REQUEST.len() - 2]);
    deaf.send(REQUEST.replace("/v4/", "/v3/").as_bytes());
    let (deaf_in_a_tunnel, mut flooding) = tunnels.open();
    flooding.stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    while flooding.try_send(&body).is_ok() {}
    eventually("the answer stalls", || {
        let out = || proxy.server.ledger().snapshot().totals.traffic.amount.bytes_out;
        let before = out();
        thread::sleep(Duration::from_millis(100));
        before > 0 && before == out()
    });
    let time = stop(proxy);
    assert!(time < Duration::from_millis(300) + A_MOMENT, "{time:?}");
    proxy.wait_until_empty();
    drop((half, deaf, deaf_in_a_tunnel));
}

#[test]
fn a_silent_backend_does_not_delay_a_stop_beyond_the_drain_timeout() {
    let _alone = alone();
    let (arrived, arrival) = mpsc::channel();
    let backend = Backend::start(move |mut client, _| {
        client.next_request();
        arrived.send(()).unwrap();
        client.rest();
    });
    let set = [("DRAIN_TIMEOUT", "300ms"), ("RESPONSE_TIMEOUT", "14s")];
    let proxy = Proxy::before(backend.address, backend.address, &set);
    let mut client = proxy.connect();
    client.send(REQUEST.as_bytes());
    arrival.recv_timeout(PATIENCE).unwrap();
    let time = stop(&proxy);
    assert!(time < Duration::from_millis(300) + A_MOMENT, "{time:?}");
    assert!(client.is_at_end());
    proxy.wait_until_empty();
}

#[test]
fn a_dropped_server_leaves_nothing_behind() {
    let _alone = alone();
    eventually("the servers before have ended", || server_threads().is_empty());
    let backend = Backend::answering(OK);
    let descriptors_before = descriptors();
    let tunnels = Tunnels::start(&[("LAVALINK_V3_PORT", &backend.address.port().to_string())]);
    let mut clients: Vec<Client> = (0..5).map(|_| tunnels.proxy.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/v3/info", "").status, 200);
    }
    let open = [tunnels.open(), tunnels.open()];
    assert_eq!(tunnels.proxy.stats()["totals"]["active"], 7);
    for name in ["proxy", "web", "housekeeper"] {
        assert!(server_threads().iter().any(|thread| thread == name), "{name} is not among {:?}", server_threads());
    }
    drop(tunnels);
    drop((clients, open));
    eventually("no thread is left", || server_threads().is_empty());
    eventually("no descriptor is left", || descriptors() <= descriptors_before);
}

/// The names of the threads that a server started, but for tiny_http's idle ones, which stay for five seconds more.
fn server_threads() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    tasks
        .filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok())
        .map(|name| name.trim().to_owned())
        .filter(|name| ["proxy", "web", "housekeeper", "resolver"].contains(&name.as_str()))
        .collect()
}
