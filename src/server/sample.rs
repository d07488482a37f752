//! What the history keeps of one moment: read from the ledger and from the nodes' health.

use crate::config::Lavalink;
use crate::history::{Answering, Reading, Sample, Totals};
use crate::ledger::{Ledger, Sum};
use crate::nodes::health::NodeState;

use super::{Current, NodeHandle};

/// The figures of now.
pub(super) fn take(ledger: &Ledger, current: &Current) -> Sample {
    let sums = ledger.sums();
    let nodes: Vec<Reading> = current.nodes.iter().map(|node| of_node(node, &sums.nodes)).collect();
    let mut versions: Vec<Reading> = sums.versions.into_iter().map(reading).collect();
    for version in Lavalink::ALL {
        let of_version = versions.iter_mut().find(|reading| reading.name.as_deref() == Some(version.name()));
        if let Some(reading) = of_version {
            reading.players = players(version, current, &nodes);
        }
    }
    let refusals = Totals { refusals: sums.refused, ..Totals::default() };
    Sample {
        all: Reading { name: Some("all".into()), totals: refusals, ..Reading::default() },
        versions,
        nodes,
        accounts: sums.accounts.into_iter().map(reading).collect(),
        answering: Lavalink::ALL
            .into_iter()
            .filter_map(|version| Some((version, answering(version, current)?)))
            .collect(),
    }
}

fn reading(sum: Sum) -> Reading {
    let totals = Totals {
        requests: sum.amount.requests,
        bytes_in: sum.amount.bytes_in,
        bytes_out: sum.amount.bytes_out,
        refusals: 0,
    };
    Reading { name: sum.name, totals, connections: sum.active, ..Reading::default() }
}

/// A node that no request has gone to yet has used nothing.
fn of_node(node: &NodeHandle, sums: &[Sum]) -> Reading {
    let name = &node.node.name;
    let seen = node.backend.health().report().seen;
    let used = sums.iter().find(|sum| sum.name.as_ref() == Some(name));
    let used = used.map(|Sum { active, amount, .. }| (*active, *amount)).unwrap_or_default();
    let sum = Sum { name: Some(name.clone()), active: used.0, amount: used.1 };
    Reading {
        players: seen.stats.map(|stats| stats.players),
        load: seen.stats.map(|stats| stats.cpu.system_load),
        response_time: seen.response_time,
        ..reading(sum)
    }
}

/// The players on all nodes of a version; `None` where no node says how many.
fn players(version: Lavalink, current: &Current, nodes: &[Reading]) -> Option<u64> {
    let of_version = current.nodes.iter().zip(nodes).filter(|(node, _)| node.version == version);
    of_version.filter_map(|(_, reading)| reading.players).reduce(u64::saturating_add)
}

/// Whether a version is up; `None` where it is off.
fn answering(version: Lavalink, current: &Current) -> Option<Answering> {
    let of_version = current.nodes.iter().filter(|node| node.version == version);
    let state = NodeState::of_version(of_version.map(|node| node.backend.health().state()))?;
    Some(match state {
        NodeState::Up | NodeState::Draining => Answering::Up,
        NodeState::Unknown => Answering::Unknown,
        NodeState::Down => Answering::Down,
    })
}
