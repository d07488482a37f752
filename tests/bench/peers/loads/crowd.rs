//! More tunnels than a machine may carry: lavaproxy must live, hold what it can and refuse the rest clearly.

use std::io;

use crate::bench::{Bench, Findings};
use crate::compare::{Row, Verdict};
use crate::contestant::Contestant::Lavaproxy;
use crate::loads::messages::SMALL;
use crate::tunnels::Opening;

pub fn run(bench: &Bench, findings: &mut Findings) {
    let count = bench.count(12_000);
    let load = format!("{count} connections asked for");
    match ask(bench, count) {
        Ok((ours, verdicts)) => findings.rows.push(Row::alone(&load, "held", ours, verdicts)),
        Err(error) => {
            findings.rows.push(Row::alone(&load, "held", "failed".to_owned(), Vec::new()));
            findings.failures.push(format!("{load}: {error}"));
        }
    }
}

fn ask(bench: &Bench, count: usize) -> io::Result<(String, Vec<Verdict>)> {
    eprintln!("{count} connections asked for");
    let mut running = bench.stage.start(Lavaproxy)?;
    let opening = Opening::ask(running.address, count, SMALL)?;
    let held = opening.tunnels.count();
    let lives = running.is_running();
    drop(opening.tunnels);
    let goal = "never aborts";
    let never_aborts = if lives { Verdict::met(goal) } else { Verdict::missed(goal, "missed: it ended".to_owned()) };
    let goal = "clear refusals";
    let unclear = opening.refusals.iter().find(|(status, body)| *status != 503 || !body.contains("limit"));
    let refuses = match (&opening.broken, unclear) {
        (Some((error, count)), _) => Verdict::missed(goal, format!("missed: {count} got none: {error}")),
        (None, Some((status, body))) => Verdict::missed(goal, format!("missed: {status} {body}")),
        (None, None) => Verdict::met(goal),
    };
    let message = opening.refusals.first().and_then(|(_, body)| message(body)).unwrap_or_default();
    let ours = match opening.refusals.len() {
        0 => format!("{held}"),
        refused => format!("{held}; {refused} refused with 503, \"{message}\""),
    };
    Ok((ours, vec![never_aborts, refuses]))
}

/// What a refusal's JSON says to the client.
fn message(answer: &str) -> Option<String> {
    let (_, body) = answer.split_once("\r\n\r\n")?;
    let json: serde_json::Value = serde_json::from_str(body).ok()?;
    json.get("message")?.as_str().map(str::to_owned)
}
