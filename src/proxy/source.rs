//! Where a connection comes from: its peer, or the client that the peer's PROXY header names.

use std::time::Duration;

use super::buffers::Buffers;
use super::client::Client;
use super::forwarded::Source;
use super::proxy_protocol::{self, HeaderError};
use super::service::Rules;
use crate::ledger::Entry;

/// Reads the client's address from the PROXY header, where one is due.
pub fn read_proxy_header(
    rules: &Rules,
    entry: &Entry,
    client: &mut Client<'_>,
    buffers: &mut Buffers,
    time: Duration,
) -> Result<Source, HeaderError> {
    let peer = entry.client();
    if !rules.expects_proxy_header(peer.address) {
        return Ok(Source::plain(peer));
    }
    let announced = proxy_protocol::read(client, &mut buffers.client, |client| {
        client.set_time_left(time.saturating_sub(entry.age()))
    })?;
    let source = Source::announced(peer, announced);
    entry.attribute_to(source.client(), buffers.client.data().len());
    Ok(source)
}
