//! Finds the `Resume-Key` that a v3 client sets for its living session: by the op `configureResuming` over its
//! WebSocket, or by `PATCH /v3/sessions/ID`. Pure; it changes no bytes.

use serde_json::Value;

use super::frame::{BINARY, CLOSE, CONTINUATION, Head, PING, PONG, PartialHead, TEXT};
use super::resume::KeyHash;
use super::resuming::Resuming;

/// A message or a body with more bytes is not looked at.
const MAX_LOOK: usize = 1024;
const OP: &str = "configureResuming";
/// Lavalink's own, in seconds.
const DEFAULT_TIMEOUT: i64 = 60;

/// The key that the body of a `PATCH /v3/sessions/ID` sets.
pub fn key_of_patch(body: &[u8]) -> Option<KeyHash> {
    key_in(parse(body)?.get("resumingKey")?)
}

/// The key that a message sets, if it is the op `configureResuming`.
fn key_of_message(payload: &[u8]) -> Option<KeyHash> {
    // Most messages are other ops, which need no parsing.
    if !payload.windows(OP.len()).any(|window| window == OP.as_bytes()) {
        return None;
    }
    let message = parse(payload)?;
    if message.get("op")? == OP { key_in(message.get("key")?) } else { None }
}

/// What a message sets, if it is the op `configureResuming`.
pub(super) fn setting_of_message(payload: &[u8]) -> Option<Resuming> {
    let message = parse(payload)?;
    let timeout = message.get("timeout").and_then(Value::as_i64).unwrap_or(DEFAULT_TIMEOUT);
    let key = message.get("key")?.as_str()?.to_owned();
    (message.get("op")? == OP).then(|| Resuming::by_key(key, timeout))
}

fn parse(json: &[u8]) -> Option<Value> {
    if json.len() > MAX_LOOK {
        return None;
    }
    serde_json::from_slice(json).ok()
}

fn key_in(value: &Value) -> Option<KeyHash> {
    KeyHash::of(value.as_str()?.as_bytes())
}

/// Watches the frames of a client for the op `configureResuming`. It looks at small text messages of one frame, and
/// steps over the rest by length. At a frame that no client may send it stops for good.
#[derive(Default)]
pub struct ConfigureResumingWatcher {
    head: PartialHead,
    /// Bytes that are left of the frame's payload.
    left: u64,
    /// The masking key, when the payload is looked at.
    mask: Option<[u8; 4]>,
    /// What has come of it, unmasked.
    payload: Vec<u8>,
    stopped: bool,
}

impl ConfigureResumingWatcher {
    /// Looks at the next bytes from the client, from the first byte after its handshake. Returns the key that the
    /// session has from now on, when a message ends in these bytes that sets one; of several, the last.
    pub fn pass(&mut self, mut bytes: &[u8]) -> Option<KeyHash> {
        let mut key = None;
        while !self.stopped && !bytes.is_empty() {
            bytes = if self.left > 0 { self.take_payload(bytes, &mut key) } else { self.take_head(bytes) };
        }
        key
    }

    /// True when it looks at nothing any more, and can be dropped.
    pub fn has_stopped(&self) -> bool {
        self.stopped
    }

    fn take_head<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let (head, count) = self.head.take(bytes);
        if let Some(head) = head {
            self.begin(&head);
        }
        &bytes[count..]
    }

    fn begin(&mut self, head: &Head) {
        let valid = matches!(head.opcode, CONTINUATION | TEXT | BINARY | CLOSE | PING | PONG) && !head.reserved;
        self.stopped = !valid || head.mask.is_none();
        let candidate = head.opcode == TEXT && head.fin && head.payload <= MAX_LOOK as u64;
        self.mask = head.mask.filter(|_| candidate);
        self.left = head.payload;
    }

    fn take_payload<'b>(&mut self, bytes: &'b [u8], key: &mut Option<KeyHash>) -> &'b [u8] {
        let count = usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
        let (now, rest) = bytes.split_at(count);
        self.left -= count as u64;
        if let Some(mask) = self.mask {
            let masks = mask.into_iter().cycle().skip(self.payload.len() % mask.len());
            self.payload.extend(now.iter().zip(masks).map(|(byte, mask)| byte ^ mask));
            if self.left == 0 {
                *key = key_of_message(&self.payload).or(*key);
                self.payload.clear();
            }
        }
        rest
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::http::random::Random;

    const SET: &str = r#"{"op":"configureResuming","key":"my-key-1","timeout":60}"#;
    const PLAY: &str = r#"{"op":"play","guildId":"1","track":"QAAAcwIA"}"#;
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

    fn frame(first: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
        let payload = payload.as_ref();
        let length = match payload.len() {
            short @ ..=125 => vec![0x80 | short as u8],
            long @ ..=0xffff => [&[0x80 | 126], &(long as u16).to_be_bytes()[..]].concat(),
            huge => [&[0x80 | 127], &(huge as u64).to_be_bytes()[..]].concat(),
        };
        let masked: Vec<u8> = payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        [&[first], &length[..], &MASK, &masked].concat()
    }

    fn key(text: &str) -> Option<KeyHash> {
        KeyHash::of(text.as_bytes())
    }

    /// The keys that are found in a stream of pieces.
    fn found<'p>(watcher: &mut ConfigureResumingWatcher, pieces: impl IntoIterator<Item = &'p [u8]>) -> Vec<String> {
        pieces.into_iter().filter_map(|piece| watcher.pass(piece)).map(KeyHash::to_hex).collect()
    }

    fn check(stream: &[u8], keys: &[&str], stops: bool) {
        let expected: Vec<String> = keys.iter().map(|text| key(text).unwrap().to_hex()).collect();
        let cuts = (0..=stream.len()).map(|cut| vec![&stream[..cut], &stream[cut..]]);
        for pieces in cuts.chain([stream.chunks(1).collect()]) {
            let mut watcher = ConfigureResumingWatcher::default();
            assert_eq!(found(&mut watcher, pieces), expected, "{}", stream.escape_ascii());
            assert_eq!(watcher.has_stopped(), stops, "{}", stream.escape_ascii());
            assert!(watcher.payload.capacity() <= 2 * MAX_LOOK);
        }
    }

    #[test]
    fn a_key_is_found_wherever_the_frame_is_cut() {
        check(&frame(0x81, SET), &["my-key-1"], false);
        let around = [frame(0x81, PLAY), frame(0x89, "hi"), frame(0x81, SET), frame(0x81, PLAY)].concat();
        check(&around, &["my-key-1"], false);
    }

    #[test]
    fn the_fields_may_come_in_any_order_and_with_white_space() {
        check(
            &frame(0x81, "{ \"key\" : \"a\\u0062\",\n\"timeout\":1, \"op\" : \"configureResuming\" }"),
            &["ab"],
            false,
        );
    }

    #[test]
    fn of_two_keys_in_one_read_the_last_counts() {
        let stream = [frame(0x81, SET), frame(0x81, SET.replace("my-key-1", "my-key-2")), frame(0x81, PLAY)].concat();
        assert!(ConfigureResumingWatcher::default().pass(&stream) == key("my-key-2"));
    }

    #[test]
    fn messages_that_set_no_key_are_passed_over() {
        for payload in [
            "",
            "{}",
            PLAY,
            OP,
            r#"{"op":"configureResuming"}"#,
            r#"{"op":"configureResuming","key":null}"#,
            r#"{"op":"configureResuming","key":""}"#,
            r#"{"op":"configureResuming","key":5}"#,
            r#"{"op":"play","track":"configureResuming","key":"x"}"#,
            r#"{"x":{"op":"configureResuming","key":"x"}}"#,
            r#"["configureResuming","x"]"#,
            r#"{"op":"configureResuming","key":"x""#,
        ] {
            check(&[frame(0x81, payload), frame(0x81, SET)].concat(), &["my-key-1"], false);
        }
    }

    #[test]
    fn other_frames_are_stepped_over() {
        let large = format!("{SET}{}", " ".repeat(MAX_LOOK));
        for other in [
            frame(0x82, SET),
            frame(0x01, SET),
            frame(0x80, SET),
            frame(0x8a, ""),
            frame(0x88, [3, 232]),
            frame(0x81, large),
        ] {
            check(&[&other[..], &frame(0x81, SET)].concat(), &["my-key-1"], false);
        }
        let huge = [frame(0x81, vec![b' '; 70_000]), frame(0x81, SET)].concat();
        for piece in [1, 1000, huge.len()] {
            assert_eq!(found(&mut ConfigureResumingWatcher::default(), huge.chunks(piece)).len(), 1);
        }
    }

    #[test]
    fn the_largest_message_that_is_looked_at_has_1_kib() {
        let padded = |length| format!("{SET}{}", " ".repeat(length - SET.len()));
        check(&frame(0x81, padded(1024)), &["my-key-1"], false);
        check(&frame(0x81, padded(1025)), &[], false);
    }

    #[test]
    fn a_frame_that_no_client_may_send_stops_the_watcher() {
        let unmasked = [&[0x81, SET.len() as u8][..], SET.as_bytes()].concat();
        for strange in [unmasked, frame(0xc1, SET), frame(0x91, SET), frame(0x83, SET), frame(0x8f, SET), vec![0x81, 0]]
        {
            check(&[&frame(0x81, SET)[..], &strange, &frame(0x81, SET)].concat(), &["my-key-1"], true);
        }
    }

    #[test]
    fn no_bytes_make_it_panic_or_grow() {
        let mut random = Random(7);
        for _ in 0..2000 {
            let mut watcher = ConfigureResumingWatcher::default();
            for _ in 0..4 {
                let mut bytes: Vec<u8> = (0..random.below(300)).map(|_| random.byte()).collect();
                if random.below(2) == 0 {
                    bytes.splice(0..0, [0x81, 0xfe, 4, 0]);
                }
                watcher.pass(&bytes);
                assert!(watcher.payload.len() <= MAX_LOOK);
            }
        }
    }

    #[test]
    fn a_patch_of_the_session_sets_its_key() {
        for (body, expected) in [
            (r#"{"resumingKey":"my-key-1","timeout":10}"#, key("my-key-1")),
            ("{ \"timeout\": 10, \"resumingKey\": \"my-key-1\" }", key("my-key-1")),
            (r#"{"resumingKey":null}"#, None),
            (r#"{"resumingKey":""}"#, None),
            (r#"{"resuming":true,"timeout":10}"#, None),
            (r#"{"x":{"resumingKey":"a"}}"#, None),
            (r#"[{"resumingKey":"a"}]"#, None),
            (r#"{"resumingKey":"a""#, None),
            ("", None),
        ] {
            assert!(key_of_patch(body.as_bytes()) == expected, "{body}");
        }
        let large = format!(r#"{{"resumingKey":"a"{}}}"#, " ".repeat(MAX_LOOK));
        assert!(key_of_patch(large.as_bytes()).is_none());
    }
}
