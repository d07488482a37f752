//! One logfmt line per event: `time=... level=info event=ended client=...`. Text from peers is escaped here.

use std::fmt::{self, Display, Write as _};
use std::io::Write as _;

use log::{Level, Log, Metadata, Record};
use parking_lot::RwLock;

static LOGGER: Logger = Logger(RwLock::new(None));

/// An env_logger cannot change its filter, so it is replaced by another.
struct Logger(RwLock<Option<env_logger::Logger>>);

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.0.read().as_ref().is_some_and(|logger| logger.enabled(metadata))
    }

    fn log(&self, record: &Record<'_>) {
        if let Some(logger) = &*self.0.read() {
            logger.log(record);
        }
    }

    fn flush(&self) {}
}

/// Starts logging to standard error; `filter` is a level or an env_logger filter.
pub fn init(filter: &str) {
    set_filter(filter);
    // Fails where another logger is set already, which then stays.
    let _ = log::set_logger(&LOGGER);
}

/// Changes the filter from here on.
pub fn set_filter(filter: &str) {
    let line = |out: &mut env_logger::fmt::Formatter, record: &Record<'_>| {
        let level = match record.level() {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
            Level::Trace => "trace",
        };
        writeln!(out, "time={} level={level} {}", out.timestamp_millis(), record.args())
    };
    let logger = env_logger::Builder::new().parse_filters(filter).format(line).build();
    log::set_max_level(logger.filter());
    *LOGGER.0.write() = Some(logger);
}

/// A logfmt value: unchanged when plain, else in quotes, with controls, quotes and backslashes escaped.
pub struct Quoted<T>(pub T);

impl<T: Display> Display for Quoted<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        let plain = |c: char| c.is_alphanumeric() || "-_./:@[]+*,;()%~".contains(c);
        if !text.is_empty() && text.chars().all(plain) {
            return out.write_str(&text);
        }
        out.write_char('"')?;
        for c in text.chars() {
            match c {
                '"' | '\\' => write!(out, "\\{c}")?,
                c if c.is_control() || is_invisible(c) => write!(out, "{}", c.escape_unicode())?,
                c => out.write_char(c)?,
            }
        }
        out.write_char('"')
    }
}

/// Characters that reorder or hide text in a terminal.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::Quoted;

    #[test]
    fn text_from_peers_cannot_forge_a_line() {
        for (sent, shown) in [
            ("/v4/info", "/v4/info"),
            ("", "\"\""),
            ("two words", "\"two words\""),
            ("a=b", "\"a=b\""),
            ("say \"hi\"\\", "\"say \\\"hi\\\"\\\\\""),
            ("x\r\ntime=1", "\"x\\u{d}\\u{a}time=1\""),
            ("\u{1b}[31m", "\"\\u{1b}[31m\""),
            ("\u{202e}evil", "\"\\u{202e}evil\""),
            ("nul\0", "\"nul\\u{0}\""),
        ] {
            assert_eq!(Quoted(sent).to_string(), shown);
        }
    }
}
