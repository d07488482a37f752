//! A loadtracks request whose node could not load: which requests these are, how such an answer begins, and what it
//! takes to ask another node. A node answers 200 also then, so that only the body tells.

use std::sync::Arc;

use super::forward::{self, Cuts};
use super::forwarded::Trail;
use super::upload::MAX_COPY;
use crate::config::Lavalink;
use crate::error::Fault;
use crate::http::body::Framing;
use crate::http::head::{Request, Slots};
use crate::nodes::backend::Backend;
use crate::nodes::pool::Pool;

/// So many bytes of a body decide; what no real answer begins with is fine.
pub const MAX_START: usize = 64;

/// A load that may go to another node as it came from the client. It is tried once.
pub struct LoadRetry {
    /// How it came.
    pub trail: Trail,
    /// What no node gets of its head.
    pub cuts: Cuts,
    /// The nodes.
    pub pool: Arc<Pool>,
}

impl LoadRetry {
    /// True for a request that can be repeated: its body, if it has one, is small enough to be kept. Some clients send
    /// a body with their GET.
    pub fn can_repeat(framing: Framing) -> bool {
        matches!(framing, Framing::None | Framing::Length(..=MAX_COPY))
    }

    /// Writes the request with this head for this node.
    ///
    /// # Errors
    /// As for the first node.
    pub fn write_request(&self, out: &mut Vec<u8>, head: &[u8], node: &Backend, body: &[u8]) -> Result<(), Fault> {
        let mut slots = Slots::new();
        let request = Request::parse(head, &mut slots).map_err(Fault::Head)?;
        forward::write_request_head(out, &request, node, &self.trail, &self.cuts, false)?;
        out.extend_from_slice(body);
        Ok(())
    }
}

/// What the first bytes of an answer's body say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loaded {
    /// More bytes are needed. A body that ends here is fine.
    Undecided,
    /// The node could not load it.
    Failed,
    /// Anything else: tracks, nothing found, or no answer to loadtracks at all.
    Fine,
}

/// True for a request that may be repeated on another node when its answer says that the load failed.
pub fn is_load(method: &str, path: &str, version: Lavalink) -> bool {
    let paths: &[&str] = match version {
        Lavalink::V3 => &["/v3/loadtracks", "/loadtracks"],
        Lavalink::V4 => &["/v4/loadtracks"],
    };
    method == "GET" && paths.contains(&path)
}

/// Looks at the first bytes of the body of a 200 to a load, without its chunk lines. A failed load is
/// `{"loadType":"error"` (v4) or `{"loadType":"LOAD_FAILED"` (v3): both put the field first.
pub fn loaded(start: &[u8]) -> Loaded {
    let failed =
        |value| [&b"{"[..], b"\"loadType\"", b":", value].iter().try_fold(start, |rest, token| skip(rest, token));
    match (failed(b"\"error\""), failed(b"\"LOAD_FAILED\"")) {
        (Ok(_), _) | (_, Ok(_)) => Loaded::Failed,
        (Err(Stop::TooShort), _) | (_, Err(Stop::TooShort)) if start.len() < MAX_START => Loaded::Undecided,
        _ => Loaded::Fine,
    }
}

/// Why a token was not found.
enum Stop {
    TooShort,
    Differs,
}

/// What follows white space and this token.
fn skip<'b>(bytes: &'b [u8], token: &[u8]) -> Result<&'b [u8], Stop> {
    let bytes = bytes.trim_ascii_start();
    match bytes.strip_prefix(token) {
        Some(rest) => Ok(rest),
        None if token.starts_with(bytes) => Err(Stop::TooShort),
        None => Err(Stop::Differs),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Lavalink::{V3, V4};

    #[test]
    fn a_failed_load_is_recognized_at_the_end_of_its_load_type() {
        for body in [
            &br#"{"loadType":"error","data":{"message":"This video is not available","severity":"common"}}"#[..],
            br#"{"loadType":"LOAD_FAILED","tracks":[],"playlistInfo":{},"exception":{"message":"x"}}"#,
            b"\r\n\t { \"loadType\" : \"error\" , \"data\" : null }",
            br#"{ "loadType": "LOAD_FAILED" }"#,
        ] {
            let comma = |byte: &u8| matches!(byte, b',' | b'}');
            let end = body[..body.iter().position(comma).unwrap_or_default()].trim_ascii_end().len();
            for length in 0..=body.len() {
                let expected = if length < end { Loaded::Undecided } else { Loaded::Failed };
                assert_eq!(loaded(&body[..length]), expected, "{}", body[..length].escape_ascii());
            }
        }
    }

    #[test]
    fn any_other_answer_is_fine_at_the_first_byte_that_differs() {
        for (body, undecided) in [
            (&br#"{"loadType":"track","data":{}}"#[..], r#"{"loadType":""#),
            (br#"{"loadType":"empty","data":null}"#, r#"{"loadType":"e"#),
            (br#"{"loadType":"errors"}"#, r#"{"loadType":"error"#),
            (br#"{"loadType":"TRACK_LOADED"}"#, r#"{"loadType":""#),
            (br#"{"loadType":"LOAD_FAILED_2"}"#, r#"{"loadType":"LOAD_FAILED"#),
            (br#"{"loadType":"ERROR"}"#, r#"{"loadType":""#),
            (br#"{"loadType":null}"#, r#"{"loadType":"#),
            (br#"{"loadType2":"error"}"#, r#"{"loadType"#),
            (br#"{"data":{"loadType":"error"}}"#, r#"{""#),
            (br#"[{"loadType":"error"}]"#, ""),
            (br#""loadType":"error""#, ""),
            (b"\xef\xbb\xbf{\"loadType\":\"error\"}", ""),
            (b"\x1f\x8b\x08\x00", ""),
        ] {
            for length in 0..=body.len() {
                let expected = if length <= undecided.len() { Loaded::Undecided } else { Loaded::Fine };
                assert_eq!(loaded(&body[..length]), expected, "{}", body[..length].escape_ascii());
            }
        }
    }

    #[test]
    fn more_white_space_than_any_node_writes_is_fine() {
        assert_eq!(loaded(&[b' '; MAX_START - 1]), Loaded::Undecided);
        assert_eq!(loaded(&[b' '; MAX_START]), Loaded::Fine);
    }

    #[test]
    fn a_load_is_a_get_of_loadtracks_of_its_version() {
        for (method, path, version, expected) in [
            ("GET", "/v4/loadtracks", V4, true),
            ("GET", "/v3/loadtracks", V3, true),
            ("GET", "/loadtracks", V3, true),
            ("GET", "/loadtracks", V4, false),
            ("GET", "/v4/loadtracks", V3, false),
            ("GET", "/v3/loadtracks", V4, false),
            ("HEAD", "/v4/loadtracks", V4, false),
            ("POST", "/v4/loadtracks", V4, false),
            ("get", "/v4/loadtracks", V4, false),
            ("GET", "/v4/loadtracks/", V4, false),
            ("GET", "/v4/decodetrack", V4, false),
            ("GET", "/v4/loadlyrics", V4, false),
        ] {
            assert_eq!(is_load(method, path, version), expected, "{method} {path} {version:?}");
        }
    }
}
