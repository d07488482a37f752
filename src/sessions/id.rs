//! Session ids that name their node: `eu1.5fr7okxwgml5cack`. Where a version has more than one node, the client's id
//! is the node's id with the node's name and a dot before it. Pure; it allocates nothing.

use std::ops::Range;

/// What stands between a node's name and the id that the node gave.
pub const SEPARATOR: u8 = b'.';

/// The node that the id names, and the id as that node knows it. An id that begins with none of `names` is whole.
pub fn split<'i, 'n>(id: &'i [u8], names: impl IntoIterator<Item = &'n str>) -> (Option<&'n str>, &'i [u8]) {
    for name in names {
        if let Some([SEPARATOR, own @ ..]) = id.strip_prefix(name.as_bytes()) {
            return (Some(name), own);
        }
    }
    (None, id)
}

/// A session id within a request's target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InTarget<'n> {
    /// The node that the id names.
    pub node: Option<&'n str>,
    /// Where the node's name and the dot stand in the target. The node must get the target without these bytes. Empty
    /// when the id names no node.
    pub prefix: Range<usize>,
    /// Where the id as the node knows it stands in the target, percent-encoded as the client sent it.
    pub own: Range<usize>,
}

/// Finds the session id in the path of a target in origin-form: the third segment of `/v4/sessions/ID` or
/// `/v3/sessions/ID`, with anything behind it. As Lavalink reads a path, percent-encoded bytes are decoded, a segment
/// ends before its parameters (`;x=1`), and empty segments do not count.
pub fn in_target<'n>(target: &str, names: impl IntoIterator<Item = &'n str>) -> Option<InTarget<'n>> {
    let is_end = |byte: &u8| matches!(byte, b'?' | b'#');
    let path = target.as_bytes().split(is_end).next().unwrap_or_default();
    let mut segments = Segments { path, at: 0 };
    let version = &path[segments.next()?];
    if !(spells(version, b"v4") || spells(version, b"v3")) || !spells(&path[segments.next()?], b"sessions") {
        return None;
    }
    let id = segments.next()?;
    let named = names.into_iter().find_map(|name| Some((name, encoded_prefix(&path[id.clone()], name)?)));
    let own = id.start + named.map_or(0, |(_, length)| length);
    Some(InTarget { node: named.map(|(name, _)| name), prefix: id.start..own, own: own..id.end })
}

/// The segments of a path that are not empty, each without its parameters.
struct Segments<'p> {
    path: &'p [u8],
    at: usize,
}

impl Iterator for Segments<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        let start = self.at + self.path[self.at..].iter().position(|byte| *byte != b'/')?;
        let length = |end: fn(&u8) -> bool| self.path[start..].iter().position(end);
        self.at = length(|byte| *byte == b'/').map_or(self.path.len(), |length| start + length);
        let end = length(|byte| matches!(byte, b'/' | b';')).map_or(self.path.len(), |length| start + length);
        Some(start..end)
    }
}

/// True when an encoded segment means exactly these bytes.
fn spells(segment: &[u8], bytes: &[u8]) -> bool {
    Decoder(segment).eq(bytes.iter().copied())
}

/// How many bytes of an encoded id are the node's name and the dot.
fn encoded_prefix(id: &[u8], name: &str) -> Option<usize> {
    let mut decoder = Decoder(id);
    let mut expected = name.bytes().chain([SEPARATOR]);
    expected.all(|byte| decoder.next() == Some(byte)).then(|| id.len() - decoder.0.len())
}

/// Decodes percent-encoded bytes (RFC 3986 section 2.1). A `%` without two hexadecimal digits stands for itself.
struct Decoder<'s>(&'s [u8]);

impl Iterator for Decoder<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        if let [b'%', high, low, rest @ ..] = self.0 {
            if let (Some(high), Some(low)) = (hex_digit(*high), hex_digit(*low)) {
                self.0 = rest;
                return Some(high << 4 | low);
            }
        }
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const NAMES: [&str; 4] = ["eu", "eu1", "eu-1", "us"];

    /// The node, and the target as the node must get it.
    fn stripped(target: &str) -> Option<(Option<&'static str>, String)> {
        let found = in_target(target, NAMES)?;
        Some((found.node, [&target[..found.prefix.start], &target[found.prefix.end..]].concat()))
    }

    #[test]
    fn an_id_is_split_at_a_known_name() {
        for (id, node, own) in [
            ("eu1.5fr7okxwgml5cack", Some("eu1"), "5fr7okxwgml5cack"),
            ("eu.5fr7okxwgml5cack", Some("eu"), "5fr7okxwgml5cack"),
            ("eu-1.5fr7okxwgml5cack", Some("eu-1"), "5fr7okxwgml5cack"),
            ("5fr7okxwgml5cack", None, "5fr7okxwgml5cack"),
            ("ap1.5fr7okxwgml5cack", None, "ap1.5fr7okxwgml5cack"),
            ("EU1.5fr7okxwgml5cack", None, "EU1.5fr7okxwgml5cack"),
            ("eu15fr7okxwgml5cack", None, "eu15fr7okxwgml5cack"),
            ("eu1", None, "eu1"),
            ("eu1.", Some("eu1"), ""),
            ("", None, ""),
            (".5fr7okxwgml5cack", None, ".5fr7okxwgml5cack"),
            // Two lavaproxies, one behind the other.
            ("eu1.us.5fr7okxwgml5cack", Some("eu1"), "us.5fr7okxwgml5cack"),
            // A field value is not percent-encoded.
            ("eu1%2E5fr7okxwgml5cack", None, "eu1%2E5fr7okxwgml5cack"),
        ] {
            assert_eq!(split(id.as_bytes(), NAMES), (node, own.as_bytes()), "{id}");
        }
        assert_eq!(split(b"eu1.5fr7okxwgml5cack", []), (None, &b"eu1.5fr7okxwgml5cack"[..]));
    }

    #[test]
    fn the_prefix_is_removed_from_a_path_and_every_other_byte_stays() {
        for (target, node, expected) in [
            ("/v4/sessions/eu1.abc", "eu1", "/v4/sessions/abc"),
            ("/v3/sessions/us.abc", "us", "/v3/sessions/abc"),
            ("/v4/sessions/eu1.abc/players/1?noReplace=true", "eu1", "/v4/sessions/abc/players/1?noReplace=true"),
            ("/v4/sessions/eu-1.abc/players/1/sponsorblock", "eu-1", "/v4/sessions/abc/players/1/sponsorblock"),
            ("/v4/sessions/eu1%2Eabc/players", "eu1", "/v4/sessions/abc/players"),
            ("/v4/sessions/eu1%2eabc", "eu1", "/v4/sessions/abc"),
            ("/v4/sessions/%65u%31.a%62c/%70layers", "eu1", "/v4/sessions/a%62c/%70layers"),
            ("/v%34/%73essions/eu.abc", "eu", "/v%34/%73essions/abc"),
            ("/v4/sessions/eu1.abc;x=1/players;y", "eu1", "/v4/sessions/abc;x=1/players;y"),
            ("/v4;a=b/sessions;c/eu1.abc", "eu1", "/v4;a=b/sessions;c/abc"),
            ("//v3//sessions///eu.abc//players", "eu", "//v3//sessions///abc//players"),
            ("/v4/sessions/eu1.abc/eu1.abc?id=eu1.abc", "eu1", "/v4/sessions/abc/eu1.abc?id=eu1.abc"),
            ("/v4/sessions/eu1.us.abc", "eu1", "/v4/sessions/us.abc"),
            ("/v4/sessions/eu1.", "eu1", "/v4/sessions/"),
            ("/v4/sessions/eu1.?eu.", "eu1", "/v4/sessions/?eu."),
        ] {
            assert_eq!(stripped(target), Some((Some(node), expected.to_owned())), "{target}");
        }
    }

    #[test]
    fn an_id_that_names_no_node_is_found_whole() {
        for (target, own) in [
            ("/v4/sessions/5fr7okxwgml5cack/players/1", "5fr7okxwgml5cack"),
            ("/v4/sessions/ap1.abc?x", "ap1.abc"),
            ("/v4/sessions/Eu1.abc", "Eu1.abc"),
            ("/v4/sessions/eu1", "eu1"),
            ("/v4/sessions/eu1%2/players", "eu1%2"),
            ("/v4/sessions/eu1%2Gabc", "eu1%2Gabc"),
            ("/v4/sessions/eu1%", "eu1%"),
            // The dot is encoded twice, so the node would see `%2E`.
            ("/v4/sessions/eu1%252Eabc", "eu1%252Eabc"),
            ("/v4/sessions/eu1;x.abc", "eu1"),
        ] {
            let found = in_target(target, NAMES).unwrap();
            assert_eq!((found.node, found.prefix.len(), &target[found.own]), (None, 0, own), "{target}");
        }
    }

    #[test]
    fn only_the_paths_of_sessions_have_an_id() {
        for target in [
            "",
            "/",
            "*",
            "/v4",
            "/v4/sessions",
            "/v4/sessions/",
            "/v4/sessions//?eu1.abc",
            "/v4/sessions?x=/eu1.abc",
            "/sessions/eu1.abc",
            "/v4/info",
            "/v4/loadtracks?identifier=/v4/sessions/eu1.abc",
            "/v5/sessions/eu1.abc",
            "/V4/sessions/eu1.abc",
            "/v4/Sessions/eu1.abc",
            "/v4%2Fsessions/eu1.abc",
            "/plugin/v4/sessions/eu1.abc",
        ] {
            assert_eq!(in_target(target, NAMES), None, "{target}");
        }
    }
}
