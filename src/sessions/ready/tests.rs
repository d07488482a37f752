#![allow(clippy::unwrap_used)]

use super::*;
use crate::http::random::Random;

const V4: &str = r#"{"op":"ready","resumed":false,"sessionId":"5fr7okxwgml5cack"}"#;
const V4_REWRITTEN: &str = r#"{"op":"ready","resumed":false,"sessionId":"eu1.5fr7okxwgml5cack"}"#;
const V3: &str = r#"{"resumed":true,"sessionId":"05rzx9zxnw0cbiz9","op":"ready"}"#;
const V3_REWRITTEN: &str = r#"{"resumed":true,"sessionId":"eu1.05rzx9zxnw0cbiz9","op":"ready"}"#;
const STATS: &str = r#"{"op":"stats","frameStats":null,"players":0,"playingPlayers":0,"uptime":76277,"memory":{"free":61,"used":59,"allocated":120,"reservable":2048},"cpu":{"cores":2,"systemLoad":0.0,"lavalinkLoad":0.52}}"#;
const UPDATE: &str = r#"{"op":"playerUpdate","guildId":"1","state":{"sessionId":"x","op":"ready"}}"#;
const PONG_FRAME: [u8; 4] = [0x8a, 2, b'h', b'i'];

/// What the client gets when these bytes come.
fn pass<'a>(filter: &'a mut ReadyFilter, bytes: &'a [u8]) -> &'a [u8] {
    if filter.feed(bytes) { filter.replaced() } else { bytes }
}

fn text(payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let length = match payload.len() {
        short @ ..=125 => vec![short as u8],
        long @ ..=0xffff => [&[126], &(long as u16).to_be_bytes()[..]].concat(),
        huge => [&[127], &(huge as u64).to_be_bytes()[..]].concat(),
    };
    [&[0x81], &length[..], payload].concat()
}

fn ready(id: &str, resumed: bool) -> Outcome {
    Outcome::Ready(Ready { session_id: id.to_owned(), resumed })
}

fn v4_ready() -> Outcome {
    ready("5fr7okxwgml5cack", false)
}

/// All that comes out of a filter that gets these pieces and then the end, and how the search ended.
fn run<'p>(mut filter: ReadyFilter, pieces: impl IntoIterator<Item = &'p [u8]>) -> (Vec<u8>, Option<Outcome>) {
    let (mut out, mut outcome) = (Vec::new(), None);
    for piece in pieces {
        let done = filter.is_done();
        let passed = pass(&mut filter, piece);
        assert!(!done || passed == piece, "a filter that is done changes nothing");
        out.extend_from_slice(passed);
        assert!(filter.held.len() <= 10 + 1024, "no more than one small frame is held");
        if let Some(now) = filter.take_outcome() {
            assert_eq!(outcome.replace(now), None, "the search ends once");
            assert!(filter.is_done());
        }
    }
    out.extend_from_slice(filter.finish());
    assert!(filter.is_done());
    (out, outcome)
}

/// Feeds a stream whole, byte by byte and cut at every place, to a filter that rewrites and to one that only looks.
fn check(stream: &[u8], expected: &[u8], outcome: Option<&Outcome>) {
    let cuts = (0..=stream.len()).map(|cut| vec![&stream[..cut], &stream[cut..]]);
    for pieces in cuts.chain([stream.chunks(1).collect()]) {
        let (out, ended) = run(ReadyFilter::rewriting("eu1"), pieces.iter().copied());
        let first = pieces[0].len();
        assert_eq!(out.escape_ascii().to_string(), expected.escape_ascii().to_string(), "cut at {first}");
        assert_eq!(ended.as_ref(), outcome, "cut at {first}");
        let mut watching = ReadyFilter::watching();
        pieces.iter().for_each(|piece| assert_eq!(pass(&mut watching, piece), *piece, "cut at {first}"));
        assert_eq!(watching.take_outcome().as_ref(), outcome, "cut at {first}");
        assert!(watching.finish().is_empty());
    }
}

fn check_not_understood(stream: &[u8], why: &'static str) {
    check(stream, stream, Some(&Outcome::NotUnderstood(why)));
}

#[test]
fn ready_is_rewritten_wherever_it_is_cut() {
    let updates = [text(UPDATE), text(STATS)].concat();
    let pong = PONG_FRAME.to_vec();
    for (ready_text, rewritten, outcome) in
        [(V4, V4_REWRITTEN, v4_ready()), (V3, V3_REWRITTEN, ready("05rzx9zxnw0cbiz9", true))]
    {
        let (ready_text, rewritten) = (text(ready_text), text(rewritten));
        assert_eq!(ready_text[..2], [0x81, ready_text.len() as u8 - 2]);
        check(&ready_text, &rewritten, Some(&outcome));
        for (before, after) in [
            (&[][..], &updates),
            (&text(STATS), &updates),
            (&pong, &updates),
            (&[&pong[..], &text(STATS), &pong, &pong].concat(), &pong),
        ] {
            let stream = [before, &ready_text, after].concat();
            check(&stream, &[before, &rewritten, after].concat(), Some(&outcome));
        }
    }
}

#[test]
fn a_second_ready_passes_unchanged() {
    check(&[text(V4), text(V4)].concat(), &[text(V4_REWRITTEN), text(V4)].concat(), Some(&v4_ready()));
}

#[test]
fn white_space_and_the_order_of_fields_stay() {
    for (payload, rewritten) in [
        (
            "\r\n { \"sessionId\" :\t\"5fr7okxwgml5cack\" , \"op\" : \"ready\" } \n",
            "\r\n { \"sessionId\" :\t\"eu1.5fr7okxwgml5cack\" , \"op\" : \"ready\" } \n",
        ),
        (
            r#"{"x":{"sessionId":"5fr7okxwgml5cack","op":"stats"},"y":"5fr7okxwgml5cack","sessionId":"5fr7okxwgml5cack","op":"ready"}"#,
            r#"{"x":{"sessionId":"5fr7okxwgml5cack","op":"stats"},"y":"5fr7okxwgml5cack","sessionId":"eu1.5fr7okxwgml5cack","op":"ready"}"#,
        ),
        (
            r#"{"op":"ready","\u0073essionId":"5fr7okxwgml5cack"}"#,
            r#"{"op":"ready","\u0073essionId":"eu1.5fr7okxwgml5cack"}"#,
        ),
    ] {
        check(&text(payload), &text(rewritten), Some(&v4_ready()));
    }
}

#[test]
fn the_length_takes_the_form_that_the_rewritten_frame_needs() {
    // The payload's length, and the first bytes of the frame that the client gets: 4 bytes more.
    for (length, head) in [
        (120, &[0x81, 124][..]),
        (121, &[0x81, 125]),
        (122, &[0x81, 126, 0, 126]),
        (125, &[0x81, 126, 0, 129]),
        (126, &[0x81, 126, 0, 130]),
        (251, &[0x81, 126, 0, 255]),
        (252, &[0x81, 126, 1, 0]),
        (1024, &[0x81, 126, 4, 4]),
    ] {
        let padded = |text: &str, length| format!("{text}{}", " ".repeat(length - text.len()));
        let stream = text(padded(V4, length));
        let expected = [head, padded(V4_REWRITTEN, length + 4).as_bytes()].concat();
        check(&[&stream[..], &PONG_FRAME].concat(), &[&expected[..], &PONG_FRAME].concat(), Some(&v4_ready()));
    }
}

#[test]
fn a_length_in_a_longer_form_than_needed_is_read() {
    for head in [&[0x81, 126, 0, 61][..], &[0x81, 127, 0, 0, 0, 0, 0, 0, 0, 61]] {
        check(&[head, V4.as_bytes()].concat(), &text(V4_REWRITTEN), Some(&v4_ready()));
    }
}

#[test]
fn a_large_message_before_ready_is_not_held() {
    for size in [1025, 65_535, 70_000] {
        let large = text(vec![b' '; size]);
        let stream = [&large[..], &text(V4), &PONG_FRAME].concat();
        let expected = [&large[..], &text(V4_REWRITTEN), &PONG_FRAME].concat();
        for piece in [1, 7, 1000, 4096, stream.len()] {
            let (out, outcome) = run(ReadyFilter::rewriting("eu1"), stream.chunks(piece));
            assert!(out == expected && outcome == Some(v4_ready()), "{size} in pieces of {piece}");
        }
        let mut filter = ReadyFilter::rewriting("eu1");
        assert_eq!(pass(&mut filter, &large[..900]), &large[..900]);
        assert_eq!(pass(&mut filter, &large[900..1000]).as_ptr(), large[900..].as_ptr(), "nothing is copied");
    }
}

#[test]
fn only_the_first_two_messages_can_be_ready() {
    let why = "neither of the first two messages is ready";
    check_not_understood(&[text(STATS), text(UPDATE), text(V4)].concat(), why);
    check_not_understood(&[text(STATS), text(vec![b'x'; 1025]), text(V4)].concat(), why);
    check_not_understood(&[text(r#"{"sessionId":"5fr7okxwgml5cack"}"#), text(UPDATE)].concat(), why);
}

#[test]
fn a_frame_that_no_lavalink_sends_passes_unchanged() {
    for (head, why) in [
        (&[0x81, 0x80 | 61, 1, 2, 3, 4][..], "a frame is masked"),
        (&[0xc1, 61], "a frame is compressed, or has another reserved bit set"),
        (&[0x91, 61], "a frame is compressed, or has another reserved bit set"),
        (&[0x01, 61], "a message is fragmented"),
        (&[0x80, 61], "a message is fragmented"),
        (&[0x00, 61], "a message is fragmented"),
        (&[0x82, 61], "a message is binary"),
        (&[0x83, 61], "a frame has an unknown opcode"),
        (&[0x8b, 61], "a frame has an unknown opcode"),
        (&[0x09, 61], "a control frame is fragmented or too long"),
        (&[0x8a, 126, 0, 126], "a control frame is fragmented or too long"),
    ] {
        check_not_understood(&[head, V4.as_bytes(), &text(V4)].concat(), why);
        check_not_understood(&[&text(STATS), head, V4.as_bytes(), &text(V4)].concat(), why);
    }
}

#[test]
fn a_message_that_is_not_lavalinks_json_passes_unchanged() {
    let json = "a message is not the JSON that Lavalink sends";
    let object = "a message is not a JSON object";
    for (payload, why) in [
        ("", object),
        ("ready", object),
        (r#"["ready","5fr7okxwgml5cack",false]"#, object),
        (r#"{"op":"ready","sessionId":"5fr7okxwgml5cack""#, json),
        (r#"{"op":"ready","sessionId":"5fr7okxwgml5cack"} x"#, json),
        (r#"{"op":"ready","sessionId":"a","sessionId":"b"}"#, json),
        (r#"{"op":"ready","sessionId":5}"#, json),
        (r#"{"op":"ready","sessionId":null}"#, json),
        (r#"{"op":"ready","sessionId":"\u0035fr7okxwgml5cack"}"#, json),
        (r#"{"op":"ready","sessionId":""}"#, "ready has no session id"),
        (r#"{"op":"ready","resumed":false}"#, "ready has no session id"),
    ] {
        check_not_understood(&[text(payload), text(V4)].concat(), why);
    }
    check_not_understood(&text(b"{\"op\":\"ready\",\"sessionId\":\"\xff\xfe\"}"), json);
}

#[test]
fn a_node_that_closes_first_ends_the_search_silently() {
    let close = [0x88, 2, 0x03, 0xf3];
    check(&close, &close, None);
    check(&[&text(STATS)[..], &close].concat(), &[&text(STATS)[..], &close].concat(), None);
    let mut filter = ReadyFilter::rewriting("eu1");
    assert_eq!(pass(&mut filter, &close), close);
    assert!(filter.is_done());
}

#[test]
fn held_bytes_are_returned_when_the_stream_ends_within_a_frame() {
    for stream in [text(V4), [text(STATS), text(V4)].concat()] {
        for length in 1..stream.len() {
            check(&stream[..length], &stream[..length], None);
        }
    }
}

#[test]
fn no_length_that_a_frame_claims_takes_memory_or_overflows() {
    let stream = [&[0x81, 127][..], &[0xff; 8], &[b' '; 3000]].concat();
    for piece in [1, 9, 10, 11, 500, 3010] {
        let (out, outcome) = run(ReadyFilter::rewriting("eu1"), stream.chunks(piece));
        assert!(out == stream && outcome.is_none(), "in pieces of {piece}");
    }
}

#[test]
fn any_cuts_of_any_stream_give_the_same_bytes() {
    let mut random = Random(0x5eed);
    for round in 0..3000 {
        let (name, id) = ("n".repeat(1 + random.below(16)), "i".repeat(1 + random.below(60)));
        let mut stream = Vec::new();
        let mut expected = Vec::new();
        let mut both = |bytes: &[u8]| {
            stream.extend_from_slice(bytes);
            expected.extend_from_slice(bytes);
        };
        (0..random.below(3)).for_each(|_| both(&PONG_FRAME));
        match random.below(3) {
            0 => {}
            1 => both(&text(STATS)),
            _ => both(&text(vec![b'{'; 1025 + random.below(3000)])),
        }
        (0..random.below(3)).for_each(|_| both(&[0x89, 0]));
        let space = " ".repeat(random.below(100));
        let message = |id: &str| format!(r#"{{"resumed":false,{space}"sessionId":"{id}","op":"ready"}}"#);
        stream.extend(text(message(&id)));
        expected.extend(text(message(&format!("{name}.{id}"))));
        let tail: Vec<u8> = (0..random.below(300)).map(|_| random.byte()).collect();
        stream.extend_from_slice(&tail);
        expected.extend_from_slice(&tail);

        let mut pieces = Vec::new();
        let mut rest = &stream[..];
        let longest = *random.pick(&[2, 10, 100, 5000]);
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(random.below(longest.min(rest.len())) + 1);
            pieces.push(piece);
            rest = after;
        }
        let (out, outcome) = run(ReadyFilter::rewriting(&name), pieces);
        assert!(out == expected, "round {round}");
        assert_eq!(outcome, Some(ready(&id, false)), "round {round}");
    }
}

#[test]
fn no_bytes_from_a_node_are_lost_or_changed_without_a_ready() {
    let mut random = Random(0xbad);
    for round in 0..3000 {
        let mut stream: Vec<u8> = (0..random.below(400)).map(|_| random.byte()).collect();
        if random.below(2) == 0 {
            stream.splice(0..0, text(STATS));
        }
        let piece = 1 + random.below(50);
        let (out, _) = run(ReadyFilter::rewriting("eu1"), stream.chunks(piece));
        assert!(out == stream, "round {round}");
    }
}
