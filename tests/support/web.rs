//! A browser's side of the web listener.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::net::SocketAddr;

use super::support::{Client, Proxy, Response};

/// `secret`, with a user name that does not matter.
pub const BASIC: &str = "Authorization: Basic YWRtaW46c2VjcmV0\r\n";
pub const WEB_PASSWORD: &str = "secret";

/// One request on a connection of its own; extra field lines end in CRLF each.
pub fn ask(proxy: &Proxy, method: &str, target: &str, fields: &str) -> Response {
    ask_at(proxy.listener("web"), method, target, fields)
}

pub fn ask_at(listener: SocketAddr, method: &str, target: &str, fields: &str) -> Response {
    let mut client = Client::connect(listener);
    let host = if fields.contains("Host:") { String::new() } else { format!("Host: {listener}\r\n") };
    client.send(format!("{method} {target} HTTP/1.1\r\n{host}{fields}Connection: close\r\n\r\n").as_bytes());
    let response = client.response_to(method);
    assert!(client.is_at_end(), "{method} {target}: bytes behind the answer");
    response
}

/// One request with a JSON body, on a connection of its own.
pub fn post(proxy: &Proxy, target: &str, fields: &str, body: &str) -> Response {
    let listener = proxy.listener("web");
    let mut client = Client::connect(listener);
    let length = body.len();
    let head = format!(
        "POST {target} HTTP/1.1\r\nHost: {listener}\r\n{fields}Content-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    client.send(format!("{head}{body}").as_bytes());
    let response = client.response_to("POST");
    assert!(client.is_at_end(), "POST {target}: bytes behind the answer");
    response
}

pub fn get(proxy: &Proxy, target: &str) -> Response {
    ask(proxy, "GET", target, "")
}
