//! Where a body ends: by length, in chunks, or with the connection (RFC 9112 sections 6 and 7).
//!
//! A [`Body`] walks over bytes as they arrive and leaves in place what is to be forwarded. It never guesses: a chunk
//! line that is not exactly RFC 9112 section 7.1 is an error. Extensions and trailers are dropped.

use std::fmt;

use super::token::is_tchar;

/// How a body ends, as its head declares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    None,
    /// After so many bytes.
    Length(u64),
    /// With the chunk of size zero.
    Chunked,
    /// With the connection; responses only.
    UntilClose,
}

/// Why a body cannot be relayed any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// A chunk breaks the grammar.
    Malformed(&'static str),
    /// It is larger than its limit.
    TooLarge,
}

impl fmt::Display for BodyError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(why) => write!(out, "malformed chunked body: {why}"),
            Self::TooLarge => out.write_str("the body is larger than allowed"),
        }
    }
}

/// What one [`Body::step`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Bytes of the window that belong to the body and were read.
    pub consumed: usize,
    /// Bytes at the window's start that are to be forwarded; never more than `consumed`.
    pub produced: usize,
}

/// A body that is being relayed.
#[derive(Debug)]
pub struct Body {
    state: State,
    /// Bytes of content that may still come.
    allowance: u64,
    /// Forward the content without its chunk lines, for a peer that cannot read them.
    unchunk: bool,
    /// Accept blanks between a trailer's name and its colon.
    blanks: bool,
}

/// The most digits of a length or a chunk size, leading zeros included. Some parsers read no more of a chunk size, and
/// chunk lines are forwarded as they came.
pub const MAX_SIZE_DIGITS: u16 = 16;
/// The longest chunk line with its extensions, and the longest trailer section, in bytes.
const MAX_CHUNK_LINE: u16 = 256;
const MAX_TRAILERS: u16 = 8192;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Done,
    Length(u64),
    UntilClose,
    Line(Line, u64, u16),
    Data(u64),
    DataCr,
    DataLf,
    Trailer(Trailer, u16),
}

/// The part of a chunk line (RFC 9112 sections 7.1 and 7.1.1) that the next byte belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    SizeStart,
    Size,
    BeforeSemicolon,
    NameStart,
    Name,
    AfterName,
    ValueStart,
    Value,
    Quoted,
    QuotedPair,
    QuotedEnd,
    Lf,
}

/// The part of the trailer section (RFC 9112 section 7.1.2) that the next byte belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trailer {
    Start,
    Name,
    AfterName,
    Value,
    Lf,
    FinalLf,
}

impl Body {
    /// A body whose content may be `limit` bytes at the most.
    ///
    /// # Errors
    /// [`BodyError::TooLarge`] when the declared length is already over the limit.
    pub fn new(framing: Framing, limit: u64) -> Result<Self, BodyError> {
        let state = match framing {
            Framing::None | Framing::Length(0) => State::Done,
            Framing::Length(length) if length > limit => return Err(BodyError::TooLarge),
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Line(Line::SizeStart, 0, 0),
            Framing::UntilClose => State::UntilClose,
        };
        Ok(Self { state, allowance: limit, unchunk: false, blanks: false })
    }

    /// The same body as a response's: blanks between a field's name and its colon are no error there (RFC 9112
    /// section 5.1).
    #[must_use]
    pub fn of_response(mut self) -> Self {
        self.blanks = true;
        self
    }

    /// The same body, forwarded without chunk lines.
    #[must_use]
    pub fn unchunked(mut self) -> Self {
        self.unchunk = true;
        self
    }

    /// True when the last byte was seen.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// True when the peer's end of stream is this body's proper end here.
    pub fn may_end_here(&self) -> bool {
        matches!(self.state, State::Done | State::UntilClose)
    }

    /// Reads what belongs to the body of `window` and leaves at its start what is to be forwarded.
    ///
    /// # Errors
    /// [`BodyError`] for a chunk that breaks the grammar or the limit. What stood before it in the window is lost.
    pub fn step(&mut self, window: &mut [u8]) -> Result<Step, BodyError> {
        match self.state {
            State::Done => Ok(Step { consumed: 0, produced: 0 }),
            State::UntilClose => {
                let count = window.len();
                self.allowance = self.allowance.checked_sub(count as u64).ok_or(BodyError::TooLarge)?;
                Ok(Step { consumed: count, produced: count })
            }
            State::Length(left) => {
                let count = clamp(left, window.len());
                self.state = match left - count as u64 {
                    0 => State::Done,
                    left => State::Length(left),
                };
                Ok(Step { consumed: count, produced: count })
            }
            _ => self.step_chunked(window),
        }
    }

    fn step_chunked(&mut self, window: &mut [u8]) -> Result<Step, BodyError> {
        let mut read = 0;
        let mut written = 0;
        while read < window.len() && self.state != State::Done {
            if let State::Data(left) = self.state {
                let count = clamp(left, window.len() - read);
                if written < read {
                    window.copy_within(read..read + count, written);
                }
                read += count;
                written += count;
                self.state = match left - count as u64 {
                    0 => State::DataCr,
                    left => State::Data(left),
                };
                continue;
            }
            if self.state == State::Line(Line::SizeStart, 0, 0) {
                if let Some((size, length)) = plain_line(&window[read..]) {
                    if !self.unchunk {
                        window.copy_within(read..read + length, written);
                        written += length;
                    }
                    read += length;
                    self.line_end(size)?;
                    continue;
                }
            }
            let byte = window[read];
            read += 1;
            if self.framing_byte(byte)? && !self.unchunk {
                window[written] = byte;
                written += 1;
            }
        }
        Ok(Step { consumed: read, produced: written })
    }

    /// Reads one byte that is not content; true when it is forwarded.
    fn framing_byte(&mut self, byte: u8) -> Result<bool, BodyError> {
        match self.state {
            State::Line(line, size, length) => {
                if length >= MAX_CHUNK_LINE {
                    return Err(BodyError::Malformed("a chunk line is too long"));
                }
                self.line_byte(line, size, length + 1, byte)
            }
            State::DataCr if byte == b'\r' => {
                self.state = State::DataLf;
                Ok(true)
            }
            State::DataLf if byte == b'\n' => {
                self.state = State::Line(Line::SizeStart, 0, 0);
                Ok(true)
            }
            State::Trailer(trailer, length) => {
                if length >= MAX_TRAILERS {
                    return Err(BodyError::Malformed("the trailer section is too long"));
                }
                self.trailer_byte(trailer, length + 1, byte)
            }
            _ => Err(BodyError::Malformed("a chunk is longer than it says")),
        }
    }

    fn line_byte(&mut self, line: Line, size: u64, length: u16, byte: u8) -> Result<bool, BodyError> {
        const BAD_SIZE: BodyError = BodyError::Malformed("a chunk size is not a hexadecimal number");
        const LONG_SIZE: BodyError = BodyError::Malformed("a chunk size has more than 16 digits");
        const BAD_EXTENSION: BodyError = BodyError::Malformed("a chunk extension breaks the grammar");
        let blank = byte == b' ' || byte == b'\t';
        let (next, size, keep) = match (line, byte) {
            // Nothing but digits stands before a digit of the size.
            (Line::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if length > MAX_SIZE_DIGITS => return Err(LONG_SIZE),
            (Line::SizeStart | Line::Size, _) if byte.is_ascii_hexdigit() => {
                let digit = u64::from((byte as char).to_digit(16).unwrap_or(0));
                (Line::Size, (size << 4) | digit, true)
            }
            (Line::SizeStart, _) => return Err(BAD_SIZE),
            (Line::Size, b'\r') => (Line::Lf, size, true),
            (Line::Name | Line::Value | Line::QuotedEnd, b'\r') => (Line::Lf, size, true),
            (Line::Size | Line::BeforeSemicolon | Line::QuotedEnd | Line::Value, _) if blank => {
                (Line::BeforeSemicolon, size, false)
            }
            (
                Line::Size | Line::BeforeSemicolon | Line::Name | Line::AfterName | Line::Value | Line::QuotedEnd,
                b';',
            ) => (Line::NameStart, size, false),
            (Line::Size, _) => return Err(BAD_SIZE),
            (Line::NameStart, _) if blank => (Line::NameStart, size, false),
            (Line::NameStart | Line::Name, _) if is_tchar(byte) => (Line::Name, size, false),
            (Line::Name | Line::AfterName, b'=') => (Line::ValueStart, size, false),
            (Line::Name | Line::AfterName, _) if blank => (Line::AfterName, size, false),
            (Line::ValueStart, _) if blank => (Line::ValueStart, size, false),
            (Line::ValueStart, b'"') => (Line::Quoted, size, false),
            (Line::ValueStart | Line::Value, _) if is_tchar(byte) => (Line::Value, size, false),
            (Line::Quoted, b'"') => (Line::QuotedEnd, size, false),
            (Line::Quoted, b'\\') => (Line::QuotedPair, size, false),
            (Line::Quoted | Line::QuotedPair, b'\t' | b' '..=b'~' | 128..) => (Line::Quoted, size, false),
            (Line::Lf, b'\n') => return self.line_end(size),
            (Line::Lf, _) => return Err(BodyError::Malformed("a CR without LF")),
            _ => return Err(BAD_EXTENSION),
        };
        self.state = State::Line(next, size, length);
        Ok(keep)
    }

    fn line_end(&mut self, size: u64) -> Result<bool, BodyError> {
        self.allowance = self.allowance.checked_sub(size).ok_or(BodyError::TooLarge)?;
        self.state = match size {
            0 => State::Trailer(Trailer::Start, 0),
            size => State::Data(size),
        };
        Ok(true)
    }

    fn trailer_byte(&mut self, trailer: Trailer, length: u16, byte: u8) -> Result<bool, BodyError> {
        let (next, keep) = match (trailer, byte) {
            (Trailer::Start, b'\r') => (Trailer::FinalLf, true),
            (Trailer::FinalLf, b'\n') => {
                self.state = State::Done;
                return Ok(true);
            }
            (Trailer::Start | Trailer::Name, _) if is_tchar(byte) => (Trailer::Name, false),
            (Trailer::Name | Trailer::AfterName, b' ' | b'\t') if self.blanks => (Trailer::AfterName, false),
            (Trailer::Name | Trailer::AfterName, b':') => (Trailer::Value, false),
            (Trailer::Value, b'\r') => (Trailer::Lf, false),
            (Trailer::Value, b'\t' | b' '..=b'~' | 128..) => (Trailer::Value, false),
            (Trailer::Lf, b'\n') => (Trailer::Start, false),
            _ => return Err(BodyError::Malformed("a trailer field breaks the grammar")),
        };
        self.state = State::Trailer(next, length);
        Ok(keep)
    }
}

/// The size in a chunk line that is there whole and has no extension, and the line's length: most lines of most nodes.
/// Any other line is read byte by byte.
fn plain_line(window: &[u8]) -> Option<(u64, usize)> {
    let (mut size, mut digits) = (0, 0);
    while let Some(digit) = window.get(digits).and_then(|byte| char::from(*byte).to_digit(16)) {
        (size, digits) = (size << 4 | u64::from(digit), digits + 1);
        if digits > usize::from(MAX_SIZE_DIGITS) {
            return None;
        }
    }
    (digits > 0 && window[digits..].starts_with(b"\r\n")).then_some((size, digits + 2))
}

fn clamp(left: u64, available: usize) -> usize {
    usize::try_from(left).map_or(available, |left| left.min(available))
}

#[cfg(test)]
mod tests;
