//! The page `/status` for the bots' owners: whether each version is up, since when, and on how much of the last 90 days.
//! It needs no password, so it shows no address, no name and no number of anybody.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::answer::{Answer, Refusal, with_body};
use super::pages::{HTML, STATUS};
use super::{Setup, Sources};
use crate::config::Lavalink;
use crate::history::{Day, History};
use crate::nodes::health::NodeState;
use crate::unix_time::unix_millis;

/// Where the page is.
pub const PATH: &str = "/status";
/// How many days it shows.
const DAYS: u64 = 90;
const DAY: u64 = 24 * 3600 * 1000;
/// The height of a day that was up all the time, and the greatest of any other.
const FULL: f64 = 28.0;
const PART: f64 = 20.0;

/// The page, if it is on.
pub fn answer(sources: &Sources) -> Result<Answer, Refusal> {
    let setup = sources.setup();
    if setup.setting("STATUS_PAGE") != "on" {
        return Err(Refusal::new(404, "there is no status page; STATUS_PAGE=on makes one that needs no password"));
    }
    Ok(with_body(200, HTML, page(&setup, &sources.history, unix_millis())))
}

fn page(setup: &Setup, history: &History, now: u64) -> String {
    let states: Vec<(Lavalink, NodeState)> =
        Lavalink::ALL.into_iter().filter_map(|version| Some((version, state(setup, version)?))).collect();
    let down: Vec<&str> = in_state(&states, NodeState::Down);
    let (class, verdict) = match (down.len(), in_state(&states, NodeState::Unknown).len()) {
        (0, 0) => ("ok", "Everything works".to_owned()),
        (0, _) => ("", "Not everything was checked yet".to_owned()),
        (some, _) if some == states.len() => ("down", "Down".to_owned()),
        _ => ("degraded", format!("Lavalink {} is down", down.join(", "))),
    };
    let versions: String = states.iter().map(|(version, state)| section(*version, *state, history, now)).collect();
    STATUS
        .replace("{state}", class)
        .replace("{verdict}", &verdict)
        .replace("{now}", &moment(now))
        .replace("{versions}\n", &versions)
}

/// Whether a version is up; `None` where it is off.
fn state(setup: &Setup, version: Lavalink) -> Option<NodeState> {
    let of_version = setup.nodes.iter().filter(|node| node.version() == Some(version));
    NodeState::of_version(of_version.map(|node| node.health().state()))
}

fn in_state(states: &[(Lavalink, NodeState)], wanted: NodeState) -> Vec<&'static str> {
    states.iter().filter(|(_, state)| *state == wanted).map(|(version, _)| version.name()).collect()
}

/// What is shown of one version. Writing to a String cannot fail.
fn section(version: Lavalink, state: NodeState, history: &History, now: u64) -> String {
    let (known, days) = history.uptime(version);
    let (class, word) = match state {
        NodeState::Up | NodeState::Draining => ("up", "Up"),
        NodeState::Down => ("down", "Down"),
        NodeState::Unknown => ("unknown", "Not known yet"),
    };
    let since = match (known, state) {
        (Some((true, since)), NodeState::Up) | (Some((false, since)), NodeState::Down) => {
            format!(" since {}", moment(since))
        }
        // The history has not seen the newest change yet.
        _ => String::new(),
    };
    let today = now / DAY;
    let days: Vec<Day> = days.into_iter().filter(|day| day.number <= today && day.number + DAYS > today).collect();
    let (up, of) = days.iter().fold((0, 0), |(up, of), day| (up + day.up, of + day.of));
    let share = if of == 0 { "not measured yet".to_owned() } else { format!("{} up", percent(up, of)) };
    let mut text = String::new();
    let name = version.name();
    let _ = writeln!(text, "    <section class=\"panel\" aria-labelledby=\"{name}\">");
    let _ = writeln!(
        text,
        "      <h2 id=\"{name}\">Lavalink {name} <span class=\"pill {class}\">{word}{since}</span></h2>"
    );
    let _ =
        writeln!(text, "      {}", bars(&days, today, &format!("The last {DAYS} days of Lavalink {name}: {share}")));
    let _ = writeln!(
        text,
        "      <p class=\"scale\"><span>{}</span><strong>{share}</strong><span>today</span></p>",
        date((today + 1).saturating_sub(DAYS))
    );
    text += &interruptions(&days);
    text += "    </section>\n";
    text
}

/// A bar for each day, today's on the right.
fn bars(days: &[Day], today: u64, label: &str) -> String {
    let mut text = format!(
        "<svg class=\"days\" viewBox=\"0 0 {DAYS} 30\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{label}\">"
    );
    for number in (today + 1).saturating_sub(DAYS)..=today {
        let x = number + DAYS - 1 - today;
        let day = days.iter().find(|day| day.number == number && day.of > 0);
        let (class, height, said) = match day {
            None => ("none", 1.0, "not measured".to_owned()),
            Some(day) if day.up == day.of => ("up", FULL, "up all the time".to_owned()),
            Some(day) => {
                let height = 3.0 + (PART - 3.0) * day.up as f64 / day.of as f64;
                ("down", height, format!("{} up", percent(day.up, day.of)))
            }
        };
        let _ = write!(
            text,
            "<rect class=\"{class}\" x=\"{x}.1\" y=\"{:.1}\" width=\".8\" height=\"{height:.1}\"><title>{}: {said}</title></rect>",
            30.0 - height,
            date(number)
        );
    }
    text + "</svg>"
}

/// The days that were not up all the time, the newest first.
fn interruptions(days: &[Day]) -> String {
    let rows: String = days
        .iter()
        .rev()
        .filter(|day| day.up < day.of)
        .map(|day| {
            let (date, share) = (date(day.number), percent(day.up, day.of));
            format!("<tr><th scope=\"row\">{date}</th><td class=\"number\">{share}</td></tr>")
        })
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    let head = "<tr><th scope=\"col\">Day</th><th scope=\"col\" class=\"number\">Up</th></tr>";
    format!(
        "      <details><summary>Days with an interruption</summary><table class=\"plain\"><thead>{head}</thead><tbody>{rows}</tbody></table></details>\n"
    )
}

/// Rounded down, so that only what was up all the time has 100 %.
fn percent(up: u64, of: u64) -> String {
    let hundredths = up.saturating_mul(10_000) / of.max(1);
    format!("{}.{:02} %", hundredths / 100, hundredths % 100).replace(".00 %", " %")
}

/// A day, given by its number since the epoch.
fn date(number: u64) -> String {
    written(number.saturating_mul(DAY), "%-d %B %Y")
}

fn moment(millis: u64) -> String {
    written(millis, "%-d %B %Y, %H:%M UTC")
}

/// Empty for a time beyond the calendar.
fn written(millis: u64, form: &str) -> String {
    let time = i64::try_from(millis).ok().and_then(|millis| Timestamp::from_millisecond(millis).ok());
    time.map_or_else(String::new, |time| time.strftime(form).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_moments_are_written_out() {
        assert_eq!((&*date(0), &*date(20_783), &*date(u64::MAX)), ("1 January 1970", "26 November 2026", ""));
        assert_eq!(moment(20_783 * DAY + 5 * 3_600_000 + 14 * 60_000 + 59_999), "26 November 2026, 05:14 UTC");
    }

    #[test]
    fn only_what_was_up_all_the_time_is_up_by_a_hundred_percent() {
        for (up, of, expected) in [(5, 5, "100 %"), (999_999, 1_000_000, "99.99 %"), (1, 2, "50 %"), (0, 9, "0 %")] {
            assert_eq!(percent(up, of), expected);
        }
    }

    #[test]
    fn there_is_a_bar_for_each_of_ninety_days() {
        let day = |number, up| Day { number, up, of: 8640 };
        let text = bars(&[day(911, 8640), day(1000, 4320)], 1000, "label");
        assert_eq!(text.matches("<rect").count(), 90);
        assert!(text.contains("<rect class=\"up\" x=\"0.1\""), "{text}");
        assert!(
            text.contains("<rect class=\"down\" x=\"89.1\" y=\"18.5\"") && text.contains(": 50 % up</title>"),
            "{text}"
        );
        assert_eq!(text.matches("class=\"none\"").count(), 88);
        assert_eq!(interruptions(&[day(999, 8640)]), "");
    }
}
