//! The one message that all tunnels of a load send, with room for the moment at which it was sent.

use std::time::Duration;

use crate::wire;

const STAMP: usize = 8;
/// What Lavalink sends most, up to the stamp and behind it. The stamp is a part of a number.
const UPDATE: (&[u8], &[u8]) = (
    br#"{"op":"playerUpdate","state":{"time":17639"#,
    br#","position":61234,"connected":true,"ping":12},"guildId":"170939974227591168"}"#,
);

pub struct Message {
    /// Where its handshake goes.
    pub target: &'static str,
    pub sent: Vec<u8>,
    pub echo: Vec<u8>,
    /// What comes before the first echo.
    pub preface: usize,
    payload: usize,
    /// Its place in the payload.
    stamp: usize,
    is_text: bool,
}

impl Message {
    /// Bytes that say nothing.
    pub fn binary(length: usize) -> Self {
        let payload: Vec<u8> = (0..length).map(|at| b'a' + (at % 23) as u8).collect();
        Self { target: wire::ECHOES, preface: 0, ..Self::new(wire::BINARY, &payload, 0) }
    }

    /// The same for the v3 node.
    pub fn binary_of_v3(length: usize) -> Self {
        Self { target: wire::V3_ECHOES, ..Self::binary(length) }
    }

    /// A `playerUpdate` of a session.
    pub fn update() -> Self {
        let (before, behind) = UPDATE;
        let payload = [before, &[b'0'; STAMP], behind].concat();
        let preface = wire::ready(0).len();
        Self { target: wire::SESSION, preface, ..Self::new(wire::TEXT, &payload, before.len()) }
    }

    fn new(first: u8, payload: &[u8], stamp: usize) -> Self {
        Self {
            target: wire::ECHOES,
            sent: wire::client_frame(first, payload),
            echo: wire::server_frame(first, payload),
            preface: 0,
            payload: payload.len(),
            stamp,
            is_text: first == wire::TEXT,
        }
    }

    /// Where the stamp begins and ends in the echo.
    fn place(&self) -> (usize, usize) {
        let start = self.echo.len() - self.payload + self.stamp;
        (start, start + STAMP)
    }

    /// How much of the echo tells when it was sent.
    pub fn beginning(&self) -> usize {
        self.place().1
    }

    /// Writes the moment into what is sent: nanoseconds, or microseconds as digits.
    pub fn stamp(&mut self, now: Duration) {
        let stamp = match self.is_text {
            true => format!("{:08}", now.as_micros() % 100_000_000).into_bytes(),
            false => (now.as_nanos() as u64).to_be_bytes().to_vec(),
        };
        let start = self.sent.len() - self.payload;
        for (at, byte) in stamp.into_iter().enumerate().map(|(index, byte)| (self.stamp + index, byte)) {
            self.sent[start + at] = byte ^ wire::MASK[at % wire::MASK.len()];
        }
    }

    /// The moment in the beginning of an echo; none if that is no echo of this message.
    pub fn moment(&self, beginning: &[u8]) -> Option<Duration> {
        let (start, end) = self.place();
        let stamp = beginning.get(start..end).filter(|_| self.echo.starts_with(&beginning[..start]))?;
        match self.is_text {
            true => Some(Duration::from_micros(std::str::from_utf8(stamp).ok()?.parse().ok()?)),
            false => Some(Duration::from_nanos(u64::from_be_bytes(stamp.try_into().ok()?))),
        }
    }
}
