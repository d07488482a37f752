//! /metrics in the text format 0.0.4 of Prometheus. The values of labels are bounded: no label is a client's address.

use std::fmt::{Display, Write as _};

use super::VERSION;
use super::health::ask_unknown;
use super::process::Process;
use super::{Setup, Sources, named};
use crate::config::Lavalink;
use crate::ledger::Tallies;
use crate::nodes::backend::Backend;
use crate::nodes::health::{CONNECT_BOUNDS, NodeState};
use crate::nodes::move_progress::MoveFigures;
use crate::nodes::takeovers::{Figures, GAP_BOUNDS};

/// The media type of the format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The most accounts that have samples of their own.
const MAX_ACCOUNTS: usize = 100;

/// All metrics.
pub fn text(sources: &Sources, process: &Process) -> String {
    let mut out = Families(String::new());
    out.family("lavaproxy_build_info", "gauge", "Always 1; the version is a label.");
    out.sample("lavaproxy_build_info", &[("version", VERSION)], 1);
    connections(&mut out, sources, &sources.ledger.tallies());
    limits(&mut out, sources);
    nodes(&mut out, sources);
    of_process(&mut out, process);
    out.0
}

fn connections(out: &mut Families, sources: &Sources, tallies: &Tallies) {
    let version = |version: Option<Lavalink>| ("version", version.map_or("none", Lavalink::name));

    let name = "lavaproxy_connections_limit";
    out.family(name, "gauge", "Maximum number of open connections from bots.");
    out.sample(name, &[], sources.proxy.capacity().connections);

    let name = "lavaproxy_connections";
    out.family(name, "gauge", "Open connections from bots, by Lavalink version and kind.");
    for tally in &tallies.versions {
        out.sample(name, &[version(tally.version), ("kind", "http")], tally.http);
        out.sample(name, &[version(tally.version), ("kind", "websocket")], tally.websockets);
    }

    let name = "lavaproxy_connections_total";
    out.family(name, "counter", "Accepted connections, by listener.");
    let web = sources.web_ledger.tallies();
    for listener in sources.listeners.iter().map(|(listener, ..)| *listener) {
        out.sample(name, &[("listener", listener)], tallies.listeners.get(listener).copied().unwrap_or(0));
    }
    for (listener, count) in &web.listeners {
        out.sample(name, &[("listener", listener)], count);
    }

    let name = "lavaproxy_connections_ended_total";
    out.family(name, "counter", "Ended connections from bots, by reason.");
    for (reason, count) in named(&tallies.ended) {
        out.sample(name, &[("reason", reason)], count);
    }

    let name = "lavaproxy_refusals_total";
    out.family(
        name,
        "counter",
        "Requests and connections from bots that lavaproxy answered with an error of its own, by reason.",
    );
    for (reason, count) in named(&tallies.refused) {
        out.sample(name, &[("reason", reason)], count);
    }

    let name = "lavaproxy_requests_total";
    out.family(name, "counter", "Requests from bots, by Lavalink version.");
    for tally in &tallies.versions {
        out.sample(name, &[version(tally.version)], tally.amount.requests);
    }

    let name = "lavaproxy_received_bytes_total";
    out.family(name, "counter", "Bytes received from bots, by the Lavalink version of the connection.");
    for tally in &tallies.versions {
        out.sample(name, &[version(tally.version)], tally.amount.bytes_in);
    }

    let name = "lavaproxy_sent_bytes_total";
    out.family(name, "counter", "Bytes sent to bots, by the Lavalink version of the connection.");
    for tally in &tallies.versions {
        out.sample(name, &[version(tally.version)], tally.amount.bytes_out);
    }
}

fn limits(out: &mut Families, sources: &Sources) {
    let limits = &sources.limits;
    out.single("lavaproxy_bans", "gauge", "Bans in force.", Some(limits.bans().count()));
    let help = "Connections from banned, blocked or not allowed addresses that were closed without an answer.";
    out.single("lavaproxy_dropped_connections_total", "counter", help, Some(limits.dropped()));
    let setup = sources.setup();
    let accounts = setup.accounts.all();
    if accounts.len() <= MAX_ACCOUNTS {
        let name = "lavaproxy_account_connections";
        out.family(name, "gauge", "Open connections from bots, by account; absent with more than 100 accounts.");
        for account in accounts {
            out.sample(name, &[("account", account.name())], account.connections());
        }
    }
}

fn nodes(out: &mut Families, sources: &Sources) {
    let setup = sources.setup();
    ask_unknown(&setup);
    let name = "lavaproxy_node_up";
    let help = "1 for a Lavalink node that is up or draining, 0 for one that is down; absent while nothing is known.";
    out.family(name, "gauge", help);
    for node in setup.shown() {
        let is_up = match node.health().state() {
            NodeState::Up | NodeState::Draining => 1,
            NodeState::Down => 0,
            NodeState::Unknown => continue,
        };
        let version = node.version().map_or("none", Lavalink::name);
        out.sample(name, &[("node", node.name()), ("version", version)], is_up);
    }
    let mut each = |name: &str, kind: &str, help: &str, value: &dyn Fn(&Backend) -> u64| {
        out.family(name, kind, help);
        for node in setup.shown() {
            out.sample(name, &[("node", node.name())], value(node));
        }
    };
    let help = "1 for a Lavalink node that an operator drains, else 0.";
    each("lavaproxy_node_draining", "gauge", help, &|node| u64::from(node.health().is_draining()));
    let help = "Sessions on a Lavalink node, opened through lavaproxy.";
    each("lavaproxy_node_sessions", "gauge", help, &|node| node.load().sessions());
    let help = "Requests under way at a Lavalink node.";
    each("lavaproxy_node_requests", "gauge", help, &|node| node.load().requests());
    let help = "Loads that failed on a Lavalink node and were tried on another.";
    each("lavaproxy_node_loads_retried_total", "counter", help, &|node| node.load().loads_retried());
    let help = "Connects to a Lavalink node that failed.";
    each("lavaproxy_node_connect_failures_total", "counter", help, &|node| node.health().connects().failures);
    let help = "Refusals of lavaproxy's password by a Lavalink node.";
    each("lavaproxy_node_password_refusals_total", "counter", help, &|node| node.health().password_refusals());
    takeovers(out, &setup);

    let name = "lavaproxy_node_connect_duration_seconds";
    out.family(name, "histogram", "Time that connects to a Lavalink node took, health checks included.");
    for node in setup.shown() {
        let connects = node.health().connects();
        let (sum, count) = (connects.sum, connects.count);
        out.histogram(name, ("node", node.name()), &CONNECT_BOUNDS, &connects.buckets, sum, count);
    }
}

/// The label `node` is the node that the sessions have left.
fn takeovers(out: &mut Families, setup: &Setup) {
    let mut by_result = |name: &str, help: &str, results: &dyn Fn(&Backend) -> Vec<(&'static str, u64)>| {
        out.family(name, "counter", help);
        for node in setup.shown() {
            for (result, value) in results(node) {
                out.sample(name, &[("node", node.name()), ("result", result)], value);
            }
        }
    };
    let help = "Sessions of a lost Lavalink node: ok for those that have a node again, failed for those that no node has \
                taken in time, over for those whose client has left meanwhile.";
    by_result("lavaproxy_takeovers_total", help, &|node| {
        let Figures { taken, failed, over, .. } = node.load().takeovers().figures();
        vec![("ok", taken), ("failed", failed), ("over", over)]
    });
    let help = "Sessions that were to move from a Lavalink node that an operator drains: ok for those that have moved, \
                failed for those that stay after three tries.";
    by_result("lavaproxy_moves_total", help, &|node| {
        let MoveFigures { all_moved, all_failed, .. } = node.load().moves().figures();
        vec![("ok", all_moved), ("failed", all_failed)]
    });
    let help = "Players whose session another Lavalink node has taken over, or was moved to: ok for those that play on, \
                refused for those that the next node has refused.";
    by_result("lavaproxy_players_moved_total", help, &|node| {
        let (taken, moved) = (node.load().takeovers().figures(), node.load().moves().figures());
        vec![("ok", taken.players + moved.players), ("refused", taken.refused + moved.refused)]
    });

    let name = "lavaproxy_takeover_duration_seconds";
    out.family(name, "histogram", "Time that the sessions of a lost Lavalink node were without a node.");
    for node in setup.shown() {
        let figures = node.load().takeovers().figures();
        let (sum, count) = (figures.sum, figures.taken);
        out.histogram(name, ("node", node.name()), &GAP_BOUNDS, &figures.buckets, sum, count);
    }
}

/// The names are those of Prometheus' client libraries.
fn of_process(out: &mut Families, process: &Process) {
    out.single("process_cpu_seconds_total", "counter", "User and system CPU time in seconds.", process.cpu_seconds);
    out.single("process_resident_memory_bytes", "gauge", "Resident memory size in bytes.", process.memory);
    out.single("process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes.", process.address_space);
    out.single("process_open_fds", "gauge", "Number of open file descriptors.", process.descriptors);
    out.single("process_max_fds", "gauge", "Maximum number of open file descriptors.", process.descriptor_limit);
    out.single("process_threads", "gauge", "Number of threads.", process.threads);
    let help = "Start time of the process since unix epoch in seconds.";
    out.single("process_start_time_seconds", "gauge", help, process.started);
}

/// The text that is written so far.
struct Families(String);

// Writing to a String cannot fail.
impl Families {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.0, "{}{label}=\"{text}\"", if index == 0 { '{' } else { ',' });
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    /// One histogram of a family: `buckets` has the counts up to each bound without those of the bucket before.
    fn histogram(&mut self, name: &str, label: (&str, &str), bounds: &[f64], buckets: &[u64], sum: f64, count: u64) {
        let mut so_far = 0;
        for (bound, of_bucket) in bounds.iter().zip(buckets) {
            so_far += of_bucket;
            self.sample(&format!("{name}_bucket"), &[label, ("le", &bound.to_string())], so_far);
        }
        self.sample(&format!("{name}_bucket"), &[label, ("le", "+Inf")], count);
        self.sample(&format!("{name}_sum"), &[label], sum);
        self.sample(&format!("{name}_count"), &[label], count);
    }

    /// A family of one sample, which is left out where the value is not known.
    fn single(&mut self, name: &str, kind: &str, help: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.family(name, kind, help);
            self.sample(name, &[], value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        let mut out = Families(String::new());
        out.family("a_total", "counter", "Help.");
        out.sample("a_total", &[("x", "q\"b\\n\n"), ("y", "z")], 1.5);
        out.single("b", "gauge", "Help.", None::<u64>);
        out.single("c", "gauge", "Help.", Some(7));
        let expected = "# HELP a_total Help.\n# TYPE a_total counter\na_total{x=\"q\\\"b\\\\n\\n\",y=\"z\"} 1.5\n\
                        # HELP c Help.\n# TYPE c gauge\nc 7\n";
        assert_eq!(out.0, expected);
    }
}
