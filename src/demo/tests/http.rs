//! REST: heads, bodies, paths, the password, framing.
use super::*;
use crate::demo::track::Track;

#[test]
fn the_version_is_answered_byte_for_byte() {
    for (version, number, semver) in [(Lavalink::V3, 3, "3.7.13"), (Lavalink::V4, 4, "4.2.2")] {
        let node = node(version);
        let mut client = Raw::new(&node);
        client.ask("GET", "/version");
        let (head, body) = client.answer();
        let length = semver.len();
        assert_eq!(
            head,
            format!(
                "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Type: text/plain;charset=ISO-8859-1\r\n\
                 Content-Length: {length}\r\nLavalink-Api-Version: {number}\r\n\r\n"
            )
        );
        assert_eq!(body, semver);
    }
}

#[test]
fn json_is_chunked_with_an_even_number_of_digits() {
    let node = node(Lavalink::V4);
    let mut client = Raw::new(&node);
    client.ask("GET", "/v4/loadtracks?identifier=none");
    assert_eq!(
        client.head(),
        "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\
         Content-Type: application/json\r\nLavalink-Api-Version: 4\r\n\r\n"
    );
    let text = String::from_utf8(client.bytes(43)).unwrap();
    assert_eq!(text, "20\r\n{\"loadType\":\"empty\",\"data\":null}\r\n0\r\n\r\n");
}

#[test]
fn large_results_come_in_undertows_chunks() {
    for (version, second) in [(Lavalink::V3, "1c72"), (Lavalink::V4, "3fec")] {
        let node = node(version);
        let mut client = Raw::new(&node);
        client.ask("GET", &format!("/{}/loadtracks?identifier=big:142000", version.name()));
        client.head();
        let (body, sizes) = client.chunked();
        assert!(body.len() >= 142_000);
        serde_json::from_str::<serde_json::Value>(&body).unwrap();
        assert_eq!(sizes[..4], ["3fec", second, "3fec", second]);
        assert!(sizes.iter().all(|size| size.len() % 2 == 0 || size == "0"));
    }
}

#[test]
fn the_password_is_checked_on_mapped_paths_only() {
    for version in BOTH {
        let node = node(version);
        let mut client = Raw::new(&node);
        let name = version.name();
        let cases = [
            ("", 401),
            ("Authorization: wrong\r\n", 403),
            ("Authorization: Bearer youshallnotpass\r\n", 403),
            ("Authorization: YOUSHALLNOTPASS\r\n", 403),
            ("Authorization:\r\n", 403),
            ("authorization:youshallnotpass  \r\n", 200),
            ("Authorization: wrong\r\nAuthorization: youshallnotpass\r\n", 403),
            ("Authorization: youshallnotpass\r\nAuthorization: wrong\r\n", 200),
        ];
        for (field, status) in cases {
            client.send(&format!("GET /{name}/info HTTP/1.1\r\nHost: a\r\n{field}\r\n"));
            assert_eq!(client.status(), status, "{field}");
        }
        for (method, path, status) in [("GET", "/nope", 404), ("POST", "/version", 405), ("GET", "/error", 500)] {
            client.send(&format!("{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
            assert_eq!(client.status(), status, "{path}");
        }
        client.send("GET /version HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(
            client.head(),
            format!(
                "HTTP/1.1 401 Unauthorized\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\
                 Lavalink-Api-Version: {}\r\n\r\n",
                &name[1..]
            )
        );
    }
}

#[test]
fn paths_lead_where_lavalinks_do() {
    let cases = [
        ("/version", 200, 200),
        ("/v3/info", 200, 404),
        ("/v4/info", 404, 200),
        ("/v3/stats", 200, 404),
        ("/v4/stats", 404, 200),
        ("/v3/version", 404, 404),
        ("/v4/version", 404, 404),
        ("/info", 404, 404),
        ("/stats", 404, 404),
        ("/v3", 404, 404),
        ("/v4", 404, 404),
        ("/loadtracks?identifier=a", 200, 404),
        ("/v3/loadtracks?identifier=a", 200, 404),
        ("/v4/loadtracks?identifier=a", 404, 200),
        ("/loadtracks", 400, 404),
        ("/v4/loadtracks", 404, 400),
        ("/decodetrack?track=AAAA", 500, 404),
        ("/v4/decodetrack?encodedTrack=AAAA", 404, 500),
        ("/v4/decodetrack", 404, 400),
        ("/routeplanner/status", 200, 404),
        ("/v4/routeplanner/status", 404, 204),
        ("/plugins", 200, 404),
        ("/", 400, 200),
        ("/v3/websocket", 400, 200),
        ("/v4/websocket", 404, 400),
        ("/actuator/health", 404, 404),
        ("/favicon.ico", 404, 404),
        ("/metrics", 404, 404),
        ("/version/", 200, 404),
        ("//version", 200, 404),
        ("/v3//info", 200, 404),
        ("/V4/info", 404, 404),
        ("/v3/x/../info", 404, 404),
        ("/v3/%69nfo", 200, 404),
        ("/v4/%69nfo", 404, 200),
        ("/v3/info;x=1", 200, 404),
        ("/v4/info;x=1", 404, 200),
        ("/version?a=[b]", 200, 200),
        ("http://a/version", 200, 200),
        ("/v3/sessions/unknown/players", 404, 404),
    ];
    let (v3, v4) = (node(Lavalink::V3), node(Lavalink::V4));
    let (mut old, mut new) = (Raw::new(&v3), Raw::new(&v4));
    for (path, on_v3, on_v4) in cases {
        old.ask("GET", path);
        new.ask("GET", path);
        assert_eq!((old.status(), new.status()), (on_v3, on_v4), "{path}");
    }
}

#[test]
fn errors_are_lavalinks_json() {
    let (v3, v4) = (node(Lavalink::V3), node(Lavalink::V4));
    let mut client = Raw::new(&v3);
    client.ask("GET", "/v4/info?a=b");
    let not_found = r#"{"status":404,"error":"Not Found","message":"Not Found","path":"/v4/info"}"#;
    assert_eq!(without_time(&client.answer().1), not_found);
    let mut client = Raw::new(&v4);
    client.ask("GET", "/v3/info");
    let not_found = r#"{"status":404,"error":"Not Found","message":"No endpoint GET /v3/info.","path":"/v3/info"}"#;
    assert_eq!(without_time(&client.answer().1), not_found);
    client.ask("GET", "/v4/sessions/x/players?trace=true");
    let (_, body) = client.answer();
    assert!(body.len() > 8000 && body.ends_with(r#""message":"Session not found","path":"/v4/sessions/x/players"}"#));
    client.ask("DELETE", "/v4/sessions/x");
    let (head, body) = client.answer();
    assert!(
        head.starts_with("HTTP/1.1 405 Method Not Allowed\r\nAllow: PATCH\r\nConnection: keep-alive\r\n"),
        "{head}"
    );
    assert!(body.contains("Method 'DELETE' is not supported."));
}

#[test]
fn tracks_can_be_decoded_again() {
    for version in BOTH {
        let node = node(version);
        let mut client = Raw::new(&node);
        let name = version.name();
        client.ask("GET", &format!("/{name}/loadtracks?identifier=ytsearch%3Anever+gonna"));
        let found = client.json();
        let track = found.pointer("/tracks/0").or_else(|| found.pointer("/data/0")).unwrap();
        let encoded = track["encoded"].as_str().unwrap();
        assert_eq!(Track::decode(encoded).unwrap().title, "never gonna (1)");
        client.ask("GET", &format!("/{name}/decodetrack?encodedTrack={encoded}"));
        let decoded = client.json();
        if version == Lavalink::V3 {
            assert_eq!((&decoded["encoded"], &decoded["info"]), (&track["encoded"], &track["info"]));
            assert_eq!((&decoded["title"], decoded.get("track")), (&track["info"]["title"], None));
        } else {
            assert_eq!(decoded, *track);
        }
        let list = format!("[\"{encoded}\"]");
        client.send(&format!(
            "POST /{name}/decodetracks HTTP/1.1\r\nHost: a\r\nAuthorization: {PASSWORD}\r\n\
             Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{list}\r\n0\r\n\r\n",
            list.len()
        ));
        assert_eq!(client.json()[0], *track);
        client.send(&format!(
            "POST /{name}/decodetracks HTTP/1.1\r\nHost: a\r\nAuthorization: {PASSWORD}\r\nContent-Length: 2\r\n\r\n[]"
        ));
        let (head, _) = client.answer();
        assert!(head.starts_with("HTTP/1.1 415 "), "{head}");
        assert!(head.contains("Accept: application/json, application/*+json\r\n"), "{head}");
    }
}

#[test]
fn what_undertow_cannot_read_gets_the_bare_400() {
    let node = node(Lavalink::V4);
    let long = format!("GET /version HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(8193 - 39));
    assert_eq!(long.len(), 8193);
    for request in [
        "GET /version HTTP/1.1\r\n\r\n",
        "GET /version HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "GET /version HTTP/2.0\r\nHost: a\r\n\r\n",
        "nonsense\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\r\nGET /version HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /version HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST /version HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "GET /version HTTP/1.1\r\nHost: a\r\nAuthorization : x\r\n\r\n",
        "GET /\u{e4} HTTP/1.1\r\nHost: a\r\n\r\n",
        &long,
    ] {
        let mut client = Raw::new(&node);
        client.send(request);
        assert_eq!(client.rest(), BARE_400, "{request}");
    }
    let mut client = Raw::new(&node);
    client.send(&long.replacen("xx", "x", 1));
    assert_eq!(client.status(), 401);
}

#[test]
fn requests_may_be_pipelined_and_bodies_left_unread() {
    for version in BOTH {
        let node = node(version);
        let mut client = Raw::new(&node);
        let auth = format!("Host: a\r\nAuthorization: {PASSWORD}\r\n");
        client.send(&format!(
            "GET /version HTTP/1.1\r\n{auth}\r\nGET /version HTTP/1.1\r\n{auth}\r\n\
             POST /nope HTTP/1.1\r\n{auth}Content-Length: 3\r\n\r\nabcGET /version HTTP/1.1\r\nHost: a\r\n\r\n"
        ));
        assert_eq!([(); 4].map(|()| client.status()), [200, 200, 404, 401]);
        client.send("POST /version HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n");
        assert_eq!(client.status(), 405);
        client.send(&"x".repeat(200_000));
        client.ask("GET", "/version");
        assert_eq!(client.status(), 200);
    }
}

#[test]
fn a_client_may_wait_for_100_continue() {
    for (version, interim) in [
        (Lavalink::V3, "HTTP/1.1 100 Continue\r\nContent-Length: 0\r\n\r\n"),
        (Lavalink::V4, "HTTP/1.1 100 Continue\r\n\r\n"),
    ] {
        let node = node(version);
        let post = format!(
            "POST /{}/decodetracks HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\
             Expect: 100-continue\r\n",
            version.name()
        );
        let mut client = Raw::new(&node);
        client.send(&format!("{post}Authorization: {PASSWORD}\r\n\r\n"));
        assert_eq!(client.head(), interim);
        client.send("[]");
        assert!(client.answer().1.contains("No tracks to decode provided"));
        let mut client = Raw::new(&node);
        client.send(&format!("{post}\r\n"));
        let answer = client.rest();
        assert!(answer.starts_with("HTTP/1.1 401 Unauthorized\r\nConnection: close\r\n"), "{answer}");
    }
}

#[test]
fn old_clients_get_bodies_that_end_with_the_connection() {
    let node = node(Lavalink::V4);
    let mut client = Raw::new(&node);
    client.send(&format!("GET /v4/loadtracks?identifier=none HTTP/1.0\r\nAuthorization: {PASSWORD}\r\n\r\n"));
    let answer = client.rest();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/json\r\n"));
    assert!(answer.ends_with("\r\n\r\n{\"loadType\":\"empty\",\"data\":null}"), "{answer}");
    let mut client = Raw::new(&node);
    client.send(&format!("GET /version HTTP/1.0\r\nConnection: keep-alive\r\nAuthorization: {PASSWORD}\r\n\r\n"));
    assert!(client.answer().0.contains("Connection: keep-alive\r\n"));
    client.ask("GET", "/version");
    assert_eq!(client.status(), 200);
}

#[test]
fn head_trace_and_options_are_answered() {
    let (v3, v4) = (node(Lavalink::V3), node(Lavalink::V4));
    for (node, path, framing) in [
        (&v3, "/v3/info", "Content-Length: "),
        (&v4, "/v4/info", "Transfer-Encoding: chunked\r\n"),
        (&v4, "/version", "Content-Length: 5\r\n"),
    ] {
        let mut client = Raw::new(node);
        client.ask("HEAD", path);
        let head = client.head();
        assert!(head.contains(framing), "{head}");
        client.ask("TRACE", path);
        let (head, echo) = client.answer();
        assert!(head.contains("Content-Type: message/http\r\n"), "{head}");
        assert!(echo.contains("Authorization: youshallnotpass"));
        client.ask("OPTIONS", path);
        let (head, _) = client.answer();
        assert!(head.contains("Allow: GET,HEAD,OPTIONS\r\n") && head.contains("Accept-Patch: \r\n"), "{head}");
    }
}

#[test]
fn a_body_of_forty_mebibytes_is_taken() {
    let node = node(Lavalink::V4);
    let mut client = Raw::new(&node);
    let size = 40 << 20;
    client.send(&format!(
        "POST /v4/decodetracks HTTP/1.1\r\nHost: a\r\nAuthorization: {PASSWORD}\r\nContent-Type: application/json\r\n\
         Content-Length: {size}\r\n\r\n"
    ));
    client.send(&format!("[{}]", " ".repeat(size - 2)));
    assert!(client.answer().1.contains("No tracks to decode provided"));
}
