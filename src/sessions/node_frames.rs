//! Follows the frames of a node to its client, so that the client's stream always stands between two frames when the
//! node is lost. A frame that has come in part is held back until it is whole; frames may be left out. Pure.

use super::frame::{BINARY, CLOSE, CONTINUATION, Head, PING, PONG, TEXT};

/// A frame that is larger is passed on as it comes, and never left out.
const MAX_HELD: u64 = 64 * 1024;
/// The most bytes of a buffer that stays when a burst is over.
const MAX_SPARE: usize = 4 * 1024;

/// What happens to a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The client gets it.
    Pass,
    /// The client does not get it.
    Drop,
    /// It is kept back until it is clear what follows.
    Keep,
}

/// What a client gets for bytes that were read.
#[derive(Debug, PartialEq, Eq)]
pub enum Passed<'f> {
    /// So many of them, from the first one on.
    First(usize),
    /// These in their place.
    Others(&'f [u8]),
}

impl<'f> Passed<'f> {
    /// What the client gets for `bytes`.
    pub fn of(self, bytes: &'f [u8]) -> &'f [u8] {
        match self {
            Self::First(count) => &bytes[..count],
            Self::Others(others) => others,
        }
    }
}

/// A whole frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeFrame<'b> {
    /// A message.
    Text(&'b [u8]),
    /// The answer to a ping.
    Pong(&'b [u8]),
    /// The end of the WebSocket.
    Close(&'b [u8]),
    /// A ping, or a message that is too large to be looked at.
    Other,
}

/// The frames from a node, from the first byte behind `ready`.
#[derive(Default)]
pub struct NodeFrames {
    /// A frame that has come in part.
    held: Vec<u8>,
    /// A frame that was kept back.
    kept: Vec<u8>,
    /// Bytes that are left of a large frame.
    left: u64,
    out: Vec<u8>,
    strange: Option<&'static str>,
}

impl NodeFrames {
    /// The frames from `bytes` on. The client gets so many bytes of `before` and `bytes` as they came. Where there is no
    /// number it gets [`out`](Self::out) in their place, as it always does when `before` is not what came.
    pub fn behind(
        before: &[u8],
        bytes: &[u8],
        is_replaced: bool,
        judge: impl FnMut(NodeFrame<'_>) -> Verdict,
    ) -> (Self, Option<usize>) {
        let mut frames = Self::default();
        let out = match frames.pass(bytes, judge) {
            Passed::First(count) if !is_replaced => return (frames, Some(before.len() + count)),
            passed => [before, passed.of(bytes)].concat(),
        };
        frames.out = out;
        (frames, None)
    }

    /// What the client gets in the place of the bytes that were read last.
    pub fn out(&self) -> &[u8] {
        &self.out
    }

    /// Takes what was read, and returns what the client gets now. `judge` gets each whole frame.
    pub fn pass(&mut self, bytes: &[u8], mut judge: impl FnMut(NodeFrame<'_>) -> Verdict) -> Passed<'_> {
        if self.strange.is_some() {
            return Passed::First(bytes.len());
        }
        if self.held.is_empty() {
            for spare in [&mut self.held, &mut self.out] {
                if spare.capacity() > MAX_SPARE {
                    *spare = Vec::new();
                }
            }
            let (end, is_edited) = self.walk(bytes, &mut judge);
            if end < bytes.len() {
                self.held.extend_from_slice(&bytes[end..]);
            }
            return if is_edited { Passed::Others(&self.out) } else { Passed::First(end) };
        }
        let mut all = std::mem::take(&mut self.held);
        all.extend_from_slice(bytes);
        let (end, is_edited) = self.walk(&all, &mut judge);
        if !is_edited {
            self.out.clear();
            self.out.extend_from_slice(&all[..end]);
        }
        all.drain(..end);
        self.held = all;
        Passed::Others(&self.out)
    }

    /// Why nothing is followed any more. Everything passes then.
    pub fn strange(&self) -> Option<&'static str> {
        self.strange
    }

    /// True when nothing was held back and the next byte begins a frame, or nothing is followed any more.
    pub fn holds_nothing(&self) -> bool {
        self.held.is_empty() && self.kept.is_empty()
    }

    /// True when the client has all of each frame that it has the beginning of.
    pub fn is_between_frames(&self) -> bool {
        self.left == 0 && self.strange.is_none()
    }

    /// What was held back when the stream ends, for a client that gets no other node.
    pub fn finish(&mut self) -> &[u8] {
        self.out.clear();
        self.out.append(&mut self.kept);
        self.out.append(&mut self.held);
        &self.out
    }

    /// Forgets what was held back.
    pub fn forget_held(&mut self) {
        (self.held, self.kept) = (Vec::new(), Vec::new());
    }

    /// Looks at each frame. Returns where the last whole one ends, and whether the client gets [`Self::out`] in place
    /// of the bytes before that.
    fn walk(&mut self, bytes: &[u8], judge: &mut impl FnMut(NodeFrame<'_>) -> Verdict) -> (usize, bool) {
        let mut at = 0;
        let mut is_edited = false;
        while at < bytes.len() {
            let begin = at;
            if self.left > 0 {
                let count = usize::try_from(self.left).map_or(bytes.len() - at, |left| left.min(bytes.len() - at));
                self.left -= count as u64;
                at += count;
            } else {
                let Some(head) = Head::parse(&bytes[at..]) else { break };
                if let Some(why) = strange(&head) {
                    self.strange = Some(why);
                    at = bytes.len();
                } else if head.payload > MAX_HELD {
                    judge(NodeFrame::Other);
                    at += head.length;
                    self.left = head.payload;
                } else {
                    let start = at + head.length;
                    // It is at most MAX_HELD.
                    let Some(payload) = bytes.get(start..start + head.payload as usize) else { break };
                    at = start + payload.len();
                    let verdict = judge(match head.opcode {
                        TEXT => NodeFrame::Text(payload),
                        PONG => NodeFrame::Pong(payload),
                        CLOSE => NodeFrame::Close(payload),
                        _ => NodeFrame::Other,
                    });
                    if verdict != Verdict::Pass {
                        if !is_edited {
                            self.out.clear();
                            self.out.extend_from_slice(&bytes[..begin]);
                            is_edited = true;
                        }
                        if verdict == Verdict::Keep {
                            self.kept.extend_from_slice(&bytes[begin..at]);
                        }
                        continue;
                    }
                }
            }
            if is_edited {
                self.out.extend_from_slice(&bytes[begin..at]);
            }
        }
        (at, is_edited)
    }
}

/// Why Lavalink would not send such a frame.
fn strange(head: &Head) -> Option<&'static str> {
    match *head {
        Head { mask: Some(_), .. } => Some("a frame is masked"),
        Head { reserved: true, .. } => Some("a frame is compressed, or has another reserved bit set"),
        Head { opcode: CONTINUATION, .. } | Head { fin: false, .. } => Some("a message is fragmented"),
        Head { opcode: BINARY, .. } => Some("a message is binary"),
        Head { opcode: TEXT | CLOSE | PING | PONG, .. } => None,
        _ => Some("a frame has an unknown opcode"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::http::random::Random;

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let length = match payload.len() {
            short @ ..=125 => vec![short as u8],
            long @ ..=0xffff => [&[126], &(long as u16).to_be_bytes()[..]].concat(),
            huge => [&[127], &(huge as u64).to_be_bytes()[..]].concat(),
        };
        [&[first], &length[..], payload].concat()
    }

    /// Drops messages that begin with `d`, keeps a close frame back.
    fn judge(frame: NodeFrame<'_>) -> Verdict {
        match frame {
            NodeFrame::Text([b'd', ..]) => Verdict::Drop,
            NodeFrame::Close(_) => Verdict::Keep,
            _ => Verdict::Pass,
        }
    }

    fn followed(pieces: &[&[u8]]) -> (Vec<u8>, NodeFrames) {
        let mut frames = NodeFrames::default();
        let mut got = Vec::new();
        for piece in pieces {
            got.extend_from_slice(frames.pass(piece, judge).of(piece));
        }
        (got, frames)
    }

    #[test]
    fn whole_frames_pass_and_others_are_left_out_wherever_the_stream_is_cut() {
        let large = vec![b'x'; 70_000];
        let parts = [
            (frame(0x81, b"hello"), true),
            (frame(0x81, b"drop me"), false),
            (frame(0x8a, b"pong"), true),
            (frame(0x81, &[b'y'; 300]), true),
            (frame(0x81, &large), true),
            (frame(0x81, b"drop"), false),
            (frame(0x81, b""), true),
        ];
        let stream = parts.iter().flat_map(|(bytes, _)| bytes.clone()).collect::<Vec<_>>();
        let expected = parts.iter().filter(|(_, passes)| *passes).flat_map(|(bytes, _)| bytes.clone());
        let expected: Vec<u8> = expected.collect();
        for cut in (0..500).chain(stream.len() - 100..=stream.len()) {
            let (got, frames) = followed(&[&stream[..cut], &stream[cut..]]);
            assert!(got == expected && frames.is_between_frames(), "cut at {cut}");
        }
        let mut random = Random(11);
        for size in [1, 2, 7, 4096] {
            let pieces: Vec<&[u8]> = stream.chunks(1 + random.below(size)).collect();
            assert!(followed(&pieces).0 == expected);
        }
    }

    #[test]
    fn a_frame_that_came_in_part_is_held_back() {
        let stream = frame(0x81, b"0123456789");
        for cut in 1..stream.len() {
            let (got, mut frames) = followed(&[&stream[..cut]]);
            assert!(got.is_empty() && frames.is_between_frames());
            assert_eq!(frames.finish(), &stream[..cut]);
            frames.forget_held();
            assert!(frames.finish().is_empty());
        }
    }

    #[test]
    fn a_burst_leaves_no_large_buffers_behind() {
        let small = frame(0x81, &[b'x'; 90]);
        let burst = small.repeat(500);
        let mut frames = NodeFrames::default();
        // Each piece ends within a frame.
        let mut got: usize = burst.chunks(16_000).map(|piece| frames.pass(piece, judge).of(piece).len()).sum();
        assert!(frames.held.capacity() + frames.out.capacity() > MAX_SPARE);
        got += frames.pass(&small, judge).of(&small).len();
        assert_eq!(got, burst.len() + small.len());
        assert!(frames.held.capacity() + frames.out.capacity() <= MAX_SPARE);
    }

    #[test]
    fn the_client_gets_ready_and_what_passes_behind_it() {
        let (text, dropped) = (frame(0x81, b"hello"), frame(0x81, b"drop me"));
        let begun = [&dropped[..], &text, &text[..3]].concat();
        let (mut frames, unchanged) = NodeFrames::behind(b"ready", &begun, true, judge);
        assert_eq!(unchanged, None);
        assert_eq!(frames.out(), [b"ready", &text[..]].concat());
        assert_eq!(frames.pass(&text[3..], judge), Passed::Others(&text));
        let (mut frames, unchanged) = NodeFrames::behind(b"ready", &[&text[..], &text[..3]].concat(), false, judge);
        assert_eq!(unchanged, Some(5 + text.len()));
        assert_eq!(frames.pass(&text[3..], judge), Passed::Others(&text));
        assert_eq!(NodeFrames::behind(b"ready", &dropped, false, judge).1, None);
    }

    #[test]
    fn a_large_frame_that_is_cut_is_not_at_its_end() {
        let stream = frame(0x81, &vec![b'x'; 70_000]);
        let (got, frames) = followed(&[&stream[..40_000]]);
        assert!(got == stream[..40_000] && !frames.is_between_frames());
    }

    #[test]
    fn a_close_frame_is_kept_back_until_the_end() {
        let (text, close) = (frame(0x81, b"hello"), frame(0x88, &[0x03, 0xe9]));
        let (got, mut frames) = followed(&[&text, &close]);
        assert_eq!(got, text);
        assert_eq!(frames.finish(), close);
    }

    #[test]
    fn from_a_strange_frame_on_everything_passes() {
        for strange in [
            b"\x01\x02he".to_vec(),
            b"\x80\x03llo".to_vec(),
            b"\xc1\x01x".to_vec(),
            b"\x82\x01x".to_vec(),
            b"\x83\x00".to_vec(),
            b"\x81\x81\0\0\0\0x".to_vec(),
        ] {
            let stream = [frame(0x81, b"hello"), frame(0x81, b"drop"), strange, frame(0x81, b"drop")].concat();
            let expected = [frame(0x81, b"hello"), stream[frame(0x81, b"hello").len() + 6..].to_vec()].concat();
            for pieces in [vec![&stream[..]], stream.chunks(1).collect()] {
                let (got, frames) = followed(&pieces);
                assert!(got == expected && frames.strange().is_some() && !frames.is_between_frames());
            }
        }
    }

    #[test]
    fn no_bytes_make_it_panic_or_lose_any() {
        let mut random = Random(5);
        for _ in 0..2000 {
            let mut frames = NodeFrames::default();
            let (mut sent, mut got) = (Vec::new(), Vec::new());
            for _ in 0..4 {
                let bytes: Vec<u8> = (0..random.below(200)).map(|_| random.byte()).collect();
                sent.extend_from_slice(&bytes);
                got.extend_from_slice(frames.pass(&bytes, |_| Verdict::Pass).of(&bytes));
            }
            got.extend_from_slice(frames.finish());
            assert!(got == sent);
        }
    }
}
