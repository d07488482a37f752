#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::http::body::Framing;

mod any_bytes;
mod clients;
mod fields;
mod framing;
mod request_line;
mod responses;
mod scan;

/// What a scan says of `data` when it arrives up to each of `ends`.
fn arriving(data: &[u8], ends: impl Iterator<Item = usize>) -> Result<Option<usize>, HeadError> {
    let mut scan = Scan::default();
    for end in ends {
        if let Some(length) = scan.advance(&data[..end])? {
            assert!(length <= end);
            return Ok(Some(length));
        }
    }
    Ok(None)
}

/// The one outcome of a scan, however `data` arrives: at once, byte by byte, in every two pieces.
fn scanned(data: &[u8]) -> Result<Option<usize>, HeadError> {
    let at_once = arriving(data, std::iter::once(data.len()));
    assert_eq!(arriving(data, 0..=data.len()), at_once, "byte by byte: {}", data.escape_ascii());
    // A large head in every two pieces costs the square of its size.
    let step = data.len() / 1000 + 1;
    for cut in (0..=data.len()).step_by(step) {
        let ends = [cut, data.len()];
        assert_eq!(arriving(data, ends.into_iter()), at_once, "cut at {cut}: {}", data.escape_ascii());
    }
    at_once
}

/// Runs `check` on the request that is the whole of `data`.
fn request<T>(data: &[u8], check: impl FnOnce(&Request<'_, '_>) -> T) -> Result<T, HeadError> {
    let length = scanned(data)?.unwrap_or_else(|| panic!("no end: {}", data.escape_ascii()));
    let mut slots = Slots::new();
    Request::parse(&data[..length], &mut slots).map(|request| check(&request))
}

/// Runs `check` on the response that is the whole of `data`.
fn response<T>(data: &[u8], to_head: bool, check: impl FnOnce(&Response<'_, '_>) -> T) -> Result<T, HeadError> {
    let length = scanned(data)?.unwrap_or_else(|| panic!("no end: {}", data.escape_ascii()));
    let mut slots = Slots::new();
    Response::parse(&data[..length], &mut slots, to_head).map(|response| check(&response))
}

fn good<T>(data: &[u8], check: impl FnOnce(&Request<'_, '_>) -> T) -> T {
    request(data, check).unwrap_or_else(|error| panic!("{}: {error}", data.escape_ascii()))
}

fn refused(data: &[u8]) -> HeadError {
    match request(data, |request| format!("{request:?}")) {
        Err(error) => error,
        Ok(request) => panic!("{} was taken: {request}", data.escape_ascii()),
    }
}

/// Checks that the head is refused as malformed, for this reason and no other.
fn malformed(data: &[u8], reason: &str) {
    match refused(data) {
        HeadError::Malformed(found) => assert!(found.contains(reason), "{}: {found}", data.escape_ascii()),
        error => panic!("{}: {error:?}", data.escape_ascii()),
    }
}

/// A good request with these field lines added, each with its line end.
fn with(lines: impl AsRef<[u8]>) -> Vec<u8> {
    [b"POST /v4/decodetracks HTTP/1.1\r\nHost: h\r\n", lines.as_ref(), b"\r\n"].concat()
}

fn get(target: impl AsRef<[u8]>) -> Vec<u8> {
    [b"GET ", target.as_ref(), b" HTTP/1.1\r\nHost: h:1\r\n\r\n"].concat()
}

fn names(fields: &[Field<'_>]) -> Vec<String> {
    end_to_end(fields).map(|field| field.name.to_ascii_lowercase()).collect()
}
