//! The hour before the start of a demo, which the demo makes up, as samples of the history.

use std::sync::Arc;

use crate::config::Lavalink;
use crate::demo::{self, past_hour};
use crate::history::{History, Reading, Sample, Totals};

/// Fills the hour before `now`, in milliseconds since the epoch.
pub(super) fn fill(history: &History, nodes: &[demo::Node], now: u64) {
    let mut readings: Vec<Reading> =
        nodes.iter().map(|node| Reading { name: Some(node.name().into()), ..Reading::default() }).collect();
    let steps = past_hour(nodes.len());
    for (before, step) in (0..steps.len()).rev().zip(steps) {
        for (reading, of_node) in readings.iter_mut().zip(step) {
            let totals = &mut reading.totals;
            totals.requests += of_node.requests;
            totals.bytes_in += of_node.bytes_in;
            totals.bytes_out += of_node.bytes_out;
            reading.connections = of_node.connections;
            reading.players = Some(of_node.players);
            reading.load = Some(of_node.load);
            reading.response_time = Some(of_node.response_time);
        }
        let sample = sample(nodes, &readings);
        history.tick(now.saturating_sub(before as u64 * 10_000), || sample);
    }
}

fn sample(nodes: &[demo::Node], readings: &[Reading]) -> Sample {
    let of = |version: Lavalink| {
        let of_version = nodes.iter().zip(readings).filter(move |(node, _)| node.version() == version);
        sum(version.name(), of_version.map(|(_, reading)| reading))
    };
    Sample {
        all: Reading { name: Some("all".into()), ..Reading::default() },
        versions: Lavalink::ALL.map(of).into(),
        nodes: readings.to_vec(),
        accounts: vec![sum("default", readings.iter())],
        // No day is made up.
        answering: Vec::new(),
    }
}

fn sum<'r>(name: &str, readings: impl Iterator<Item = &'r Reading>) -> Reading {
    let name: Option<Arc<str>> = Some(name.into());
    readings.fold(Reading { name, players: Some(0), ..Reading::default() }, |sum, reading| Reading {
        totals: Totals {
            requests: sum.totals.requests + reading.totals.requests,
            bytes_in: sum.totals.bytes_in + reading.totals.bytes_in,
            bytes_out: sum.totals.bytes_out + reading.totals.bytes_out,
            refusals: 0,
        },
        connections: sum.connections + reading.connections,
        players: sum.players.zip(reading.players).map(|(sum, more)| sum + more),
        ..sum
    })
}
