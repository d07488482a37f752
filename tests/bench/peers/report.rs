//! What was found, as Markdown for people and as JSON for programs.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::bench::Findings;
use crate::compare::{Metric, Row, Samples, Verdict};

/// The table of ratios, the machine, and the medians behind them.
pub fn markdown(findings: &Findings, machine: &[String], rounds: usize) -> String {
    let mut text = String::new();
    let others: Vec<_> = Row::OTHERS.into_iter().map(|other| format!("/ {}", other.name())).collect();
    let _ = writeln!(text, "| load | | lavaproxy | {} | goal |", others.join(" | "));
    let _ = writeln!(text, "|---|---|---|{}---|", "---|".repeat(others.len()));
    for row in &findings.rows {
        let verdicts: Vec<_> = row.verdicts.iter().map(show).collect();
        let (ratios, verdicts) = (row.ratios.join(" | "), verdicts.join("; "));
        let _ = writeln!(text, "| {} | {} | {} | {ratios} | {verdicts} |", row.load, row.measured, row.ours);
    }
    let _ = writeln!(text, "\nMedians of {rounds} rounds, (least–most). {}.", machine.join(" · "));
    for failure in &findings.failures {
        let _ = writeln!(text, "\nFailed: {failure}");
    }
    let names = Metric::ALL.map(Metric::name);
    let _ = writeln!(text, "\n<details><summary>Medians of all</summary>\n\n| load | | {} |", names.join(" | "));
    let _ = writeln!(text, "|---|---|{}", "---|".repeat(names.len()));
    for (load, samples) in series(findings) {
        for contestant in samples.0.keys() {
            let value = |metric: &Metric| {
                samples.median(*contestant, *metric).map_or("–".to_owned(), |value| metric.show(value))
            };
            let values: Vec<_> = Metric::ALL.iter().map(value).collect();
            let _ = writeln!(text, "| {load} | {} | {} |", contestant.name(), values.join(" | "));
        }
    }
    text.push_str("\n</details>\n");
    text
}

fn show(verdict: &Verdict) -> String {
    let mark = if verdict.is_met { "✓" } else { "✗" };
    format!("{mark} {}: {}", verdict.goal, verdict.comment)
}

/// Every sample of every round.
pub fn json(findings: &Findings, machine: &[String]) -> Value {
    let loads: Vec<_> = series(findings).map(|(load, samples)| json!({"load": load, "samples": of(samples)})).collect();
    json!({"machine": machine, "loads": loads, "failures": findings.failures})
}

fn of(samples: &Samples) -> Value {
    let contestants = samples.0.keys().map(|contestant| {
        let values =
            Metric::ALL.iter().map(|metric| (metric.name().to_owned(), json!(samples.values(*contestant, *metric))));
        (contestant.name().to_owned(), Value::Object(values.collect()))
    });
    Value::Object(contestants.collect())
}

fn series(findings: &Findings) -> impl Iterator<Item = (String, &Samples)> {
    let growth = findings.growth.iter().map(|(count, samples)| (format!("growth, {count} tunnels × 5/s"), samples));
    findings.raw.iter().map(|(load, samples)| (load.clone(), samples)).chain(growth)
}
