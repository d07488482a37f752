//! What bot libraries send.

use super::*;

#[test]
fn requests_of_bot_libraries_are_accepted() {
    // Each with its path, its number of end-to-end fields, whether it is a WebSocket handshake, and its framing.
    for (data, path, passed, upgrades, framing) in [
        (
            // shoukaku 4 on ws.
            "GET /v4/websocket HTTP/1.1\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Connection: Upgrade\r\nUpgrade: websocket\r\nClient-Name: shoukaku/4.3.0 (https://github.com/shipgirlproject/Shoukaku)\r\n\
             User-Agent: Shoukaku/4.3.0\r\nAuthorization: youshallnotpass\r\nUser-Id: 123456789012345678\r\n\
             Session-Id: 5fr7okxwgml5cack\r\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\
             Host: proxy.example:6923\r\n\r\n",
            "/v4/websocket",
            9,
            true,
            Framing::None,
        ),
        (
            // aiohttp, as wavelink 3 and mafic 2 use it; mafic sends an empty Session-Id.
            "GET /v4/websocket HTTP/1.1\r\nHost: 127.0.0.1:6923\r\nAuthorization: youshallnotpass\r\nUser-Id: 1\r\n\
             Client-Name: Mafic/2.11.0\r\nSession-Id: \r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nAccept: */*\r\n\
             Accept-Encoding: gzip, deflate\r\nUser-Agent: Python/3.12 aiohttp/3.9.5\r\n\r\n",
            "/v4/websocket",
            10,
            true,
            Framing::None,
        ),
        (
            // rainlink 1: lower case throughout.
            "GET /v4/websocket HTTP/1.1\r\nhost: h\r\nsec-websocket-version: 13\r\nsec-websocket-key: x\r\nconnection: Upgrade\r\n\
             upgrade: websocket\r\nauthorization: p\r\nuser-id: 1\r\nclient-name: rainlink/[object Object] (https://x)\r\n\
             session-id: \r\nuser-agent: rainlink\r\n\r\n",
            "/v4/websocket",
            8,
            true,
            Framing::None,
        ),
        (
            // lavaclient 4 and erela 2: the root, a Resume-Key, no User-Agent.
            "GET / HTTP/1.1\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Authorization: p\r\nNum-Shards: 1\r\nUser-Id: 1\r\nClient-Name: lavaclient\r\nResume-Key: my-key-1\r\nHost: h:1\r\n\r\n",
            "/",
            8,
            true,
            Framing::None,
        ),
        (
            // undici's fetch: GET.
            "GET /v4/loadtracks?identifier=ytsearch%3Anever%20gonna HTTP/1.1\r\nhost: h:6923\r\nconnection: keep-alive\r\n\
             Authorization: youshallnotpass\r\nUser-Agent: Shoukaku/4.3.0\r\naccept: */*\r\naccept-language: *\r\n\
             sec-fetch-mode: cors\r\naccept-encoding: gzip, deflate\r\n\r\n",
            "/v4/loadtracks",
            7,
            false,
            Framing::None,
        ),
        (
            // erela 2 on undici's pool, with two fields.
            "GET /loadtracks?identifier=https%3A%2F%2Fx HTTP/1.1\r\nhost: h\r\nconnection: keep-alive\r\nAuthorization: p\r\n\r\n",
            "/loadtracks",
            2,
            false,
            Framing::None,
        ),
        (
            // pomice 2: GET and DELETE with a body.
            "GET /version HTTP/1.1\r\nHost: h:1\r\nAuthorization: p\r\nUser-Id: 1\r\nClient-Name: Pomice/2.9.0\r\n\
             Accept: */*\r\nContent-Length: 2\r\nContent-Type: application/json\r\n\r\n",
            "/version",
            6,
            false,
            Framing::Length(2),
        ),
        (
            "DELETE /v4/sessions/5fr7okxwgml5cack/players/1234567890123 HTTP/1.1\r\nHost: h:1\r\nAuthorization: p\r\n\
             Content-Length: 2\r\nContent-Type: application/json\r\n\r\n",
            "/v4/sessions/5fr7okxwgml5cack/players/1234567890123",
            3,
            false,
            Framing::Length(2),
        ),
        (
            "PATCH /v4/sessions/5fr7okxwgml5cack/players/1?noReplace=false&trace=true HTTP/1.1\r\nhost: h\r\nconnection: keep-alive\r\n\
             content-type: application/json\r\nauthorization: p\r\ncontent-length: 61\r\n\r\n",
            "/v4/sessions/5fr7okxwgml5cack/players/1",
            3,
            false,
            Framing::Length(61),
        ),
        (
            // lavalink.py 5.
            "GET /v4/info HTTP/1.1\r\nHost: h\r\nAuthorization: p\r\nConnection: close\r\nUser-Agent: Lavalink.py/5.11.1\r\n\r\n",
            "/v4/info",
            3,
            false,
            Framing::None,
        ),
        (
            "DELETE /v4/sessions/x/players/1 HTTP/1.1\r\nHost: h\r\nAuthorization: p\r\nContent-Length: 0\r\n\r\n",
            "/v4/sessions/x/players/1",
            2,
            false,
            Framing::Length(0),
        ),
        (
            // curl.
            "POST /v4/decodetracks HTTP/1.1\r\nHost: h\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\nAuthorization: p\r\n\
             Content-Type: application/json\r\nContent-Length: 20000\r\nExpect: 100-continue\r\n\r\n",
            "/v4/decodetracks",
            6,
            false,
            Framing::Length(20_000),
        ),
    ] {
        good(data.as_bytes(), |request| {
            assert_eq!(
                (request.path(), request.framing, request.upgrade.is_some()),
                (path, framing, upgrades),
                "{data}"
            );
            assert_eq!(end_to_end(request.fields).count(), passed, "{data}");
            assert!(single(request.fields, "authorization").unwrap().is_some());
            assert_eq!(request.keep_alive, !data.contains("Connection: close"));
        });
    }
}
