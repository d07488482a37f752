//! How much clients may use, and which of them: the values of these settings and their parsers. Pure.

use std::fmt;
use std::time::Duration;

use super::{Networks, value};

type Parsed<T> = Result<T, String>;

/// How much clients may use, and which of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitSettings {
    /// The most connections in all; `None` for what the machine carries.
    pub max_connections: Option<usize>,
    /// The most connections of one client.
    pub connections_per_address: PerAddress,
    /// New connections of one client.
    pub connection_rate: Option<Rate>,
    /// Requests of one client.
    pub request_rate: Option<Rate>,
    /// The wrong passwords within a minute that ban a client; never 0.
    pub ban_after: Option<u32>,
    /// The only clients that are served; empty for all.
    pub allowed: Networks,
    /// Clients that are not served.
    pub blocked: Networks,
}

/// The most connections of one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PerAddress {
    /// An eighth of all connections.
    Share,
    /// No limit.
    Off,
    /// This number.
    Number(usize),
}

impl PerAddress {
    /// The number while there are slots for `total` connections.
    #[must_use]
    pub fn of(self, total: usize) -> Option<usize> {
        match self {
            Self::Share => Some((total / 8).max(1)),
            Self::Off => None,
            Self::Number(number) => Some(number),
        }
    }
}

/// It displays in the form that the setting has, empty for the default.
impl fmt::Display for PerAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Share => Ok(()),
            Self::Off => out.write_str("off"),
            Self::Number(number) => number.fmt(out),
        }
    }
}

/// So many events in each period on average, and so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// The events of each period; at least 1.
    pub count: u32,
    /// A second, a minute or an hour.
    pub period: Duration,
    /// The events at once after a pause; at least 1.
    pub burst: u32,
}

/// The largest count and the largest burst.
const MAX_EVENTS: u32 = 1_000_000;

const PERIODS: [(&str, Duration); 3] =
    [("s", Duration::from_secs(1)), ("m", Duration::from_secs(60)), ("h", Duration::from_secs(3600))];

impl Rate {
    /// The burst of a rate that names none.
    fn usual_burst(count: u32) -> u32 {
        count.saturating_mul(4).min(MAX_EVENTS)
    }
}

/// It displays in the form that the settings have: the burst is left out where it is the usual one.
impl fmt::Display for Rate {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = PERIODS.iter().find(|(_, period)| *period == self.period).map_or("s", |(unit, _)| *unit);
        write!(out, "{}/{unit}", self.count)?;
        match self.burst == Self::usual_burst(self.count) {
            true => Ok(()),
            false => write!(out, " burst={}", self.burst),
        }
    }
}

/// `50/s`, `50/s burst=100` or `off`.
pub fn rate(text: &str) -> Parsed<Option<Rate>> {
    const FORM: &str = "write such as 50/s, 300/m, '50/s burst=100' or off";
    if text == "off" {
        return Ok(None);
    }
    let events = |text: &str, what: &str| match number(text) {
        Some(0) => Err(format!("its {what} is zero, which refuses every client (write 1 or more, or off)")),
        Some(number) if number <= MAX_EVENTS => Ok(number),
        Some(_) => Err(format!("its {what} is too large (the largest is {MAX_EVENTS})")),
        None => Err(format!("it is not a rate ({FORM})")),
    };
    let (average, burst) = text.split_once(' ').map_or((text, None), |(average, burst)| (average, Some(burst)));
    let (count, unit) = average.split_once('/').ok_or_else(|| format!("it is not a rate ({FORM})"))?;
    let Some((_, period)) = PERIODS.iter().find(|(name, _)| *name == unit) else {
        return Err(format!("it has a period that is not known, only s, m and h are ({FORM})"));
    };
    let count = events(count, "number")?;
    let burst = match burst.map(|burst| burst.strip_prefix("burst=")) {
        None => Rate::usual_burst(count),
        Some(Some(burst)) => events(burst, "burst")?,
        Some(None) => return Err(format!("it has something other than burst= after its rate ({FORM})")),
    };
    Ok(Some(Rate { count, period: *period, burst }))
}

/// The value of digits, at most the largest there is.
fn number(text: &str) -> Option<u32> {
    let is_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_digits.then(|| text.parse().unwrap_or(u32::MAX))
}

/// A number of connections, `off` or nothing.
pub fn per_address(text: &str) -> Parsed<PerAddress> {
    match text {
        "" => Ok(PerAddress::Share),
        "off" => Ok(PerAddress::Off),
        text if number(text).is_some() => value::number(text).map(PerAddress::Number),
        _ => Err("it is neither a number nor off (write such as 500, or off for no limit)".to_owned()),
    }
}

/// A number of wrong passwords; `off` and 0 are none.
pub fn ban_after(text: &str) -> Parsed<Option<u32>> {
    const MAX: u32 = 1000;
    match number(text) {
        _ if text == "off" => Ok(None),
        Some(0) => Ok(None),
        Some(number) if number <= MAX => Ok(Some(number)),
        Some(_) => Err(format!("it is too large (the largest is {MAX}; write off for no bans)")),
        None => Err("it is neither a number nor off (write such as 20, or off for no bans)".to_owned()),
    }
}

/// How long a ban by hand holds: at least a second, a year at the most.
///
/// # Errors
/// What is wrong with the text, and in brackets what to write.
pub fn ban_duration(text: &str) -> Parsed<Duration> {
    const YEAR: u64 = 365 * 24 * 3_600_000;
    match value::duration_up_to(YEAR, text)? {
        short if short < Duration::from_secs(1) => Err("it is less than a second (write 1s or more)".to_owned()),
        duration => Ok(duration),
    }
}
