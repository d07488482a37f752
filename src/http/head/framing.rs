//! Where the body ends, as the fields say it (RFC 9112 section 6.3).

use super::fields::{single, values};
use super::{Field, HeadError, Version};
use crate::http::body::{Framing, MAX_SIZE_DIGITS};

/// What Transfer-Encoding or Content-Length say, if either is there; never both.
pub(super) fn declared_framing(fields: &[Field<'_>], version: Version) -> Result<Option<Framing>, HeadError> {
    let coding =
        single(fields, "transfer-encoding").map_err(|()| HeadError::Malformed("two Transfer-Encoding fields"))?;
    match (coding, content_length(fields)?) {
        (None, length) => Ok(length.map(Framing::Length)),
        (Some(_), Some(_)) => Err(HeadError::Malformed("both Content-Length and Transfer-Encoding")),
        (Some(_), None) if version == Version::Http10 => Err(HeadError::Malformed("Transfer-Encoding in HTTP/1.0")),
        (Some(coding), None) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Some(Framing::Chunked)),
        (Some(_), None) => Err(HeadError::Coding),
    }
}

/// The declared length. Equal repetitions count once (RFC 9110 section 8.6); anything else is refused.
fn content_length(fields: &[Field<'_>]) -> Result<Option<u64>, HeadError> {
    let mut found = None;
    for value in values(fields, "content-length") {
        let length = std::str::from_utf8(value)
            .ok()
            .filter(|text| text.len() <= usize::from(MAX_SIZE_DIGITS) && text.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|text| text.parse::<u64>().ok())
            .ok_or(HeadError::Malformed("Content-Length is not a number of bytes in 16 digits or fewer"))?;
        if found.is_some_and(|known| known != length) {
            return Err(HeadError::Malformed("two Content-Length fields that differ"));
        }
        found = Some(length);
    }
    Ok(found)
}
