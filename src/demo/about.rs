//! What a node says about itself: `/version`, `/info` and stats. Pure but for the clock it is given.

use std::time::Duration;

use crate::config::Lavalink;

/// The body of `GET /version`.
pub(super) fn version(version: Lavalink) -> &'static str {
    match version {
        Lavalink::V3 => "3.7.13",
        Lavalink::V4 => "4.2.2",
    }
}

/// The body of `GET /vN/info`. The sources are those of a node with its usual ones enabled: bots refuse to search
/// where the source is not in the list.
pub(super) fn info(version: Lavalink) -> String {
    let head = match version {
        Lavalink::V3 => {
            r#"{"version":{"semver":"3.7.13","major":3,"minor":7,"patch":13,"preRelease":null,"build":null},"buildTime":1726861297000,"git":{"branch":"3.7.13","commit":"3c6134d","commitTime":1726861252000},"jvm":"17.0.15","lavaplayer":"1.5.6""#
        }
        Lavalink::V4 => {
            r#"{"version":{"semver":"4.2.2","major":4,"minor":2,"patch":2,"preRelease":""},"buildTime":1772380847000,"git":{"branch":"4.2.2","commit":"8dd5a1c","commitTime":1772380802000},"jvm":"17.0.15","lavaplayer":"2.2.6""#
        }
    };
    let sources = r#""sourceManagers":["youtube","soundcloud","local","http"]"#;
    let filters = r#""filters":["volume","equalizer","karaoke","timescale","tremolo","vibrato","distortion","rotation","channelMix","lowPass"]"#;
    format!(r#"{head},{sources},{filters},"plugins":[]}}"#)
}

/// How busy a node is, over all its sessions.
#[derive(Clone, Copy)]
pub(super) struct Load {
    pub(super) players: usize,
    pub(super) playing: usize,
    /// From 0 to 1.
    pub(super) system_load: f64,
    pub(super) uptime: Duration,
}

/// The body of `GET /vN/stats`: <https://lavalink.dev/api/websocket#stats-op>.
pub(super) fn stats(version: Lavalink, load: Load) -> String {
    let frames = if version == Lavalink::V4 { r#""frameStats":null,"# } else { "" };
    format!("{{{frames}{}}}", stats_members(load))
}

/// The same as a WebSocket message.
pub(super) fn stats_message(version: Lavalink, load: Load) -> String {
    match version {
        Lavalink::V3 => format!(r#"{{{},"op":"stats"}}"#, stats_members(load)),
        Lavalink::V4 => format!(r#"{{"op":"stats","frameStats":null,{}}}"#, stats_members(load)),
    }
}

fn stats_members(load: Load) -> String {
    const RESERVABLE: u64 = 1 << 30;
    const ALLOCATED: u64 = 192 << 20;
    // A saw-tooth like a garbage collector's, so that charts of it are not flat.
    let used = (48 << 20) + load.uptime.as_secs() % 60 * (1 << 20) + load.players as u64 * 4096;
    format!(
        r#""players":{},"playingPlayers":{},"uptime":{},"memory":{{"free":{},"used":{used},"allocated":{ALLOCATED},"reservable":{RESERVABLE}}},"cpu":{{"cores":2,"systemLoad":{:?},"lavalinkLoad":{:?}}}"#,
        load.players,
        load.playing,
        load.uptime.as_millis(),
        ALLOCATED.saturating_sub(used),
        load.system_load,
        load.system_load * 0.4,
    )
}
