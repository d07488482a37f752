//! A tunnel carries every byte in order, passes on how each side ends, and one tunnel never delays another.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/segments.rs"]
mod segments;
mod support;
#[path = "support/tunnels.rs"]
mod tunnels;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Duration;

use segments::data_segments_in;
use socket2::{Domain, Socket, Type};
use support::*;
use tunnels::*;

const MIB: usize = 1024 * 1024;

/// Deadlines that a tunnel must not know of.
const HASTE: &[(&str, &str)] =
    &[("HEAD_TIMEOUT", "300ms"), ("KEEPALIVE_TIMEOUT", "300ms"), ("RESPONSE_TIMEOUT", "300ms")];

/// A connection with small buffers, so that it soon takes no more when its peer does not read.
fn connect_narrow(proxy: &Proxy) -> Client {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    socket.connect(&proxy.address().into()).unwrap();
    Client::over(socket.into())
}

/// What one read finds once this much has come.
fn one_read_of(stream: &TcpStream, expected: usize) -> Vec<u8> {
    let mut buffer = vec![0; 65536];
    eventually("it has all come", || stream.peek(&mut buffer).unwrap() >= expected);
    let count = read(stream, &mut buffer).unwrap();
    buffer.truncate(count);
    buffer
}

#[test]
fn the_101_is_a_segment_of_its_own_before_the_frames_that_came_with_it() {
    let frames = pattern(1, 3000);
    let glued = [SWITCHING, &frames].concat();
    let backend = Backend::start(move |mut client, number| {
        client.next_head();
        client.send(if number == 0 { SWITCHING } else { &glued });
        client.rest();
    });
    let proxy = Proxy::before(backend.address, backend.address, &[]);

    let mut alone = proxy.connect();
    alone.send(&handshake());
    let head = one_read_of(&alone.stream, 100);
    assert!(head.starts_with(b"HTTP/1.1 101 ") && head.ends_with(b"\r\n\r\n"));
    assert_eq!(data_segments_in(&alone.stream), 1);

    // With TCP_NODELAY and nothing under way, a write that fits is one segment, and the first is never held back.
    let mut together = proxy.connect();
    together.send(&handshake());
    let all = one_read_of(&together.stream, head.len() + frames.len());
    assert_same(&all[head.len()..], &frames, "the frames");
    assert_eq!(data_segments_in(&together.stream), 2, "head and frames are one write each");
}

#[test]
fn bytes_behind_either_handshake_head_come_first_and_in_order() {
    let (early, late) = (pattern(1, 5000), pattern(2, 5000));
    let answer = [SWITCHING, &pattern(3, 7000)].concat();
    let (hand_over, taken) = mpsc::channel();
    let backend = Backend::start(move |mut client, _| {
        let mut first = [0; 65536];
        let count = read(&client.stream, &mut first).unwrap();
        hand_over.send(first[..count].to_vec()).unwrap();
        client.send(&answer);
        hand_over.send(client.exactly(10_000)).unwrap();
        client.send(&pattern(4, 7000));
        client.rest();
    });
    let proxy = Proxy::before(backend.address, backend.address, &[]);
    let mut client = proxy.connect();
    client.send(&[handshake(), early.clone()].concat());
    let handshake = taken.recv_timeout(PATIENCE).unwrap();
    assert!(handshake.ends_with(b"\r\n\r\n"), "what follows the handshake is held until the 101");
    assert_eq!(client.response().status, 101);
    client.send(&late);
    assert_same(&taken.recv_timeout(PATIENCE).unwrap(), &[early, late].concat(), "to the backend");
    assert_same(&client.exactly(14_000), &[pattern(3, 7000), pattern(4, 7000)].concat(), "to the client");
}

/// A bot's handshake.
fn handshake() -> Vec<u8> {
    format!("GET /v4/websocket HTTP/1.1\r\nHost: bot\r\nAuthorization: {PASSWORD}\r\n{HANDSHAKE}\r\n").into()
}

#[test]
fn a_client_that_gives_its_handshake_up_keeps_no_slot_while_the_node_is_silent() {
    for begun in ["", "HTTP/1.1 1"] {
        let node = Tap::answering(begun);
        let proxy = Proxy::before(node.backend.address, node.backend.address, &[("RESPONSE_TIMEOUT", "10m")]);
        let mut clients: Vec<Client> = (0..3).map(|_| proxy.connect()).collect();
        for client in &mut clients {
            client.send(&handshake());
        }
        eventually("the node has the handshakes", || node.seen().matches("\r\n\r\n").count() == 3);
        clients.pop().unwrap().reset();
        drop(clients.pop());
        clients[0].half_close();
        proxy.wait_until_empty();
        node.wait_until_closed();
        assert_eq!((proxy.ended("client-closed"), proxy.ended("client-reset")), (2, 1), "{begun}");
    }
}

#[test]
fn a_client_that_waits_for_a_slow_node_gets_its_tunnel() {
    let (answer, go) = mpsc::channel();
    let go = Mutex::new(go);
    let backend = Backend::start(move |mut client, _| {
        client.next_head();
        go.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        client.send(SWITCHING).echo();
    });
    let proxy = Proxy::before(backend.address, backend.address, &[("RESPONSE_TIMEOUT", "10m")]);
    for early in ["", "early"] {
        let mut client = proxy.connect();
        client.send(&handshake()).send(early.as_bytes());
        assert_eq!(client.silent_for(Duration::from_millis(2500)), Some(ErrorKind::WouldBlock), "{early}");
        answer.send(()).unwrap();
        assert_eq!(client.response().status, 101, "{early}");
        client.send(b" and late");
        assert_eq!(client.exactly(early.len() + 9), [early.as_bytes(), b" and late"].concat());
    }
}

#[test]
fn much_data_passes_both_ways_at_once() {
    let tunnels = Tunnels::start(&[]);
    let (mut client, mut backend) = tunnels.open();
    let (up, down) = (pattern(1, 6 * MIB + 7), pattern(2, 6 * MIB + 13));
    let (sent, received) = (client.sent, client.received);
    let senders = [send_aside(&client, up.clone()), send_aside(&backend, down.clone())];
    let length = up.len();
    let arrived = thread::spawn(move || receive(&mut backend, length));
    assert_same(&receive(&mut client, down.len()), &down, "down");
    assert_same(&arrived.join().unwrap(), &up, "up");
    senders.into_iter().for_each(|sender| sender.join().unwrap());
    let row = |key: &str| tunnels.proxy.stats()["connections"][0][key].as_u64().unwrap();
    assert_eq!(row("bytesIn"), sent + up.len() as u64);
    eventually("all bytes out are counted", || row("bytesOut") == received + down.len() as u64);
}

#[test]
fn what_the_backend_sends_after_the_client_half_closed_still_arrives() {
    let tunnels = Tunnels::start(&[]);
    let (mut client, mut backend) = tunnels.open();
    client.send(b"last words").half_close();
    assert_eq!(backend.rest(), b"last words");
    let answer = pattern(1, 4 * MIB);
    let sender = send_aside(&backend, answer.clone());
    assert_same(&receive(&mut client, answer.len()), &answer, "after the half-close");
    sender.join().unwrap();
    assert_eq!(tunnels.proxy.server.ledger().snapshot().totals.active, 1, "half a tunnel is still one");
    drop(backend);
    assert!(client.is_at_end());
    tunnels.proxy.wait_until_empty();
    assert_eq!(tunnels.ended("client-closed"), 1);
}

#[test]
fn what_the_client_sends_after_the_backend_half_closed_still_arrives() {
    let tunnels = Tunnels::start(&[]);
    let (mut client, mut backend) = tunnels.open();
    backend.send(b"last words").half_close();
    assert_eq!(client.rest(), b"last words");
    let answer = pattern(1, 4 * MIB);
    let sender = send_aside(&client, answer.clone());
    assert_same(&receive(&mut backend, answer.len()), &answer, "after the half-close");
    sender.join().unwrap();
    assert_eq!(tunnels.proxy.server.ledger().snapshot().totals.active, 1, "half a tunnel is still one");
    drop(client);
    assert!(backend.is_at_end());
    tunnels.proxy.wait_until_empty();
    assert_eq!(tunnels.ended("backend-closed"), 1);
}

#[test]
fn a_reset_of_either_side_is_a_reset_of_the_other() {
    let tunnels = Tunnels::start(&[]);
    let (client, mut backend) = tunnels.open();
    client.reset();
    assert_eq!(backend.read_error(), Some(ErrorKind::ConnectionReset));
    tunnels.proxy.wait_until_empty();
    assert_eq!(tunnels.ended("client-reset"), 1);

    let (mut client, backend) = tunnels.open();
    backend.reset();
    assert_eq!(client.read_error(), Some(ErrorKind::ConnectionReset));
    tunnels.proxy.wait_until_empty();
    assert_eq!(tunnels.ended("backend-reset"), 1);
}

#[test]
fn a_reset_after_a_half_close_is_still_a_reset() {
    let tunnels = Tunnels::start(&[]);
    let (mut client, mut backend) = tunnels.open();
    client.half_close();
    assert!(backend.is_at_end());
    backend.reset();
    assert_eq!(client.read_error(), Some(ErrorKind::ConnectionReset));

    let (mut client, mut backend) = tunnels.open();
    backend.half_close();
    assert!(client.is_at_end());
    client.reset();
    assert_eq!(backend.read_error(), Some(ErrorKind::ConnectionReset));

    tunnels.proxy.wait_until_empty();
    assert_eq!((tunnels.ended("client-closed"), tunnels.ended("backend-closed")), (1, 1), "the first end counts");
}

/// Fills everything between a sender and its stalled peer.
fn flood(sender: &mut Client) {
    sender.stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let piece = vec![0; MIB];
    while sender.try_send(&piece).is_ok() {}
}

#[test]
fn a_reset_amid_a_stream_is_still_a_reset() {
    let tunnels = Tunnels::start(&[]);
    let (client, mut backend) = tunnels.open_over(connect_narrow(&tunnels.proxy));
    flood(&mut backend);
    client.reset();
    assert_eq!(backend.read_error(), Some(ErrorKind::ConnectionReset), "of the client");
    tunnels.proxy.wait_until_empty();
    assert_eq!(tunnels.ended("client-reset"), 1);

    let (mut client, backend) = tunnels.open();
    flood(&mut client);
    backend.reset();
    assert_eq!(client.read_error(), Some(ErrorKind::ConnectionReset), "of the backend");
    tunnels.proxy.wait_until_empty();
    assert_eq!(tunnels.ended("backend-reset"), 1);
}

/// Which of the tunnel's two threads such a reset reaches first is chance, hence the rounds.
#[test]
fn a_reset_amid_a_brisk_stream_is_never_a_clean_end() {
    const ROUNDS: u64 = 200;
    let tunnels = Tunnels::start(&[]);
    for _ in 0..ROUNDS {
        let (mut client, backend) = tunnels.open();
        let streaming = thread::spawn(move || stream_until_it_ends(&backend.stream));
        receive(&mut client, 100_000);
        client.reset();
        assert_eq!(streaming.join().unwrap(), Some(ErrorKind::ConnectionReset));
    }
    tunnels.proxy.wait_until_empty();
    assert_eq!(tunnels.ended("client-reset"), ROUNDS);
}

/// Writes until a read finds the stream's end (`None`) or either fails.
fn stream_until_it_ends(stream: &TcpStream) -> Option<ErrorKind> {
    stream.set_nonblocking(true).unwrap();
    let mut stream = stream;
    loop {
        match stream.read(&mut [0]).and_then(|count| if count == 0 { Ok(()) } else { Err(ErrorKind::Other.into()) }) {
            Ok(()) => return None,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Some(error.kind()),
        }
        match stream.write(&[0; 3000]) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => return Some(error.kind()),
            _ => {}
        }
    }
}

#[test]
fn bytes_before_a_reset_are_delivered_if_the_peer_reads_them() {
    let tunnels = Tunnels::start(&[]);
    let (mut client, mut backend) = tunnels.open();
    backend.send(b"goodbye");
    assert_eq!(client.exactly(7), b"goodbye");
    backend.reset();
    assert_eq!(client.read_error(), Some(ErrorKind::ConnectionReset));
}

#[test]
fn a_stalled_client_holds_back_its_backend_and_no_other() {
    let tunnels = Tunnels::start(HASTE);
    let (mut stalled, mut backend) = tunnels.open_over(connect_narrow(&tunnels.proxy));
    let all = pattern(1, 64 * MIB);
    backend.stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut taken = 0;
    let refused = loop {
        match backend.stream.write(&all[taken..]) {
            Ok(count) => taken += count,
            Err(error) => break error.kind(),
        }
        assert!(taken < all.len(), "the proxy takes whatever comes");
    };
    assert_eq!(refused, ErrorKind::WouldBlock);
    let out = tunnels.proxy.server.ledger().snapshot().totals.traffic.amount.bytes_out;
    assert!(out < taken as u64, "{out} bytes of {taken} can have left");

    let (mut other, mut echo) = tunnels.open();
    for number in 0..100 {
        let frame = pattern(number, 100);
        other.send(&frame);
        assert_eq!(echo.exactly(100), frame);
        echo.send(&frame);
        assert_eq!(other.exactly(100), frame);
    }

    socket2::SockRef::from(&stalled.stream).set_recv_buffer_size(MIB).unwrap();
    assert_same(&receive(&mut stalled, taken), &all[..taken], "after the stall");
    backend.send(b"and on");
    assert_eq!(stalled.exactly(6), b"and on");
}

#[test]
fn a_stalled_backend_holds_its_client_back() {
    let tunnels = Tunnels::prepared(HASTE, |end| {
        socket2::SockRef::from(&end.stream).set_recv_buffer_size(16 * 1024).unwrap();
    });
    let (client, mut backend) = tunnels.open();
    let all = pattern(1, 64 * MIB);
    client.stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut taken = 0;
    while let Ok(count) = (&client.stream).write(&all[taken..]) {
        taken += count;
        assert!(taken < all.len(), "the proxy takes whatever comes");
    }
    socket2::SockRef::from(&backend.stream).set_recv_buffer_size(MIB).unwrap();
    assert_same(&receive(&mut backend, taken), &all[..taken], "after the stall");
    drop(client);
    assert!(backend.is_at_end());
}

#[test]
fn the_counts_are_exact_after_every_frame() {
    let tunnels = Tunnels::start(&[]);
    let (mut client, mut backend) = tunnels.open();
    for size in [1, 125, 126, 4095, 4096, 4097, 65_536, 100_000] {
        client.send(&pattern(1, size));
        assert_same(&backend.exactly(size), &pattern(1, size), "up");
        backend.send(&pattern(2, size + 1));
        assert_same(&client.exactly(size + 1), &pattern(2, size + 1), "down");
        let expected = (client.sent, client.received);
        // A write is counted when it returns, which may be after its bytes were read.
        eventually("the counts are the client's own", || {
            let snapshot = tunnels.proxy.server.ledger().snapshot();
            let (row, usage) = (&snapshot.connections[0], &snapshot.usage[0].used);
            assert!(row.traffic.amount.bytes_in <= expected.0 && row.traffic.amount.bytes_out <= expected.1);
            (row.traffic.amount.bytes_in, row.traffic.amount.bytes_out) == expected
                && (usage.traffic.amount.bytes_in, usage.traffic.amount.bytes_out) == expected
        });
    }
}

#[test]
fn small_frames_follow_a_burst() {
    let tunnels = Tunnels::start(&[]);
    let (mut client, mut backend) = tunnels.open();
    for round in 0..3 {
        let burst = pattern(round, MIB);
        let sender = send_aside(&backend, burst.clone());
        assert_same(&receive(&mut client, MIB), &burst, "the burst");
        sender.join().unwrap();
        // More than it takes for the large buffer to be given back.
        for number in 0..40 {
            let frame = pattern(number, 1 + number as usize * 7);
            backend.send(&frame);
            assert_eq!(client.exactly(frame.len()), frame);
            client.send(&frame);
            assert_eq!(backend.exactly(frame.len()), frame);
        }
    }
}

#[test]
fn silence_ends_no_tunnel() {
    let tunnels = Tunnels::start(HASTE);
    let (mut client, mut backend) = tunnels.open();
    for stream in [&client.stream, &backend.stream] {
        stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let kind = (&*stream).read(&mut [0]).unwrap_err().kind();
        assert_eq!(kind, ErrorKind::WouldBlock, "nothing comes, not even an end");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    client.send(b"still");
    assert_eq!(backend.exactly(5), b"still");
    backend.send(b"here");
    assert_eq!(client.exactly(4), b"here");
}
