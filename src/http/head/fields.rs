//! Field lines: finding them by name, and which of them a proxy forwards.

use super::Field;

/// The fields that are forwarded: all but the hop-by-hop ones of RFC 9110 section 7.6.1, those that `Connection`
/// names, and the framing fields, which are written anew.
pub fn end_to_end<'h, 'b>(fields: &'h [Field<'b>]) -> impl Iterator<Item = &'h Field<'b>> {
    let usual = |token: &[u8]| USUAL_OPTIONS.iter().any(|option| token.eq_ignore_ascii_case(option.as_bytes()));
    let nominates = connection_options(fields).any(|token| !usual(token));
    fields.iter().filter(move |field| {
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        !HOP_BY_HOP.iter().any(|name| is(name))
            && !is("content-length")
            && (!nominates
                || NOT_NOMINABLE.iter().any(|name| is(name))
                || !connection_names(fields, field.name.as_bytes()))
    })
}

const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "proxy-connection",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "proxy-authorization",
    "proxy-authenticate",
];

/// The options of `Connection` that name no field that would be forwarded.
const USUAL_OPTIONS: [&str; 3] = ["keep-alive", "close", "upgrade"];

/// The fields that a peer cannot have removed by naming them in `Connection`.
const NOT_NOMINABLE: [&str; 4] = ["authorization", "host", "x-forwarded-for", "forwarded"];

/// Every value of the field `name`.
pub fn values<'b>(fields: &[Field<'b>], name: &str) -> impl Iterator<Item = &'b [u8]> {
    fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
}

/// The value of a field that may stand there once only; `Err` when it stands there twice.
#[expect(clippy::result_unit_err, reason = "which field it was is known where this is called")]
pub fn single<'b>(fields: &[Field<'b>], name: &str) -> Result<Option<&'b [u8]>, ()> {
    let mut found = values(fields, name);
    let first = found.next();
    if found.next().is_some() { Err(()) } else { Ok(first) }
}

/// Each item of `Connection` (RFC 9110 section 7.6.1).
fn connection_options<'b>(fields: &[Field<'b>]) -> impl Iterator<Item = &'b [u8]> {
    values(fields, "connection").flat_map(|value| value.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
}

/// True when `Connection` names `token`.
pub(super) fn connection_names(fields: &[Field<'_>], token: &[u8]) -> bool {
    connection_options(fields).any(|option| option.eq_ignore_ascii_case(token))
}
