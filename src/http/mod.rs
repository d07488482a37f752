//! The protocol and nothing else: HTTP/1.1 heads and bodies (RFC 9110, RFC 9112) as strict values.
//!
//! The listeners, the health checks and the demo use it. It reads from anything that is `Read` and writes to anything
//! that is `Write`. It knows no socket options, no settings and no policy.

pub mod body;
pub mod buffer;
pub mod head;
pub mod peer;
pub mod token;

#[cfg(test)]
pub(crate) mod random;
