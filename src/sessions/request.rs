//! The requests of our own to a node, with the node's password. Pure.

use crate::config::Secret;
use crate::nodes::backend::Backend;

/// A request without a body.
pub fn get(node: &Backend, target: &str) -> Vec<u8> {
    format!("{}\r\n", head("GET", node, target)).into_bytes()
}

/// A request with a body, which may hold secrets.
pub fn patch(node: &Backend, target: &str, body: &Secret) -> Vec<u8> {
    let (head, body) = (head("PATCH", node, target), body.expose());
    format!("{head}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn head(method: &str, node: &Backend, target: &str) -> String {
    let (address, password) = (node.address(), node.password().map_or("", Secret::expose));
    format!("{method} {target} HTTP/1.1\r\nHost: {address}\r\nAuthorization: {password}\r\n")
}
