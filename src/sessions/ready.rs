//! Follows what a node sends after its 101 until `ready`, the message that gives the client its session id. Where a
//! version has more than one node, the id in it gets the node's name (see [`super::id`]). Pure: bytes in, bytes out.
//!
//! `ready` is one small text frame, and the first or the second message. Control frames between do not count.

use serde::Deserialize;

use super::frame::{BINARY, CLOSE, CONTINUATION, Head, MAX_CONTROL, PING, PONG, TEXT};
use super::id::SEPARATOR;

/// A message with more bytes is not `ready`, and is never held.
const MAX_MESSAGE: u64 = 1024;
/// Room for Lavalink's `ready` and its head.
const READY: usize = 128;
/// `ready` is one of so many messages.
const MESSAGES: u8 = 2;

/// What `ready` said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The session's id as the node knows it.
    pub session_id: String,
    /// True when the node has resumed the session.
    pub resumed: bool,
}

/// How the search for `ready` ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was found, and rewritten where the filter rewrites.
    Ready(Ready),
    /// The node sent something else, which has passed unchanged: the reason, for the log.
    NotUnderstood(&'static str),
}

/// A filter for the bytes from a node to a client, from the first byte after the 101. Once it [is done](Self::is_done)
/// everything passes unchanged, and it can be dropped.
pub struct ReadyFilter {
    /// What goes before the session id. Empty when nothing is rewritten.
    prefix: Vec<u8>,
    /// The beginning of a frame that is not decided yet: its head, and its payload if that can be `ready`.
    held: Vec<u8>,
    /// Bytes that are left of a frame that cannot be `ready`.
    left: u64,
    messages: u8,
    done: bool,
    outcome: Option<Outcome>,
    out: Vec<u8>,
    /// How many of the bytes that were fed last came behind the end of the search.
    behind: usize,
}

impl ReadyFilter {
    /// Puts the node's name before the session id.
    pub fn rewriting(node: &str) -> Self {
        let prefix = [node.as_bytes(), &[SEPARATOR]].concat();
        Self { prefix, ..Self::watching() }
    }

    /// Only looks: everything passes at once and unchanged.
    pub fn watching() -> Self {
        Self {
            prefix: Vec::new(),
            held: Vec::with_capacity(READY),
            left: 0,
            messages: 0,
            done: false,
            outcome: None,
            out: Vec::new(),
            behind: 0,
        }
    }

    /// Takes what was read from the node. True when the client must get [`replaced`](Self::replaced) in its place now,
    /// false when it must get the bytes as they are. A filter that rewrites holds back one frame at the most, of no more
    /// than 1 KiB and its head.
    pub fn feed(&mut self, bytes: &[u8]) -> bool {
        if self.done {
            return false;
        }
        if self.left >= bytes.len() as u64 {
            self.left -= bytes.len() as u64;
            return false;
        }
        self.out.clear();
        let mut rest = bytes;
        while !self.done && !rest.is_empty() {
            rest = if self.left > 0 { self.step_over(rest) } else { self.hold(rest) };
        }
        self.replace_by(rest);
        self.behind = rest.len();
        self.rewrites()
    }

    fn rewrites(&self) -> bool {
        !self.prefix.is_empty()
    }

    /// The client gets these bytes, where anything is replaced.
    fn replace_by(&mut self, bytes: &[u8]) {
        if self.rewrites() {
            self.out.extend_from_slice(bytes);
        }
    }

    /// How many of the bytes that were fed last came behind `ready`.
    pub fn behind(&self) -> usize {
        self.behind
    }

    /// What the client gets in the place of the bytes that were fed last.
    pub fn replaced(&self) -> &[u8] {
        &self.out
    }

    /// What is held back when the node's stream ends, and must still go to the client.
    pub fn finish(&mut self) -> &[u8] {
        self.done = true;
        if self.rewrites() { &self.held } else { &[] }
    }

    /// True when everything passes unchanged from now on.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// How the search ended: once, after the bytes that ended it have passed. Never, when the node closed before.
    pub fn take_outcome(&mut self) -> Option<Outcome> {
        self.outcome.take()
    }

    /// Lets bytes of a frame that cannot be `ready` pass. Returns those behind it.
    fn step_over<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let count = usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
        self.left -= count as u64;
        self.replace_by(&bytes[..count]);
        &bytes[count..]
    }

    /// Takes bytes up to the next point where something can be decided: a head byte by byte, a payload at once.
    /// Returns those behind it.
    fn hold<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let wanted = match Head::parse(&self.held) {
            None => 1,
            Some(head) => whole_length(&head).saturating_sub(self.held.len()),
        };
        let (taken, rest) = bytes.split_at(wanted.min(bytes.len()));
        self.held.extend_from_slice(taken);
        if let Some(head) = Head::parse(&self.held) {
            self.look(&head);
        }
        rest
    }

    /// Decides about the frame that is held, as far as it has come.
    fn look(&mut self, head: &Head) {
        match kind(head) {
            Kind::Small if self.held.len() < whole_length(head) => {}
            Kind::Small => match find_ready(&self.held[head.length..]) {
                Ok(Some((at, ready))) => self.rewrite(head, at, ready),
                Ok(None) => {
                    self.release();
                    self.count_message();
                }
                Err(why) => self.give_up(why),
            },
            Kind::Large => {
                self.release();
                self.left = head.payload;
                self.count_message();
            }
            Kind::Control => {
                self.release();
                self.left = head.payload;
            }
            Kind::Close => {
                self.release();
                self.done = true;
            }
            Kind::Strange(why) => self.give_up(why),
        }
    }

    fn release(&mut self) {
        if self.rewrites() {
            self.out.append(&mut self.held);
        }
        self.held.clear();
    }

    fn count_message(&mut self) {
        self.messages += 1;
        if self.messages == MESSAGES {
            self.give_up("neither of the first two messages is ready");
        }
    }

    fn give_up(&mut self, why: &'static str) {
        self.release();
        self.done = true;
        self.outcome = Some(Outcome::NotUnderstood(why));
    }

    /// Passes `ready` on with the prefix at this place of its payload, and with the length that it then has.
    fn rewrite(&mut self, head: &Head, at: usize, ready: Ready) {
        if self.rewrites() {
            let (before, after) = self.held[head.length..].split_at(at);
            let length = before.len() + self.prefix.len() + after.len();
            self.out.push(self.held[0]);
            match u8::try_from(length) {
                Ok(short @ ..=125) => self.out.push(short),
                // MAX_MESSAGE and a node's name are far below the 65,535 bytes of this form.
                _ => self.out.extend_from_slice(&[126, (length >> 8) as u8, length as u8]),
            }
            for part in [before, &self.prefix, after] {
                self.out.extend_from_slice(part);
            }
        }
        self.held.clear();
        self.done = true;
        self.outcome = Some(Outcome::Ready(ready));
    }
}

/// What a frame is to the search.
enum Kind {
    /// A message that can be `ready`.
    Small,
    /// A message that cannot.
    Large,
    /// No message.
    Control,
    /// Nothing comes behind it.
    Close,
    /// Lavalink sends no such frame.
    Strange(&'static str),
}

fn kind(head: &Head) -> Kind {
    match *head {
        Head { mask: Some(_), .. } => Kind::Strange("a frame is masked"),
        Head { reserved: true, .. } => Kind::Strange("a frame is compressed, or has another reserved bit set"),
        Head { opcode: CLOSE, .. } => Kind::Close,
        Head { opcode: PING | PONG, fin: true, payload: ..=MAX_CONTROL, .. } => Kind::Control,
        Head { opcode: PING | PONG, .. } => Kind::Strange("a control frame is fragmented or too long"),
        Head { opcode: TEXT | CONTINUATION, fin: false, .. } | Head { opcode: CONTINUATION, .. } => {
            Kind::Strange("a message is fragmented")
        }
        Head { opcode: TEXT, payload: ..=MAX_MESSAGE, .. } => Kind::Small,
        Head { opcode: TEXT, .. } => Kind::Large,
        Head { opcode: BINARY, .. } => Kind::Strange("a message is binary"),
        _ => Kind::Strange("a frame has an unknown opcode"),
    }
}

/// The length of a small frame with its head.
fn whole_length(head: &Head) -> usize {
    usize::try_from(head.payload).unwrap_or(usize::MAX).saturating_add(head.length)
}

/// The fields of a message that matter here. Strings with escapes do not fit in, as Lavalink needs none in these.
#[derive(Deserialize)]
struct Message<'m> {
    #[serde(default)]
    op: &'m str,
    #[serde(default, rename = "sessionId")]
    session_id: &'m str,
    #[serde(default)]
    resumed: bool,
}

/// What a payload says if it is `ready`, and where its session id begins.
pub(super) fn find_ready(payload: &[u8]) -> Result<Option<(usize, Ready)>, &'static str> {
    // An array of the fields' values would be taken for an object.
    if !payload.trim_ascii_start().starts_with(b"{") {
        return Err("a message is not a JSON object");
    }
    let message: Message =
        serde_json::from_slice(payload).map_err(|_| "a message is not the JSON that Lavalink sends")?;
    if message.op != "ready" {
        return Ok(None);
    }
    if message.session_id.is_empty() {
        return Err("ready has no session id");
    }
    // The id is a slice of the payload.
    let at = message.session_id.as_ptr().addr() - payload.as_ptr().addr();
    Ok(Some((at, Ready { session_id: message.session_id.to_owned(), resumed: message.resumed })))
}

#[cfg(test)]
mod tests;
