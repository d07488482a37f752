//! Lavaplayer's track serialisation, which bots receive as `encoded` and some of them decode themselves. Pure.
//!
//! The format is that of `DefaultAudioPlayerManager.encodeTrack` in Lavaplayer 1.5 (message version 2) and 2.2
//! (version 3): a big-endian message whose first word holds the flags and the size, in standard base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::text::quoted;
use crate::config::Lavalink;

/// The flag in the first word that says that a version byte follows.
const VERSIONED: u32 = 1 << 30;
const SIZE_MASK: u32 = VERSIONED - 1;
/// Sources that write what they found out about the container between the source's name and the position.
const PROBING_SOURCES: [&str; 2] = ["http", "local"];

/// What Lavaplayer knows about a track.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Track {
    pub(super) title: String,
    pub(super) author: String,
    /// Milliseconds; a stream has Java's `Long.MAX_VALUE`.
    pub(super) length: i64,
    pub(super) identifier: String,
    pub(super) is_stream: bool,
    pub(super) uri: Option<String>,
    pub(super) artwork: Option<String>,
    pub(super) isrc: Option<String>,
    pub(super) source: String,
    /// The container that was found, for `http` and `local`.
    pub(super) probe: Option<String>,
    /// Milliseconds.
    pub(super) position: i64,
}

impl Track {
    /// The track as Lavaplayer of that Lavalink serialises it.
    pub(super) fn encode(&self, version: Lavalink) -> String {
        let mut body = Vec::new();
        body.push(if version == Lavalink::V3 { 2 } else { 3 });
        put_text(&mut body, &self.title);
        put_text(&mut body, &self.author);
        body.extend(self.length.to_be_bytes());
        put_text(&mut body, &self.identifier);
        body.push(self.is_stream.into());
        put_optional(&mut body, self.uri.as_deref());
        if version == Lavalink::V4 {
            put_optional(&mut body, self.artwork.as_deref());
            put_optional(&mut body, self.isrc.as_deref());
        }
        put_text(&mut body, &self.source);
        if PROBING_SOURCES.contains(&self.source.as_str()) {
            put_text(&mut body, self.probe.as_deref().unwrap_or("mp3"));
        }
        body.extend(self.position.to_be_bytes());
        // Five texts of 64 KiB at the most, so the size always fits.
        let size = u32::try_from(body.len()).unwrap_or(SIZE_MASK) & SIZE_MASK;
        STANDARD.encode([(VERSIONED | size).to_be_bytes().as_slice(), &body].concat())
    }

    /// Reads a track of any version; `None` for what is none. Blanks stand for `+`, as they do in a query.
    pub(super) fn decode(encoded: &str) -> Option<Self> {
        let bytes = STANDARD.decode(encoded.trim_end().replace(' ', "+")).ok()?;
        let mut input = Input(&bytes);
        let word = u32::from_be_bytes(input.take()?);
        input.0 = input.0.get(..usize::try_from(word & SIZE_MASK).ok()?)?;
        let version = if word & VERSIONED == 0 { 1 } else { input.byte()? };
        if !(1..=3).contains(&version) {
            return None;
        }
        let mut track = Self {
            title: input.text()?,
            author: input.text()?,
            length: i64::from_be_bytes(input.take()?),
            identifier: input.text()?,
            is_stream: input.byte()? != 0,
            ..Self::default()
        };
        if version >= 2 {
            track.uri = input.optional()?;
        }
        if version >= 3 {
            track.artwork = input.optional()?;
            track.isrc = input.optional()?;
        }
        track.source = input.text()?;
        if PROBING_SOURCES.contains(&track.source.as_str()) {
            track.probe = Some(input.text()?);
        }
        // Other sources may have written more of their own; the position is what the message ends in.
        track.position = i64::from_be_bytes(*input.0.last_chunk()?);
        Some(track)
    }

    /// The `info` object: <https://lavalink.dev/api/rest#track-info>.
    pub(super) fn info(&self, version: Lavalink) -> String {
        let uri = self.uri.as_deref().map_or("null".to_owned(), quoted);
        let more = match version {
            Lavalink::V3 => String::new(),
            Lavalink::V4 => format!(
                r#","artworkUrl":{},"isrc":{}"#,
                self.artwork.as_deref().map_or("null".to_owned(), quoted),
                self.isrc.as_deref().map_or("null".to_owned(), quoted)
            ),
        };
        format!(
            r#"{{"identifier":{},"isSeekable":{},"author":{},"length":{},"isStream":{},"position":{},"title":{},"uri":{uri},"sourceName":{}{more}}}"#,
            quoted(&self.identifier),
            !self.is_stream,
            quoted(&self.author),
            self.length,
            self.is_stream,
            self.position,
            quoted(&self.title),
            quoted(&self.source)
        )
    }

    /// What `decodetrack` answers; v3 repeats the info on top, where the first bots looked for it, and not the text.
    pub(super) fn decoded_json(&self, version: Lavalink, encoded: &str) -> String {
        let info = self.info(version);
        match (version, info.strip_prefix('{')) {
            (Lavalink::V3, Some(on_top)) => format!(r#"{{"encoded":{},"info":{info},{on_top}"#, quoted(encoded)),
            _ => self.json(version, encoded, "{}"),
        }
    }

    /// The whole track object around `encoded`, the text that the bot knows it by; `user_data` is JSON.
    pub(super) fn json(&self, version: Lavalink, encoded: &str, user_data: &str) -> String {
        let encoded = quoted(encoded);
        let info = self.info(version);
        match version {
            Lavalink::V3 => format!(r#"{{"encoded":{encoded},"track":{encoded},"info":{info}}}"#),
            Lavalink::V4 => {
                let plugin = match &self.probe {
                    Some(probe) => format!(r#"{{"probeInfo":{}}}"#, quoted(probe)),
                    None => "{}".to_owned(),
                };
                format!(r#"{{"encoded":{encoded},"info":{info},"pluginInfo":{plugin},"userData":{user_data}}}"#)
            }
        }
    }
}

/// A serialised track with another position, which is what its message ends in.
pub(super) fn at_position(encoded: &str, position: i64) -> String {
    let changed = STANDARD.decode(encoded.trim_end().replace(' ', "+")).ok().and_then(|mut bytes| {
        let word = u32::from_be_bytes(*bytes.first_chunk()?);
        let end = usize::try_from(word & SIZE_MASK).ok()?.checked_add(size_of::<u32>())?;
        *bytes.get_mut(..end)?.last_chunk_mut()? = position.to_be_bytes();
        Some(STANDARD.encode(bytes))
    });
    // What is no track is refused before it is played.
    changed.unwrap_or_else(|| encoded.to_owned())
}

/// `DataOutput.writeUTF`: a length of two bytes, then Java's modified UTF-8. What does not fit is left out, where
/// Java would throw.
fn put_text(out: &mut Vec<u8>, text: &str) {
    let mut bytes = Vec::with_capacity(text.len());
    for unit in text.encode_utf16() {
        let low = |shift: u32| 0x80 | (unit >> shift & 0x3f) as u8;
        match unit {
            1..=0x7f => bytes.push(unit as u8),
            0 | 0x80..=0x7ff => bytes.extend([0xc0 | (unit >> 6) as u8, low(0)]),
            0x800.. => bytes.extend([0xe0 | (unit >> 12) as u8, low(6), low(0)]),
        }
        if bytes.len() + 3 > usize::from(u16::MAX) {
            break;
        }
    }
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    out.extend(length.to_be_bytes());
    out.extend(bytes);
}

fn put_optional(out: &mut Vec<u8>, text: Option<&str>) {
    out.push(text.is_some().into());
    if let Some(text) = text {
        put_text(out, text);
    }
}

/// What is left of a message; every read says when there is too little.
struct Input<'b>(&'b [u8]);

impl Input<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    fn text(&mut self) -> Option<String> {
        let length = usize::from(u16::from_be_bytes(self.take()?));
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        let mut units = Vec::with_capacity(length);
        let mut bytes = text.iter().map(|byte| u16::from(*byte));
        while let Some(first) = bytes.next() {
            units.push(match first {
                0..=0x7f => first,
                0xc0..=0xdf => (first & 0x1f) << 6 | (bytes.next()? & 0x3f),
                0xe0..=0xef => (first & 0x0f) << 12 | (bytes.next()? & 0x3f) << 6 | (bytes.next()? & 0x3f),
                _ => return None,
            });
        }
        String::from_utf16(&units).ok()
    }

    fn optional(&mut self) -> Option<Option<String>> {
        if self.byte()? == 0 { Some(None) } else { self.text().map(Some) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    const ASTLEY: &str = "QAAAjQIAJVJpY2sgQXN0bGV5IC0gTmV2ZXIgR29ubmEgR2l2ZSBZb3UgVXAADlJpY2tBc3RsZXlWRVZPAAAAAAADPCAAC2RRdzR3OVdnWGNRAAEAK2h0dHBzOi8vd3d3LnlvdXR1YmUuY29tL3dhdGNoP3Y9ZFF3NHc5V2dYY1EAB3lvdXR1YmUAAAAAAAAAAA==";

    #[test]
    fn reads_and_writes_what_lavaplayer_wrote() {
        let track = Track::decode(ASTLEY).unwrap();
        assert_eq!(track.title, "Rick Astley - Never Gonna Give You Up");
        assert_eq!(track.author, "RickAstleyVEVO");
        assert_eq!((track.length, track.position, track.is_stream), (212_000, 0, false));
        assert_eq!(track.identifier, "dQw4w9WgXcQ");
        assert_eq!(track.uri.as_deref(), Some("https://www.youtube.com/watch?v=dQw4w9WgXcQ"));
        assert_eq!(track.source, "youtube");
        assert_eq!(track.encode(Lavalink::V3), ASTLEY);
    }

    #[test]
    fn a_position_is_the_last_eight_bytes() {
        let moved = at_position(ASTLEY, 61_000);
        assert_eq!(Track::decode(&moved).unwrap(), Track { position: 61_000, ..Track::decode(ASTLEY).unwrap() });
        let [before, after] = [ASTLEY, &moved].map(|encoded| STANDARD.decode(encoded).unwrap());
        assert_eq!(before[..before.len() - 8], after[..after.len() - 8]);
        assert_eq!(after[after.len() - 8..], 61_000_i64.to_be_bytes());
        assert_eq!(at_position(&moved, 0), ASTLEY);
        assert_eq!(["", "AAAA", "x"].map(|garbage| at_position(garbage, 1)), ["", "AAAA", "x"]);
    }

    #[test]
    fn every_version_comes_back_as_it_went() {
        let track = Track {
            title: "\0 ä € 𝄞".to_owned(),
            author: String::new(),
            length: i64::MAX,
            identifier: "https://example.org/a.mp3".to_owned(),
            is_stream: true,
            uri: None,
            artwork: Some("https://example.org/a.png".to_owned()),
            isrc: Some("GBARL9300135".to_owned()),
            source: "http".to_owned(),
            probe: Some("mp3".to_owned()),
            position: 12_345,
        };
        assert_eq!(Track::decode(&track.encode(Lavalink::V4)), Some(track.clone()));
        let plain = Track { artwork: None, isrc: None, ..track };
        assert_eq!(Track::decode(&plain.encode(Lavalink::V3)), Some(plain));
    }

    #[test]
    fn what_is_no_track_is_refused() {
        for garbage in ["", "!", "AAAA", "QAAAjQIAJVJpY2s=", "QP///wI=", &ASTLEY[..40], "QAAAAQk="] {
            assert_eq!(Track::decode(garbage), None, "{garbage}");
        }
    }

    #[test]
    fn objects_are_in_lavalinks_order() {
        let track = Track::decode(ASTLEY).unwrap();
        let info = r#"{"identifier":"dQw4w9WgXcQ","isSeekable":true,"author":"RickAstleyVEVO","length":212000,"isStream":false,"position":0,"title":"Rick Astley - Never Gonna Give You Up","uri":"https://www.youtube.com/watch?v=dQw4w9WgXcQ","sourceName":"youtube""#;
        assert_eq!(
            track.json(Lavalink::V3, "QA==", "{}"),
            format!(r#"{{"encoded":"QA==","track":"QA==","info":{info}}}}}"#)
        );
        assert_eq!(
            track.json(Lavalink::V4, "QA==", "{}"),
            format!(
                r#"{{"encoded":"QA==","info":{info},"artworkUrl":null,"isrc":null}},"pluginInfo":{{}},"userData":{{}}}}"#
            )
        );
    }
}
