//! Paths, methods, the password and the handlers of Lavalink's REST API: <https://lavalink.dev/api/rest>.
//! It reads and changes the node's sessions; it decides what is answered and sends nothing.

use serde_json::Value;

use super::about;
use super::answer::{Answer, Content, RequestSummary};
use super::loading::{self, LoadResult};
use super::patch::{self, Refused};
use super::server::Server;
use super::text::epoch_millis;
use super::track::Track;
use crate::config::Lavalink;
use crate::http::head::{Request, values};

/// What a path leads to.
pub(super) enum Route {
    Version,
    Info,
    Stats,
    Plugins,
    LoadTracks,
    DecodeTrack,
    DecodeTracks,
    PlannerStatus,
    PlannerFree,
    Session(String),
    Players(String),
    Player(String, String),
    /// Spring's own error page.
    Error,
    /// v4 answers an empty 200 here, also to a handshake.
    Nothing,
    WebSocket,
}

impl Route {
    fn methods(&self) -> &'static [&'static str] {
        match self {
            Self::DecodeTracks | Self::PlannerFree => &["POST"],
            Self::Session(_) => &["PATCH"],
            Self::Player(..) => &["GET", "PATCH", "DELETE"],
            _ => &["GET"],
        }
    }
}

/// The route of a path as sent, without its query.
fn find(version: Lavalink, path: &str) -> Option<Route> {
    let mut segments: Vec<String> =
        path.split('/').skip(1).map(|segment| decoded(segment.split(';').next().unwrap_or(""), false)).collect();
    let v3 = version == Lavalink::V3;
    if v3 {
        segments.retain(|segment| !segment.is_empty());
    }
    let mut rest: Vec<&str> = segments.iter().map(String::as_str).collect();
    let own = rest.first() == Some(&version.name());
    if own {
        rest.remove(0);
    }
    Some(match (rest.as_slice(), own) {
        (["version"], false) => Route::Version,
        (["plugins"], false) if v3 => Route::Plugins,
        (["error"], false) => Route::Error,
        ([], false) if v3 => Route::WebSocket,
        ([""], false) | (["v3", "websocket"], false) => Route::Nothing,
        (["websocket"], true) => Route::WebSocket,
        (["info"], true) => Route::Info,
        (["stats"], true) => Route::Stats,
        (["sessions", id], true) => Route::Session((*id).to_owned()),
        (["sessions", id, "players"], true) => Route::Players((*id).to_owned()),
        (["sessions", id, "players", guild], true) => Route::Player((*id).to_owned(), (*guild).to_owned()),
        (["loadtracks"], own) if own || v3 => Route::LoadTracks,
        (["decodetrack"], own) if own || v3 => Route::DecodeTrack,
        (["decodetracks"], own) if own || v3 => Route::DecodeTracks,
        (["routeplanner", "status"], own) if own || v3 => Route::PlannerStatus,
        (["routeplanner", "free", "address" | "all"], own) if own || v3 => Route::PlannerFree,
        _ => return None,
    })
}

/// What can be decided without the body: the route of a request, or the answer that refuses it. The password is checked
/// last, because only mapped handlers check it.
pub(super) fn screen(
    server: &Server,
    summary: &RequestSummary<'_>,
    request: &Request<'_, '_>,
) -> Result<Route, Answer> {
    if summary.method == "TRACE" {
        return Err(trace(request));
    }
    if summary.method == "CONNECT" {
        let mut answer = Answer::error(summary, 405, &not_supported(summary));
        answer.closes = true;
        return Err(answer);
    }
    let route = find(server.version, summary.path).ok_or_else(|| not_found(summary))?;
    if matches!(route, Route::WebSocket | Route::Error) {
        return Ok(route);
    }
    let methods = route.methods();
    if summary.method == "OPTIONS" {
        return Err(options(server, request, methods));
    }
    let method = if summary.method == "HEAD" { "GET" } else { summary.method };
    if !methods.contains(&method) {
        return Err(Answer::error(summary, 405, &not_supported(summary)).with("Allow", methods.join(", ")));
    }
    authorise(server, request).map_err(Answer::empty)?;
    if matches!(method, "POST" | "PATCH") && !matches!(route, Route::PlannerFree) {
        let sent = values(request.fields, "content-type").next().map(String::from_utf8_lossy);
        let kind = sent.as_deref().unwrap_or("application/octet-stream");
        let essence = kind.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
        if essence != "application/json" && !(essence.starts_with("application/") && essence.ends_with("+json")) {
            let message = match server.version {
                Lavalink::V3 => format!("Content type '{kind}' not supported"),
                Lavalink::V4 => format!("Content-Type '{kind}' is not supported."),
            };
            return Err(Answer::error(summary, 415, &message).with("Accept", "application/json, application/*+json"));
        }
    }
    Ok(route)
}

/// The first `Authorization` must be the password, byte for byte.
///
/// # Errors
/// The status: 401 without the field, 403 with another value.
pub(super) fn authorise(server: &Server, request: &Request<'_, '_>) -> Result<(), u16> {
    match values(request.fields, "authorization").next() {
        None => Err(401),
        Some(value) if value == server.password.as_bytes() && !server.behaviour.refuses_passwords() => Ok(()),
        Some(_) => Err(403),
    }
}

fn not_found(summary: &RequestSummary<'_>) -> Answer {
    match summary.version {
        Lavalink::V3 => Answer::error(summary, 404, "Not Found"),
        Lavalink::V4 => Answer::error(summary, 404, &format!("No endpoint {} {}.", summary.method, summary.path)),
    }
}

fn not_supported(summary: &RequestSummary<'_>) -> String {
    match summary.version {
        Lavalink::V3 => format!("Request method '{}' not supported", summary.method),
        Lavalink::V4 => format!("Method '{}' is not supported.", summary.method),
    }
}

fn options(server: &Server, request: &Request<'_, '_>, methods: &[&str]) -> Answer {
    if authorise(server, request).is_err() {
        return Answer::empty(401).with("Allow", "GET, HEAD, POST, PUT, DELETE, TRACE, OPTIONS, PATCH");
    }
    let head = if methods.contains(&"GET") { ",HEAD" } else { "" };
    Answer::empty(200).with("Allow", format!("{}{head},OPTIONS", methods.join(","))).with("Accept-Patch", "")
}

/// The servlet echoes the head it got, the password included.
fn trace(request: &Request<'_, '_>) -> Answer {
    let mut echo = format!("TRACE {} HTTP/1.1", request.target);
    for field in request.fields {
        echo.push_str(&format!("\r\n{}: {}", field.name, String::from_utf8_lossy(field.value)));
    }
    echo.push_str("\r\n");
    Answer::new(200, Content::Sized(Some("message/http"), echo.into_bytes()))
}

/// Answers a request that passed [`screen`].
pub(super) fn answer(
    server: &Server,
    summary: &RequestSummary<'_>,
    request: &Request<'_, '_>,
    route: &Route,
    body: &[u8],
) -> Answer {
    let version = server.version;
    match route {
        Route::Version => show_version(version, request),
        Route::Info => Answer::json(about::info(version)),
        Route::Stats => Answer::json(about::stats(version, server.sessions.load())),
        Route::Plugins => Answer::json("[]".to_owned()),
        Route::LoadTracks => load_tracks(server, summary, request),
        Route::DecodeTrack => decode_track(summary, request),
        Route::DecodeTracks => decode_tracks(summary, body),
        Route::PlannerStatus if version == Lavalink::V3 => Answer::json(r#"{"class":null,"details":null}"#.to_owned()),
        Route::PlannerStatus => Answer::new(204, Content::Absent),
        Route::PlannerFree => Answer::error(summary, 500, "Can't access disabled route planner"),
        Route::Session(id) => patch_session(server, summary, id, body),
        Route::Players(id) => players(server, summary, id),
        Route::Player(id, guild) => match guild.parse() {
            Ok(guild) => player(server, summary, request, (id, guild), body),
            Err(_) => {
                let why = format!(
                    r#"Failed to convert value of type 'java.lang.String' to required type 'long'; For input string: "{guild}""#
                );
                Answer::error(summary, 400, &why)
            }
        },
        Route::Error => {
            let body = format!(
                r#"{{"timestamp":{},"status":999,"error":"None","message":"No message available"}}"#,
                epoch_millis()
            );
            Answer::new(500, Content::Json(body))
        }
        Route::Nothing | Route::WebSocket => Answer::empty(200),
    }
}

fn show_version(version: Lavalink, request: &Request<'_, '_>) -> Answer {
    let accept = values(request.fields, "accept").next().unwrap_or(b"");
    let kind =
        if accept.starts_with(b"application/json") { "application/json" } else { "text/plain;charset=ISO-8859-1" };
    Answer::new(200, Content::Sized(Some(kind), about::version(version).into()))
}

fn load_tracks(server: &Server, summary: &RequestSummary<'_>, request: &Request<'_, '_>) -> Answer {
    let Some(identifier) = parameter(request.target.query, "identifier") else { return missing(summary, "identifier") };
    server.behaviour.count(|counts| counts.loads += 1);
    if server.behaviour.fails_loads() {
        return Answer::json(loading::failed(server.version));
    }
    match loading::result(server.version, &identifier) {
        LoadResult::Whole(json) => Answer::json(json),
        LoadResult::Streamed(large) => Answer::new(200, Content::Stream(large)),
    }
}

fn patch_session(server: &Server, summary: &RequestSummary<'_>, id: &str, body: &[u8]) -> Answer {
    let Ok(Value::Object(update)) = serde_json::from_slice(body) else {
        return Answer::error(summary, 400, "Bad Request");
    };
    let changed = server.sessions.with(id, |session, _| patch::session(session, &update));
    changed.map_or_else(|| no_session(summary), |changed| outcome(summary, changed))
}

fn players(server: &Server, summary: &RequestSummary<'_>, id: &str) -> Answer {
    let list = server.sessions.with(id, |session, now| {
        session.players.values().map(|player| player.json(server.version, now)).collect::<Vec<_>>().join(",")
    });
    list.map_or_else(|| no_session(summary), |list| Answer::json(format!("[{list}]")))
}

fn player(
    server: &Server,
    summary: &RequestSummary<'_>,
    request: &Request<'_, '_>,
    (id, guild): (&str, i64),
    body: &[u8],
) -> Answer {
    let version = server.version;
    let done = match summary.method {
        "PATCH" => return patch_player(server, summary, request, (id, guild), body),
        "DELETE" => server.sessions.with(id, |session, now| {
            session.destroy(guild, now);
            Answer::new(204, Content::Absent)
        }),
        _ => server.sessions.with(id, |session, now| match session.players.get(&guild) {
            Some(player) => Answer::json(player.json(version, now)),
            None => Answer::error(summary, 404, "Player not found"),
        }),
    };
    done.unwrap_or_else(|| no_session(summary))
}

/// Changes a player in two steps, with the voice handshake between them if there is one.
fn patch_player(
    server: &Server,
    summary: &RequestSummary<'_>,
    request: &Request<'_, '_>,
    (id, guild): (&str, i64),
    body: &[u8],
) -> Answer {
    let _updating = server.behaviour.begin_update(id);
    let Ok(Value::Object(body)) = serde_json::from_slice(body) else {
        return Answer::error(summary, 400, "Bad Request");
    };
    let no_replace = parameter(request.target.query, "noReplace").is_some_and(|flag| flag.eq_ignore_ascii_case("true"));
    let mut update = match patch::Update::parse(server.version, &body, no_replace) {
        Ok(update) => update,
        Err(refused) => return outcome(summary, Err(refused)),
    };
    match server.sessions.with(id, |session, now| update.connect(session, guild, now)) {
        None => return no_session(summary),
        Some(true) => server.pause(server.behaviour.voice_handshake()),
        Some(false) => {}
    }
    let done = server.sessions.with(id, |session, now| outcome(summary, update.apply(session, guild, now)));
    done.unwrap_or_else(|| no_session(summary))
}

fn outcome(summary: &RequestSummary<'_>, result: Result<String, Refused>) -> Answer {
    match result {
        Ok(json) => Answer::json(json),
        Err(Refused { status, why }) => Answer::error(summary, status, &why),
    }
}

fn no_session(summary: &RequestSummary<'_>) -> Answer {
    Answer::error(summary, 404, "Session not found")
}

fn missing(summary: &RequestSummary<'_>, name: &str) -> Answer {
    let why = match summary.version {
        Lavalink::V3 => format!("Required request parameter '{name}' for method parameter type String is not present"),
        Lavalink::V4 => format!("Required parameter '{name}' is not present."),
    };
    Answer::error(summary, 400, &why)
}

fn undecodable(summary: &RequestSummary<'_>) -> Answer {
    Answer::error(summary, 500, "Failed to decode track")
}

fn decode(encoded: &str, json: impl Fn(&Track, &str) -> String) -> Option<String> {
    let encoded = encoded.replace(' ', "+");
    Track::decode(&encoded).map(|track| json(&track, &encoded))
}

fn decode_track(summary: &RequestSummary<'_>, request: &Request<'_, '_>) -> Answer {
    let encoded = parameter(request.target.query, "encodedTrack").or_else(|| parameter(request.target.query, "track"));
    let Some(encoded) = encoded else { return Answer::error(summary, 400, "No track to decode provided") };
    match decode(&encoded, |track, encoded| track.decoded_json(summary.version, encoded)) {
        Some(json) => Answer::json(json),
        None => undecodable(summary),
    }
}

fn decode_tracks(summary: &RequestSummary<'_>, body: &[u8]) -> Answer {
    let Ok(list) = serde_json::from_slice::<Vec<String>>(body) else {
        return Answer::error(summary, 400, "Bad Request");
    };
    if list.is_empty() {
        return Answer::error(summary, 400, "No tracks to decode provided");
    }
    match list
        .iter()
        .map(|encoded| decode(encoded, |track, encoded| track.json(summary.version, encoded, "{}")))
        .collect::<Option<Vec<_>>>()
    {
        Some(tracks) => Answer::json(format!("[{}]", tracks.join(","))),
        None => undecodable(summary),
    }
}

/// The first value of a query parameter, decoded as forms are.
pub(super) fn parameter(query: &str, name: &str) -> Option<String> {
    query.strip_prefix('?')?.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(key, true) == name).then(|| decoded(value, true))
    })
}

/// Percent-decoding (RFC 3986 section 2.1); what is no escape stays as it is.
fn decoded(text: &str, plus_is_blank: bool) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        let escape = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match (first, escape.filter(|hex| !hex.starts_with('+')).and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            (b'+', _) if plus_is_blank => bytes.push(b' '),
            _ => bytes.push(*first),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
