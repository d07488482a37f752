//! Bans by hand: the form of a request that adds one, and what is done for it. A ban also ends what its network has
//! open.

use std::io::Read;
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;
use tiny_http::Request;

use super::Sources;
use super::answer::{Answer, Refusal, json};
use super::filter::decode;
use super::guard::field;
use crate::config::{self, network_text};
use crate::limits::By;

/// The largest body that is read, in bytes. The web listener refuses larger ones before.
const MAX_BODY: u64 = 4096;
/// What a request must have, for the messages.
const EXAMPLE: &str = r#"{"address":"203.0.113.7","reason":"floods","duration":"24h"}"#;

/// A ban that is asked for.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    network: IpNet,
    reason: String,
    /// `None` for no end.
    duration: Option<Duration>,
}

/// The body as it is sent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    address: String,
    #[serde(default)]
    reason: String,
    duration: Option<String>,
}

/// Adds the ban that the body names, whatever its Content-Type. Answers with its row.
pub fn add(request: &mut Request, sources: &Sources) -> Result<Answer, Refusal> {
    let by = by(request);
    let wanted = parse(&read(request)?)?;
    let row = sources
        .limits
        .bans()
        .ban(wanted.network, &wanted.reason, wanted.duration, by)
        .map_err(|error| Refusal::new(409, error.to_string()))?;
    sources.proxy.end_those(|holder| wanted.network.contains(&holder.address.to_canonical()));
    Ok(json(201, &row))
}

/// Lifts the ban of a percent-encoded address or network.
pub fn lift(named: &str, by: By, sources: &Sources) -> Result<Answer, Refusal> {
    let text = decode(named).ok_or_else(|| Refusal::new(400, "a % must be followed by two hexadecimal digits"))?;
    let network = network(&text)?;
    let bans = sources.limits.bans();
    if !bans.lift(network, by) {
        let wider = bans.rows().into_iter().find(|row| covers(&row.address, &network));
        let message = match wider {
            Some(row) => format!("{text} is banned with {0}; lift the ban of {0}", row.address),
            None => format!("there is no ban of {text}; GET /api/bans lists all"),
        };
        return Err(Refusal::new(404, message));
    }
    Ok(json(200, &Lifted { address: network_text(&network) }))
}

/// Who asks: browsers name their page, programs do not.
pub fn by(request: &Request) -> By {
    let is_page = field(request, "Origin").is_some() || field(request, "Sec-Fetch-Site").is_some();
    if is_page { By::Page } else { By::Api }
}

#[derive(serde::Serialize)]
struct Lifted {
    address: String,
}

fn covers(ban: &str, network: &IpNet) -> bool {
    config::network(ban).is_ok_and(|ban| ban.contains(network))
}

fn read(request: &mut Request) -> Result<Vec<u8>, Refusal> {
    let mut body = Vec::new();
    let read = request.as_reader().take(MAX_BODY + 1).read_to_end(&mut body);
    read.map_err(|_| Refusal::new(400, "the body ended before its declared length"))?;
    match body.len() as u64 > MAX_BODY {
        true => Err(Refusal::new(413, format!("the body is over {MAX_BODY} bytes; send such as {EXAMPLE}"))),
        false => Ok(body),
    }
}

fn parse(body: &[u8]) -> Result<Wanted, Refusal> {
    let invalid = |reason: String| Refusal::new(400, reason);
    let body: Body = serde_json::from_slice(body)
        .map_err(|error| invalid(format!("the body must be a JSON object such as {EXAMPLE}, but: {error}")))?;
    let reason = body.reason.trim().to_owned();
    if reason.contains(char::is_control) {
        return Err(invalid("reason: it has a line break or a control character; remove it".to_owned()));
    }
    let duration = body.duration.map(|text| config::ban_duration(&text)).transpose();
    let duration =
        duration.map_err(|why| invalid(format!("duration: {why}; leave it away for a ban without an end")))?;
    Ok(Wanted { network: network(&body.address)?, reason, duration })
}

fn network(text: &str) -> Result<IpNet, Refusal> {
    config::network(text.trim()).map_err(|reason| Refusal::new(400, format!("address: it is {reason}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn ban(address: &str, reason: &str, seconds: Option<u64>) -> Wanted {
        let network = config::network(address).unwrap();
        Wanted { network, reason: reason.to_owned(), duration: seconds.map(Duration::from_secs) }
    }

    #[test]
    fn a_ban_is_read_from_json() {
        for (body, expected) in [
            (r#"{"address":"203.0.113.7"}"#, ban("203.0.113.7", "", None)),
            (EXAMPLE, ban("203.0.113.7", "floods", Some(86_400))),
            (
                r#"{"address":" 203.0.113.7 ","reason":" two words ","duration":"10m"}"#,
                ban("203.0.113.7", "two words", Some(600)),
            ),
            (r#"{"address":"203.0.113.0/24","reason":"","duration":null}"#, ban("203.0.113.0/24", "", None)),
            (r#"{"address":"2001:DB8:0::/64","duration":"720h"}"#, ban("2001:db8::/64", "", Some(30 * 86_400))),
            (r#"{"address":"::ffff:203.0.113.7"}"#, ban("203.0.113.7", "", None)),
            (r#"{"address":"203.0.113.7","reason":"caf\u00e9 \u202e"}"#, ban("203.0.113.7", "café \u{202e}", None)),
        ] {
            assert_eq!(parse(body.as_bytes()).unwrap(), expected, "{body}");
        }
    }

    #[test]
    fn a_ban_that_cannot_be_read_is_refused_with_what_to_write() {
        for (body, says) in [
            ("", "must be a JSON object such as {\"address\""),
            ("203.0.113.7", "must be a JSON object"),
            ("[]", "must be a JSON object"),
            ("{}", "missing field `address`"),
            (r#"{"address":7}"#, "must be a JSON object"),
            (r#"{"address":"203.0.113.7","until":"10m"}"#, "unknown field `until`"),
            (r#"{"address":"203.0.113.7"} x"#, "trailing characters"),
            ("{\"address\":\"\u{0}", "must be a JSON object"),
            (r#"{"address":""}"#, "address: it is neither an address nor a network"),
            (r#"{"address":"bot.example"}"#, "names are not looked up"),
            (r#"{"address":"203.0.113.7:80"}"#, "neither an address nor a network"),
            (r#"{"address":"203.0.113.7/24"}"#, "write 203.0.113.0/24"),
            (r#"{"address":"203.0.113.7","duration":"10"}"#, "duration: it has no unit"),
            (r#"{"address":"203.0.113.7","duration":"0s"}"#, "duration: it is less than a second"),
            (r#"{"address":"203.0.113.7","duration":"-1s"}"#, "duration: it is not a duration"),
            (r#"{"address":"203.0.113.7","duration":"8761h"}"#, "the longest is 8760h"),
            (r#"{"address":"203.0.113.7","duration":600}"#, "must be a JSON object"),
            (r#"{"address":"203.0.113.7","reason":"two\nlines"}"#, "line break"),
        ] {
            let refusal = parse(body.as_bytes()).unwrap_err();
            assert_eq!(refusal.status, 400, "{body}");
            assert!(refusal.message.contains(says), "{body}: {}", refusal.message);
        }
        assert_eq!(parse(b"\xff").unwrap_err().status, 400);
    }

    #[test]
    fn a_network_that_a_ban_covers_is_found() {
        let network = |text: &str| config::network(text).unwrap();
        for (ban, named, expected) in [
            ("203.0.113.0/24", "203.0.113.7", true),
            ("203.0.113.0/24", "203.0.113.0/25", true),
            ("203.0.113.0/24", "203.0.112.0/23", false),
            ("2001:db8::/64", "2001:db8::1", true),
            ("2001:db8::/64", "203.0.113.7", false),
        ] {
            assert_eq!(covers(ban, &network(named)), expected, "{ban} {named}");
        }
    }
}
