//! The log line of an ended connection.

use log::info;

use super::service::Service;
use crate::config::Lavalink;
use crate::error::End;
use crate::ledger::Entry;
use crate::logfmt::Quoted;

/// One line for each ended connection: its client, its backend, its use, its duration and the reason of its end.
pub fn log_end(service: &Service, entry: &Entry, end: End, detail: &str) {
    if !log::log_enabled!(log::Level::Info) {
        return;
    }
    let (version, node, backend) = entry.destination();
    info!(
        "event=ended id={} listener={} client={} kind={} version={} node={} backend={} requests={} in={} out={} ms={} reason={end}{}",
        entry.id(),
        service.name(),
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
