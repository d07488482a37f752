//! The end of a connection: its ledger row and its log line.

use log::info;

use super::admitted::Admitted;
use crate::config::Lavalink;
use crate::error::End;
use crate::ledger::Entry;
use crate::logfmt::Quoted;

/// Closes the ledger row of a connection, and writes its closing line.
pub fn close(listener: &str, admitted: &Admitted, end: End, detail: &str) {
    let Admitted { entry, permit, .. } = admitted;
    let end = if permit.is_kicked() { End::Kicked } else { end };
    log_end(listener, entry, end, detail);
    entry.ends_as(end);
}

/// One line for each ended connection: its client, its backend, its use, its duration and the reason of its end.
pub fn log_end(listener: &str, entry: &Entry, end: End, detail: &str) {
    if log::max_level() < log::Level::Info {
        return;
    }
    let (version, node, backend) = entry.destination();
    info!(
        "event=ended id={} listener={listener} client={} kind={} version={} node={} backend={} requests={} in={} out={} ms={} reason={end}{}",
        entry.id(),
        entry.client(),
        if entry.is_websocket() { "websocket" } else { "http" },
        version.map_or("none", Lavalink::name),
        node.as_deref().unwrap_or("none"),
        backend.as_deref().unwrap_or("none"),
        entry.requests(),
        entry.meter().bytes_in(),
        entry.meter().bytes_out(),
        entry.age().as_millis(),
        if detail.is_empty() { String::new() } else { format!(" detail={}", Quoted(detail)) },
    );
}
