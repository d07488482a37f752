//! Turns a whole connection away: reads its request, answers it with the reason, and lets the answer arrive. The refusal
//! is not worth more than a second of a worker's time.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::buffers::Buffers;
use super::client::{Client, SHORT_LINGER};
use super::closing_line::log_end;
use super::reply::{self, RequestSummary};
use super::service::Service;
use super::source::read_proxy_header;
use crate::error::{Fault, Limit};
use crate::http::head;
use crate::ledger::Entry;

/// The longest wait for the request of a client. It reads the refusal only after it has sent one.
const REFUSAL_TIME: Duration = Duration::from_secs(1);

/// Answers a client that gets no slot with the reason. `wait` is false when no time can be spent on it.
pub fn connection(
    service: &Service,
    stream: &TcpStream,
    entry: &Entry,
    fault: &Fault,
    wait: bool,
    buffers: &mut Buffers,
) {
    let mut client = Client::new(stream, entry.meter());
    if !wait {
        client.set_impatient();
    }
    let begun = Instant::now();
    let _ = read_proxy_header(&service.rules(), entry, &mut client, buffers, REFUSAL_TIME);
    answer(service, &mut client, entry, fault, begun, buffers);
    match fault {
        // A refusal for want of a slot has a log line of its own, which a flood cannot multiply.
        Fault::OverLimit { limit: Limit::Total(_), .. } | Fault::Full { .. } if service.notes_refusals() => {
            service.note_refusal(fault.end(), entry.client(), false);
        }
        // One by an address's limits is noted where it is found.
        Fault::OverLimit { .. } => {}
        _ => {
            service.note_refusal(fault.end(), entry.client(), true);
            log_end(service, entry, fault.end(), &fault.to_string());
        }
    }
    entry.ends_as(fault.end());
}

/// Answers a client that a PROXY header names and that the limits refuse. When many are refused, most get a reset.
pub fn announced(service: &Service, client: &mut Client<'_>, entry: &Entry, fault: &Fault, buffers: &mut Buffers) {
    service.note_refusal(fault.end(), entry.client(), false);
    match service.admission().linger_permit() {
        Some(_permit) => answer(service, client, entry, fault, Instant::now(), buffers),
        None => client.reset(),
    }
}

fn answer(
    service: &Service,
    client: &mut Client<'_>,
    entry: &Entry,
    fault: &Fault,
    begun: Instant,
    buffers: &mut Buffers,
) {
    // The request is read so that no byte of it is left unread when the connection closes.
    let _ = head::read(client, &mut buffers.client, |client, _| {
        client.set_time_left(REFUSAL_TIME.saturating_sub(begun.elapsed()))
    });
    let mut summary = RequestSummary::default();
    summary.guess(buffers.client.data());
    entry.count_refusal(fault.end());
    if client.write_all(&reply::error(service.error_format(), fault, &summary, true)).is_ok() {
        client.linger(SHORT_LINGER);
    }
}
