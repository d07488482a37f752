//! The protocol and nothing else: HTTP/1.1 heads and bodies (RFC 9110, RFC 9112) as strict values.
//!
//! Used by both doors, by health checks and by the demo. It reads from and writes to anything that is `Read` or `Write`;
//! it knows no socket options, no settings and no policy.

pub mod body;
pub mod buffer;
pub mod head;
pub mod peer;

#[cfg(test)]
pub(crate) mod random;
