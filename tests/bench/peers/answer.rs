//! Reads HTTP answers from pieces of any size; it keeps the head and counts the body.

use std::io;
use std::str;

/// An answer on its way in.
#[derive(Default)]
pub struct Answer {
    stage: Stage,
    /// The head, or the line of a chunk, as far as it came.
    line: Vec<u8>,
    pub status: u16,
    pub body: usize,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Stage {
    #[default]
    Head,
    /// So many bytes of a body of known length are to come.
    Body(usize),
    ChunkSize,
    /// So many bytes of a chunk are to come, its line end included.
    Chunk(usize),
    /// The empty line after the last chunk.
    End,
    Complete,
}

impl Answer {
    /// Takes what came; true once the answer is complete. Nothing may follow it.
    pub fn take(&mut self, mut bytes: &[u8]) -> io::Result<bool> {
        while !bytes.is_empty() {
            let taken = match self.stage {
                Stage::Head => self.take_line(bytes, b"\r\n\r\n", Self::start_body)?,
                Stage::ChunkSize => self.take_line(bytes, b"\r\n", Self::start_chunk)?,
                Stage::End => self.take_line(bytes, b"\r\n", Self::finish)?,
                Stage::Body(left) => {
                    let taken = left.min(bytes.len());
                    self.body += taken;
                    self.stage = if taken == left { Stage::Complete } else { Stage::Body(left - taken) };
                    taken
                }
                Stage::Chunk(left) => {
                    let taken = left.min(bytes.len());
                    self.stage = if taken == left { Stage::ChunkSize } else { Stage::Chunk(left - taken) };
                    taken
                }
                Stage::Complete => return Err(io::Error::other("bytes after the end of an answer")),
            };
            bytes = &bytes[taken..];
        }
        Ok(self.is_complete())
    }

    pub fn is_complete(&self) -> bool {
        self.stage == Stage::Complete
    }

    fn take_line(
        &mut self,
        bytes: &[u8],
        end: &[u8],
        then: fn(&mut Self, &str) -> io::Result<()>,
    ) -> io::Result<usize> {
        let before = self.line.len();
        self.line.extend_from_slice(bytes);
        let seen = before.saturating_sub(end.len());
        let Some(at) = self.line[seen..].windows(end.len()).position(|window| window == end) else {
            return Ok(bytes.len());
        };
        let length = seen + at + end.len();
        let mut line = std::mem::take(&mut self.line);
        let text = str::from_utf8(&line[..length - end.len()]).map_err(io::Error::other)?;
        then(self, text)?;
        line.clear();
        self.line = line;
        Ok(length - before)
    }

    fn start_body(&mut self, head: &str) -> io::Result<()> {
        self.status = head.get(9..12).and_then(|status| status.parse().ok()).ok_or_else(|| bad("status line", head))?;
        let field = |name: &str| {
            let mut fields = head.lines().filter_map(|line| line.split_once(": "));
            fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
        };
        self.stage = match field("content-length") {
            Some("0") => Stage::Complete,
            Some(length) => Stage::Body(length.parse().map_err(io::Error::other)?),
            None if field("transfer-encoding") == Some("chunked") => Stage::ChunkSize,
            None if self.status == 101 => Stage::Complete,
            None => return Err(bad("framing", head)),
        };
        Ok(())
    }

    fn start_chunk(&mut self, line: &str) -> io::Result<()> {
        let size = usize::from_str_radix(line, 16).map_err(io::Error::other)?;
        self.body += size;
        self.stage = if size == 0 { Stage::End } else { Stage::Chunk(size + 2) };
        Ok(())
    }

    fn finish(&mut self, line: &str) -> io::Result<()> {
        self.stage = Stage::Complete;
        if line.is_empty() { Ok(()) } else { Err(bad("trailer", line)) }
    }
}

fn bad(what: &str, text: &str) -> io::Error {
    io::Error::other(format!("an answer with a strange {what}: {text:?}"))
}
