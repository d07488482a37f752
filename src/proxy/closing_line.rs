//! The end of a connection: its log line, and its reason in the ledger.

use log::info;

use super::admitted::Admitted;
use super::service::Service;
use crate::config::Lavalink;
use crate::error::End;
use crate::ledger::Entry;
use crate::logfmt::Quoted;

/// Notes the reason of a connection's end, and writes its closing line with this detail. Without a detail there is no line:
/// the connection has one of its own.
pub fn close(service: &Service, admitted: &Admitted, end: End, detail: Option<&str>) {
    let Admitted { entry, permit, .. } = admitted;
    let end = if permit.is_kicked() { End::Kicked } else { end };
    if let Some(detail) = detail {
        log_end(service, entry, end, detail);
    }
    entry.ends_as(end);
}

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
