//! The parsers of single values. Pure: text in, value or reason out.
//!
//! A reason says what is wrong and, in brackets, what to write instead. It never repeats the value, which may be a
//! secret.

use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use super::{Lavalink, Secret};

type Parsed<T> = Result<T, String>;

/// An empty value as none.
pub fn optional<T>(parse: impl Fn(&str) -> Parsed<T>) -> impl Fn(&str) -> Parsed<Option<T>> {
    move |text| if text.is_empty() { Ok(None) } else { parse(text).map(Some) }
}

/// An IPv4 or IPv6 address (brackets are taken off) or a name, in the form that `std::net` resolves.
pub fn host(text: &str) -> Parsed<String> {
    const PORT: &str = "it has a port (write the host only; the port is a separate setting)";
    let fail = |reason: &str| Err(reason.to_owned());
    if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return fail("it has a space or a line break (remove it)");
    }
    if text.contains("://") {
        return fail("it is a URL (write the host only, without scheme, port and path)");
    }
    if text.contains(['/', '?', '#', '@']) {
        return fail("it has more than a host (write the host only)");
    }
    if text == "*" {
        return fail("it is not an address (write 0.0.0.0 for all IPv4 addresses, :: for all of IPv4 and IPv6)");
    }
    if let Some(rest) = text.strip_prefix('[') {
        return match rest.split_once(']') {
            Some((_, tail)) if tail.starts_with(':') => fail(PORT),
            Some((inner, "")) if inner.parse::<Ipv6Addr>().is_ok() => Ok(inner.to_owned()),
            _ => fail("the text in brackets is not an IPv6 address (write one such as ::1)"),
        };
    }
    if text.parse::<IpAddr>().is_ok() {
        return Ok(text.to_owned());
    }
    match text.split_once(':') {
        Some((_, port)) if !port.contains(':') => return fail(PORT),
        Some(_) => return fail("it is not an IPv6 address (write one such as ::1, without a zone)"),
        None => {}
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    // The system's resolver reads 127.1, 2130706433 and 0x7f.1 as addresses; such a host is a mistake.
    let last = name.rsplit('.').next().unwrap_or(name);
    if last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x") || last.starts_with("0X") {
        return fail("it is not an IPv4 address (write four numbers from 0 to 255, such as 127.0.0.1)");
    }
    let fits = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if name.len() > 253 || !name.split('.').all(fits) {
        return fail("it is neither an address nor a host name (a name has ASCII letters, digits, - and dots)");
    }
    Ok(text.to_owned())
}

/// A port to listen on, 0 for any.
pub fn port(text: &str) -> Parsed<u16> {
    // Kubernetes does this to a service with the name of the setting.
    if text.starts_with("tcp://") {
        return Err("it is a URL, as Kubernetes sets it for a service of this name \
                    (set enableServiceLinks: false, and a number here)"
            .to_owned());
    }
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("it is not a port (write a number from 0 to 65535)".to_owned());
    }
    text.parse().map_err(|_| "it is too large for a port (the largest is 65535)".to_owned())
}

/// A port to connect to.
pub fn node_port(text: &str) -> Parsed<u16> {
    match port(text)? {
        0 => Err("no server can be reached at port 0 (write the port on which Lavalink listens)".to_owned()),
        port => Ok(port),
    }
}

/// Text that is a field value as it stands (RFC 9110 section 5.5).
pub fn password(text: &str) -> Parsed<Secret> {
    const MAX: usize = 1024;
    let fail = |reason: &str| Err(reason.to_owned());
    if text.is_empty() {
        return fail("it is empty (set a password, or remove the setting)");
    }
    if text.starts_with(char::is_whitespace) || text.ends_with(char::is_whitespace) {
        return fail("it begins or ends with a space or a line break, which HTTP does not carry (remove it)");
    }
    if !text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return fail(
            "it has a character that HTTP does not carry safely (use ASCII letters, digits, signs and spaces)",
        );
    }
    if text.len() > MAX {
        return Err(format!(
            "it is longer than {MAX} characters (write a shorter one, which fits into a request head)"
        ));
    }
    Ok(Secret::new(text.to_owned()))
}

/// `v3` or `v4`, or the digit alone as in the header `Lavalink-Version`.
pub fn version(text: &str) -> Parsed<Lavalink> {
    match text {
        "v3" | "3" => Ok(Lavalink::V3),
        "v4" | "4" => Ok(Lavalink::V4),
        _ => Err("it is not a version of Lavalink (write v3 or v4)".to_owned()),
    }
}

/// `on` or `off`.
pub fn switch(text: &str) -> Parsed<bool> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("it is neither on nor off (write on or off)".to_owned()),
    }
}

/// Path prefixes with commas between, such as `/youtube,/metrics`.
pub fn paths(text: &str) -> Parsed<Vec<String>> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    text.split(',').map(|item| path(item.trim())).collect()
}

fn path(text: &str) -> Parsed<String> {
    let fail = |reason: &str| Err(reason.to_owned());
    if !text.starts_with('/') {
        return fail("it has a path that does not begin with / (write such as /youtube,/metrics)");
    }
    if !text.bytes().all(|byte| (b'!'..=b'~').contains(&byte)) {
        return fail("it has a path with a character that no request line has (use ASCII letters, digits and signs)");
    }
    if text.contains(['?', '#']) {
        return fail("it has a path with a query or a fragment (write the path only)");
    }
    if text == "/" {
        return fail("it has the path /, which every request has (set DEFAULT_VERSION instead)");
    }
    if text.ends_with('/') {
        return fail("it has a path that ends with / (remove that /; all paths below the prefix are included)");
    }
    if text.split('/').any(|segment| Lavalink::ALL.iter().any(|version| segment == version.name())) {
        return fail("it has a path with the segment v3 or v4, which names the version already (remove the path)");
    }
    Ok(text.to_owned())
}

/// A level, or a list such as `info,lavaproxy::proxy=debug`.
///
/// It is stricter than `env_logger`, which reads a misspelt level as the name of a module and then logs nothing else.
pub fn log_level(text: &str) -> Parsed<String> {
    let is_level = |word: &str| word.parse::<log::LevelFilter>().is_ok();
    let is_module = |word: &str| {
        !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_:-".contains(&byte))
    };
    let fits = text.split(',').all(|item| match item.split_once('=') {
        None => is_level(item),
        Some((module, level)) => is_module(module) && is_level(level),
    });
    if fits {
        Ok(text.to_owned())
    } else {
        Err("it is not a log level (write error, warn, info, debug, trace or off, \
             or a list such as info,lavaproxy::proxy=debug)"
            .to_owned())
    }
}

/// Name and length in milliseconds, longest first.
const DURATION_UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
/// In milliseconds; a timeout longer than a day is a mistake.
const MAX_DURATION: u64 = 24 * 3_600_000;

/// A whole number with its unit: `250ms`, `10s`, `5m`, `2h`; a day at the most.
pub fn duration(text: &str) -> Parsed<Duration> {
    duration_up_to(MAX_DURATION, text)
}

/// A duration with a limit in milliseconds, which must be whole hours.
pub fn duration_up_to(longest: u64, text: &str) -> Parsed<Duration> {
    let (number, unit) = split_unit(text);
    if number.is_empty() {
        return Err("it is not a duration (write a whole number and its unit: 250ms, 10s, 5m, 2h)".to_owned());
    }
    if unit.is_empty() {
        return Err("it has no unit (add one: ms, s, m or h, as in 250ms, 10s, 5m, 2h)".to_owned());
    }
    let Some((_, length)) = DURATION_UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err("it has a unit that is not known (write a whole number and ms, s, m or h, as in 10s)".to_owned());
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(*length))
        .filter(|milliseconds| *milliseconds <= longest)
        .map(Duration::from_millis)
        .ok_or_else(|| format!("it is too long (the longest is {}h)", longest / 3_600_000))
}

/// A duration that is not zero.
pub fn timeout(text: &str) -> Parsed<Duration> {
    match duration(text)? {
        Duration::ZERO => Err("it is zero, which leaves no time at all (write 1ms or more)".to_owned()),
        duration => Ok(duration),
    }
}

/// The shortest way to write a duration that [`duration`] reads back.
pub fn duration_text(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    let unit = DURATION_UNITS.iter().find(|(_, length)| milliseconds % u128::from(*length) == 0);
    match unit {
        Some((name, length)) if milliseconds > 0 => format!("{}{name}", milliseconds / u128::from(*length)),
        _ => format!("{}s", duration.as_secs()),
    }
}

/// Name and number of bytes, largest first.
const SIZE_UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// A whole number with its unit: `512B`, `64KiB`, `8MiB`, `1GiB`; a number alone is bytes.
pub fn size(text: &str) -> Parsed<u64> {
    let (number, unit) = split_unit(text);
    if number.is_empty() {
        return Err("it is not a size (write a whole number and its unit: 512B, 64KiB, 8MiB, 1GiB)".to_owned());
    }
    let unit = if unit.is_empty() { "B" } else { unit };
    let Some((_, length)) = SIZE_UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err(
            "it has a unit that is not known (write a whole number and B, KiB, MiB or GiB, as in 8MiB)".to_owned()
        );
    };
    match number.parse::<u64>().ok().and_then(|number| number.checked_mul(*length)) {
        Some(0) => Err("it is nothing (write 1B or more, such as 8MiB)".to_owned()),
        Some(bytes) => Ok(bytes),
        None => Err("it is too large (write at most 17179869183GiB)".to_owned()),
    }
}

/// The shortest way to write a size that [`size`] reads back.
pub fn size_text(bytes: u64) -> String {
    match SIZE_UNITS.iter().find(|(_, length)| bytes % length == 0) {
        Some((name, length)) => format!("{}{name}", bytes / length),
        None => format!("{bytes}B"),
    }
}

/// The largest [`number`].
pub const MAX_NUMBER: usize = 1_000_000;

/// A number of things, at least 1.
pub fn number(text: &str) -> Parsed<usize> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(0) => Err("it is zero (write 1 or more)".to_owned()),
        Ok(number) if digits && number <= MAX_NUMBER => Ok(number),
        _ if digits => Err(format!("it is too large (the largest is {MAX_NUMBER})")),
        _ => Err("it is not a number (write a whole number such as 500)".to_owned()),
    }
}

/// The path of a file or a folder.
pub fn file(text: &str) -> Parsed<PathBuf> {
    if text.trim() != text || text.contains(char::is_control) {
        return Err("it begins or ends with a space, or has a line break (remove it)".to_owned());
    }
    Ok(PathBuf::from(text))
}

fn split_unit(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}
