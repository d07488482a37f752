//! Follows the frames of a client to its node: pings, the close frame, and small messages. It changes no bytes. Pure.

use super::frame::{BINARY, CLOSE, CONTINUATION, Head, MAX_CONTROL, PING, PONG, PartialHead, TEXT};

/// A message with more bytes is not looked at.
const MAX_LOOK: u64 = 1024;

/// A whole frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientFrame<'f> {
    /// A ping with its payload.
    Ping(&'f [u8]),
    /// The end of the WebSocket, with code and reason.
    Close(&'f [u8]),
    /// A message; `None` when messages are not looked at, or this one is too large or in fragments.
    Message(Option<&'f [u8]>),
    /// No client may send such a frame. Nothing behind it is followed.
    Strange,
}

/// The frames of a client, from the first byte after its handshake.
pub struct ClientFrames {
    looks_at_messages: bool,
    head: PartialHead,
    /// The frame whose payload comes.
    frame: Option<Frame>,
    /// What has come of the payload, unmasked, if it is looked at.
    payload: Vec<u8>,
    stopped: bool,
}

struct Frame {
    opcode: u8,
    is_looked_at: bool,
    mask: [u8; 4],
    left: u64,
}

impl ClientFrames {
    /// Nothing has come yet.
    pub fn new(looks_at_messages: bool) -> Self {
        Self { looks_at_messages, head: PartialHead::default(), frame: None, payload: Vec::new(), stopped: false }
    }

    /// Looks at the next bytes; `found` gets each whole frame. Returns where the frame ends that was under way before,
    /// if it ends within these bytes.
    pub fn pass(&mut self, bytes: &[u8], mut found: impl FnMut(ClientFrame<'_>)) -> Option<usize> {
        let was_within = self.is_within();
        let mut end = None;
        let mut at = 0;
        while at < bytes.len() && !self.stopped {
            at += match self.frame {
                None => self.take_head(&bytes[at..]),
                Some(_) => self.take_payload(&bytes[at..]),
            };
            if self.frame.as_ref().is_some_and(|frame| frame.left == 0) {
                self.complete(&mut found);
            }
            if self.stopped {
                found(ClientFrame::Strange);
            } else if was_within && end.is_none() && !self.is_within() {
                end = Some(at);
            }
        }
        end
    }

    /// True within a frame.
    pub fn is_within(&self) -> bool {
        !self.head.is_empty() || self.frame.is_some()
    }

    fn take_head(&mut self, bytes: &[u8]) -> usize {
        let (head, count) = self.head.take(bytes);
        if let Some(head) = head {
            self.begin(&head);
        }
        count
    }

    fn begin(&mut self, head: &Head) {
        let is_control = matches!(head.opcode, CLOSE | PING | PONG);
        let is_known = is_control || matches!(head.opcode, CONTINUATION | TEXT | BINARY);
        let is_bad_control = is_control && (!head.fin || head.payload > MAX_CONTROL);
        match head.mask {
            Some(mask) if is_known && !head.reserved && !is_bad_control => {
                let is_message = self.looks_at_messages && head.opcode == TEXT && head.fin && head.payload <= MAX_LOOK;
                let is_looked_at = is_message || matches!(head.opcode, CLOSE | PING);
                self.frame = Some(Frame { opcode: head.opcode, is_looked_at, mask, left: head.payload });
            }
            _ => self.stopped = true,
        }
    }

    fn take_payload(&mut self, bytes: &[u8]) -> usize {
        let Some(frame) = &mut self.frame else { return bytes.len() };
        let count = usize::try_from(frame.left).map_or(bytes.len(), |left| left.min(bytes.len()));
        frame.left -= count as u64;
        if frame.is_looked_at {
            let known = self.payload.len();
            self.payload.extend_from_slice(&bytes[..count]);
            for (at, byte) in self.payload.iter_mut().enumerate().skip(known) {
                *byte ^= frame.mask[at % frame.mask.len()];
            }
        }
        count
    }

    fn complete(&mut self, found: &mut impl FnMut(ClientFrame<'_>)) {
        let Some(frame) = self.frame.take() else { return };
        match frame.opcode {
            PING => found(ClientFrame::Ping(&self.payload)),
            CLOSE => found(ClientFrame::Close(&self.payload)),
            PONG => {}
            _ => found(ClientFrame::Message(frame.is_looked_at.then_some(&self.payload))),
        }
        // What is looked at is rare. Its memory is not kept.
        if frame.is_looked_at {
            self.payload = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::http::random::Random;

    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let length = match payload.len() {
            short @ ..=125 => vec![0x80 | short as u8],
            long => [&[0x80 | 126], &(long as u16).to_be_bytes()[..]].concat(),
        };
        let masked: Vec<u8> = payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        [&[first], &length[..], &MASK, &masked].concat()
    }

    fn found(pieces: &[&[u8]]) -> (Vec<String>, ClientFrames) {
        let mut frames = ClientFrames::new(true);
        let mut all = Vec::new();
        for piece in pieces {
            frames.pass(piece, |frame| {
                all.push(match frame {
                    ClientFrame::Ping(payload) => format!("ping {}", payload.escape_ascii()),
                    ClientFrame::Close(payload) => format!("close {}", payload.escape_ascii()),
                    ClientFrame::Message(payload) => format!("message {:?}", payload.map(<[u8]>::len)),
                    ClientFrame::Strange => "strange".to_owned(),
                });
            });
        }
        (all, frames)
    }

    #[test]
    fn frames_are_found_wherever_the_stream_is_cut() {
        let stream = [
            frame(0x89, b"one"),
            frame(0x81, b"{}"),
            frame(0x89, b""),
            frame(0x8a, b"pong"),
            frame(0x81, &[b'x'; 2000]),
            frame(0x01, b"part"),
            frame(0x80, b"part"),
            frame(0x88, &[3, 232]),
        ]
        .concat();
        let expected =
            ["ping one", "message Some(2)", "ping ", "message None", "message None", "message None", r"close \x03\xe8"];
        for cut in 0..=stream.len() {
            let (all, frames) = found(&[&stream[..cut], &stream[cut..]]);
            assert!(all == expected && !frames.is_within(), "cut at {cut}: {all:?}");
        }
        assert_eq!(found(&stream.chunks(1).collect::<Vec<_>>()).0, expected);
    }

    #[test]
    fn messages_are_not_looked_at_where_they_do_not_count() {
        let mut frames = ClientFrames::new(false);
        let mut all = Vec::new();
        frames.pass(&[frame(0x81, b"{}"), frame(0x89, b"1")].concat(), |frame| all.push(format!("{frame:?}")));
        assert_eq!(all, ["Message(None)", "Ping([49])"]);
    }

    #[test]
    fn the_end_of_the_frame_under_way_is_told() {
        let (first, second) = (frame(0x89, b"12345"), frame(0x81, b"{}"));
        let stream = [&first[..], &second].concat();
        for cut in 0..stream.len() {
            let mut frames = ClientFrames::new(true);
            frames.pass(&stream[..cut], |_| {});
            let end = frames.pass(&stream[cut..], |_| {});
            let expected = match cut {
                0 => None,
                cut if cut < first.len() => Some(first.len() - cut),
                cut if cut == first.len() => None,
                cut => Some(stream.len() - cut),
            };
            assert_eq!(end, expected, "cut at {cut}");
        }
    }

    #[test]
    fn a_frame_that_no_client_may_send_ends_the_search() {
        for strange in [b"\x81\x02{}".to_vec(), frame(0xc1, b"x"), frame(0x83, b"x"), frame(0x89, &[0; 126])] {
            let (all, _) = found(&[&frame(0x89, b"1"), &strange, &frame(0x89, b"2")]);
            assert_eq!(all, ["ping 1", "strange"]);
        }
    }

    #[test]
    fn no_bytes_make_it_panic_or_grow() {
        let mut random = Random(3);
        for _ in 0..2000 {
            let mut frames = ClientFrames::new(true);
            for _ in 0..4 {
                let bytes: Vec<u8> = (0..random.below(300)).map(|_| random.byte()).collect();
                frames.pass(&bytes, |_| {});
                assert!(frames.payload.len() <= MAX_LOOK as usize);
            }
        }
    }
}
