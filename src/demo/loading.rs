//! What identifiers load: made-up tracks in the shapes of Lavalink v3 and v4. Pure.
//!
//! An identifier that starts with `none` finds nothing, with `fail` the load fails, `playlist` gives a playlist,
//! `ytsearch:`, `ytmsearch:` and `scsearch:` several tracks, `big:N` a search result of at least N bytes; anything
//! else one track.

use std::io;

use super::text::{quoted, stack_trace};
use super::track::Track;
use crate::config::Lavalink;

/// How many tracks a search and a playlist have.
const SEVERAL: usize = 5;
/// The longest identifier that is looked up, in bytes: more than fits into a request head.
const MAX_IDENTIFIER: usize = 16 * 1024;
const SEARCHES: [(&str, &str); 3] = [("ytsearch:", "youtube"), ("ytmsearch:", "youtube"), ("scsearch:", "soundcloud")];

/// What an identifier stands for.
pub(super) enum Loaded {
    /// One track.
    Track(Track),
    /// A named list.
    Playlist(String, Vec<Track>),
    /// What a search found.
    Search(Vec<Track>),
    /// A search result too large to keep in memory.
    Large(u64),
    /// Nothing.
    Nothing,
    /// The source failed.
    Failed,
}

/// Looks an identifier up; the same one always gives the same.
pub(super) fn load(identifier: &str) -> Loaded {
    if identifier.starts_with("none") || identifier.is_empty() || identifier.len() > MAX_IDENTIFIER {
        return Loaded::Nothing;
    }
    if identifier.starts_with("fail") {
        return Loaded::Failed;
    }
    if let Some(size) = identifier.strip_prefix("big:").and_then(|size| size.parse().ok()) {
        return Loaded::Large(size);
    }
    if identifier.starts_with("playlist") {
        let tracks = (1..=SEVERAL).map(|number| found("youtube", identifier, number)).collect();
        return Loaded::Playlist(format!("The {identifier} mix"), tracks);
    }
    for (prefix, source) in SEARCHES {
        if let Some(words) = identifier.strip_prefix(prefix) {
            return Loaded::Search((1..=SEVERAL).map(|number| found(source, words, number)).collect());
        }
    }
    Loaded::Track(if identifier.starts_with("http://") || identifier.starts_with("https://") {
        by_address(identifier)
    } else {
        Track { identifier: identifier.to_owned(), ..found("youtube", identifier, 1) }
    })
}

fn by_address(address: &str) -> Track {
    Track {
        title: "Test Tone".to_owned(),
        author: "Tester".to_owned(),
        length: 20_040,
        identifier: address.to_owned(),
        uri: Some(address.to_owned()),
        source: "http".to_owned(),
        probe: Some("mp3".to_owned()),
        ..Track::default()
    }
}

/// The `number`th hit for `words`, with an identifier as long as the source's own are.
fn found(source: &str, words: &str, number: usize) -> Track {
    let hash = words.bytes().fold(0xcbf2_9ce4_8422_2325_u64 ^ number as u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let (identifier, uri, artwork) = if source == "youtube" {
        let identifier = format!("{:011x}", hash & 0xfff_ffff_ffff);
        let uri = format!("https://www.youtube.com/watch?v={identifier}");
        let artwork = format!("https://i.ytimg.com/vi/{identifier}/maxresdefault.jpg");
        (identifier, uri, artwork)
    } else {
        let identifier = (hash % 1_000_000_000).to_string();
        let uri = format!("https://soundcloud.com/demo/{identifier}");
        let artwork = format!("https://i1.sndcdn.com/artworks-{identifier}-original.jpg");
        (identifier, uri, artwork)
    };
    Track {
        title: format!("{words} ({number})"),
        author: "The Demo Band".to_owned(),
        length: 120_000 + i64::try_from(hash % 180).unwrap_or(0) * 1000,
        identifier,
        uri: Some(uri),
        artwork: Some(artwork),
        source: source.to_owned(),
        ..Track::default()
    }
}

/// A load result: <https://lavalink.dev/api/rest#track-loading-result>, and for v3 the one of its own time.
pub(super) enum LoadResult {
    /// All of it.
    Whole(String),
    /// To be generated while it is sent.
    Streamed(Large),
}

/// The body of `GET /vN/loadtracks`.
pub(super) fn result(version: Lavalink, identifier: &str) -> LoadResult {
    let json = |track: &Track| track.json(version, &track.encode(version), "{}");
    let list = |tracks: &[Track]| tracks.iter().map(json).collect::<Vec<_>>().join(",");
    let v3 = |kind: &str, tracks: String, more: &str| {
        format!(r#"{{"loadType":"{kind}","tracks":[{tracks}],"playlistInfo":{more}}}"#)
    };
    let v4 = |kind: &str, data: String| format!(r#"{{"loadType":"{kind}","data":{data}}}"#);
    let is_v3 = version == Lavalink::V3;
    LoadResult::Whole(match load(identifier) {
        Loaded::Large(size) => return LoadResult::Streamed(Large { version, size }),
        Loaded::Track(track) if is_v3 => v3("TRACK_LOADED", json(&track), "{}"),
        Loaded::Track(track) => v4("track", json(&track)),
        Loaded::Search(tracks) if is_v3 => v3("SEARCH_RESULT", list(&tracks), "{}"),
        Loaded::Search(tracks) => v4("search", format!("[{}]", list(&tracks))),
        Loaded::Playlist(name, tracks) => {
            let info = format!(r#"{{"name":{},"selectedTrack":-1}}"#, quoted(&name));
            if is_v3 {
                v3("PLAYLIST_LOADED", list(&tracks), &info)
            } else {
                v4("playlist", format!(r#"{{"info":{info},"pluginInfo":{{}},"tracks":[{}]}}"#, list(&tracks)))
            }
        }
        Loaded::Nothing if is_v3 => v3("NO_MATCHES", String::new(), "{}"),
        Loaded::Nothing => v4("empty", "null".to_owned()),
        Loaded::Failed => failed(version),
    })
}

/// The body of `GET /vN/loadtracks` for a source that failed.
pub(super) fn failed(version: Lavalink) -> String {
    const MESSAGE: &str = "Something went wrong while looking up the track.";
    const CAUSE: &str = "java.io.IOException: the pretend source failed";
    match version {
        Lavalink::V3 => format!(
            r#"{{"loadType":"LOAD_FAILED","tracks":[],"playlistInfo":{{}},"exception":{{"message":"{MESSAGE}","severity":"SUSPICIOUS","cause":"{CAUSE}"}}}}"#
        ),
        Lavalink::V4 => {
            let trace = quoted(&stack_trace(CAUSE));
            format!(
                r#"{{"loadType":"error","data":{{"message":"{MESSAGE}","severity":"fault","cause":"{CAUSE}","causeStackTrace":{trace}}}}}"#
            )
        }
    }
}

/// A search result of at least `size` bytes that never exists as a whole.
pub(super) struct Large {
    version: Lavalink,
    size: u64,
}

impl Large {
    /// Hands the JSON out in pieces, in order.
    ///
    /// # Errors
    /// Whatever `sink` reports; nothing follows it.
    pub(super) fn each_piece(&self, mut sink: impl FnMut(&str) -> io::Result<()>) -> io::Result<()> {
        let (head, tail) = match self.version {
            Lavalink::V3 => (r#"{"loadType":"SEARCH_RESULT","tracks":["#, r#"],"playlistInfo":{}}"#),
            Lavalink::V4 => (r#"{"loadType":"search","data":["#, "]}"),
        };
        let track = found("youtube", "big", 1);
        let track = track.json(self.version, &track.encode(self.version), "{}");
        sink(head)?;
        sink(&track)?;
        let mut sent = (head.len() + track.len() + tail.len()) as u64;
        let next = format!(",{track}");
        while sent < self.size {
            sink(&next)?;
            sent += next.len() as u64;
        }
        sink(tail)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use serde_json::Value;

    fn whole(version: Lavalink, identifier: &str) -> String {
        match result(version, identifier) {
            LoadResult::Whole(json) => json,
            LoadResult::Streamed(_) => panic!("streamed"),
        }
    }

    #[test]
    fn empty_results_are_lavalinks_byte_for_byte() {
        assert_eq!(whole(Lavalink::V3, "none"), r#"{"loadType":"NO_MATCHES","tracks":[],"playlistInfo":{}}"#);
        assert_eq!(whole(Lavalink::V4, "none"), r#"{"loadType":"empty","data":null}"#);
    }

    #[test]
    fn every_result_is_json_of_its_type() {
        let cases = [
            ("fail", "LOAD_FAILED", "error"),
            ("playlist", "PLAYLIST_LOADED", "playlist"),
            ("ytsearch:a \"b\"", "SEARCH_RESULT", "search"),
            ("dQw4w9WgXcQ", "TRACK_LOADED", "track"),
            ("http://127.0.0.1/tone.mp3", "TRACK_LOADED", "track"),
        ];
        for (identifier, v3, v4) in cases {
            let old: Value = serde_json::from_str(&whole(Lavalink::V3, identifier)).unwrap();
            let new: Value = serde_json::from_str(&whole(Lavalink::V4, identifier)).unwrap();
            assert_eq!((&old["loadType"], &new["loadType"]), (&v3.into(), &v4.into()));
            for track in old["tracks"].as_array().unwrap() {
                let read = Track::decode(track["track"].as_str().unwrap()).unwrap();
                assert_eq!(track["info"]["title"], Value::from(read.title));
            }
        }
    }

    #[test]
    fn a_large_result_is_json_of_that_size() {
        for version in [Lavalink::V3, Lavalink::V4] {
            let mut json = String::new();
            let LoadResult::Streamed(large) = result(version, "big:100000") else { panic!("whole") };
            let keep = |piece: &str| {
                json.push_str(piece);
                Ok(())
            };
            large.each_piece(keep).unwrap();
            assert!(json.len() >= 100_000 && json.len() < 101_000);
            serde_json::from_str::<Value>(&json).unwrap();
        }
    }
}
