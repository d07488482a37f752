//! What the node of an attempt sends until it has the session. Its frames are followed apart from those of the node before:
//! when a move fails, that one's stream goes on where it stood. Pure.

use std::fmt;

use super::node_frames::{NodeFrame, NodeFrames, Verdict};

/// The most bytes that wait: for the end of their frame, or for the success of a move.
const MAX_WAITING: usize = 1024 * 1024;

/// Why the node cannot have the session.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NextError {
    /// It closes the WebSocket, with this code.
    Closed(u16),
    /// Its frames are not understood, which is why.
    Strange(&'static str),
    /// It sends too much.
    TooMuch,
}

impl fmt::Display for NextError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(code) => write!(out, "closes the WebSocket with code {code}"),
            Self::Strange(why) => write!(out, "is not understood: {why}"),
            Self::TooMuch => write!(out, "sends more than {MAX_WAITING} bytes before it has the session"),
        }
    }
}

/// The frames of the node of an attempt, from the first byte behind `ready`.
#[derive(Default)]
pub(super) struct NextFrames {
    frames: NodeFrames,
    /// What the client gets.
    waiting: Vec<u8>,
}

impl NextFrames {
    /// Takes what was read. `judge` gets each whole frame.
    ///
    /// # Errors
    /// [`NextError`]. The node's close frame is not for the client, which has another node then.
    pub(super) fn take(
        &mut self,
        bytes: &[u8],
        mut judge: impl FnMut(NodeFrame<'_>) -> Verdict,
    ) -> Result<(), NextError> {
        let mut closed = None;
        let passed = self.frames.pass(bytes, |frame| match frame {
            _ if closed.is_some() => Verdict::Drop,
            NodeFrame::Close(payload) => {
                closed = Some(payload.first_chunk().map_or(0, |code| u16::from_be_bytes(*code)));
                Verdict::Drop
            }
            frame => judge(frame),
        });
        self.waiting.extend_from_slice(passed.of(bytes));
        match (closed, self.frames.strange()) {
            (Some(code), _) => Err(NextError::Closed(code)),
            (None, Some(why)) => Err(NextError::Strange(why)),
            (None, None) if self.waiting.len() > MAX_WAITING => Err(NextError::TooMuch),
            (None, None) => Ok(()),
        }
    }

    /// What the client gets now. It never gets a part of a frame whose rest may not come.
    pub(super) fn take_whole(&mut self) -> Vec<u8> {
        match self.frames.is_between_frames() {
            true => std::mem::take(&mut self.waiting),
            false => Vec::new(),
        }
    }

    /// The node has the session: its frames go on, and the client first gets what waits.
    pub(super) fn into_parts(self) -> (NodeFrames, Vec<u8>) {
        (self.frames, self.waiting)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_large_frame_waits_until_it_is_whole() {
        let frame = [&[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 1][..], &[b'x'; 0x1_0001]].concat();
        let mut next = NextFrames::default();
        next.take(&frame[..40_000], |_| Verdict::Pass).unwrap();
        assert!(next.take_whole().is_empty());
        next.take(&frame[40_000..], |_| Verdict::Pass).unwrap();
        assert!(next.take_whole() == frame);
    }

    #[test]
    fn what_waits_is_bounded() {
        let frame = [&[0x81, 127, 0, 0, 0, 0, 0x10, 0, 0, 0][..], &[b'x'; 40_000]].concat();
        let mut next = NextFrames::default();
        next.take(&frame, |_| Verdict::Pass).unwrap();
        let taken = (0..100).try_for_each(|_| next.take(&[b'x'; 40_000], |_| Verdict::Pass));
        assert_eq!(taken, Err(NextError::TooMuch));
        assert!(next.waiting.len() <= MAX_WAITING + 40_000);
    }

    #[test]
    fn a_close_frame_and_what_follows_it_end_the_attempt_alone() {
        let mut next = NextFrames::default();
        let mut seen = 0;
        let taken = next.take(b"\x81\x02hi\x88\x02\x03\xf3\x81\x02no", |_| {
            seen += 1;
            Verdict::Pass
        });
        assert_eq!((taken, seen, next.take_whole()), (Err(NextError::Closed(1011)), 1, b"\x81\x02hi".to_vec()));
        assert_eq!(next.take(b"\x82\x00", |_| Verdict::Pass), Err(NextError::Strange("a message is binary")));
    }
}
