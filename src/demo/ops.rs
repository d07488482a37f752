//! The ops that bots send to Lavalink v3 over the WebSocket: its IMPLEMENTATION.md, "Outgoing messages". They
//! change the session that they arrive on.

use std::time::Instant;

use serde_json::{Map, Value};

use super::players::{Playing, Voice};
use super::session::Session;
use super::track::Track;
use crate::config::Lavalink;

/// An op that Lavalink's handler throws on: the WebSocket is closed with 1011.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadOp;

/// Does what a text message says; ops it does not know are ignored.
pub(super) fn apply(session: &mut Session, text: &str, now: Instant) -> Result<(), BadOp> {
    let Ok(Value::Object(message)) = serde_json::from_str(text) else { return Err(BadOp) };
    let op = message.get("op").and_then(Value::as_str).ok_or(BadOp)?;
    if op == "configureResuming" {
        session.resume_key = message.get("key").and_then(Value::as_str).map(str::to_owned);
        session.timeout = optional(&message, "timeout")?.unwrap_or(session.timeout);
        return Ok(());
    }
    if !["play", "stop", "pause", "seek", "volume", "filters", "equalizer", "destroy", "voiceUpdate"].contains(&op) {
        return Ok(());
    }
    let guild = number(message.get("guildId").ok_or(BadOp)?)?;
    match op {
        "play" => return play(session, guild, &message, now),
        "stop" => session.play(guild, None, false, now),
        "destroy" => session.destroy(guild, now),
        "pause" => {
            let paused = message.get("pause").and_then(Value::as_bool).ok_or(BadOp)?;
            session.player(guild, now).set_paused(paused, now);
            session.send_position(guild, now);
        }
        "seek" => {
            let position = optional(&message, "position")?.ok_or(BadOp)?;
            session.player(guild, now).seek(position, now);
            session.send_position(guild, now);
        }
        "volume" => session.player(guild, now).volume = optional(&message, "volume")?.ok_or(BadOp)?,
        "filters" | "equalizer" => {
            let mut filters = message;
            filters.remove("op");
            filters.remove("guildId");
            session.player(guild, now).filters = Value::Object(filters);
            session.send_position(guild, now);
        }
        _ => {
            let event = message.get("event").and_then(Value::as_object).ok_or(BadOp)?;
            let voice = Voice {
                token: text_of(event, "token").ok_or(BadOp)?,
                endpoint: text_of(event, "endpoint").unwrap_or_default(),
                session: text_of(&message, "sessionId").ok_or(BadOp)?,
                channel: None,
            };
            // Discord sends updates without an endpoint while it moves a guild to another voice server.
            if !voice.endpoint.is_empty() {
                session.player(guild, now).set_voice(Lavalink::V3, voice, now);
                session.finish_voice(guild, now);
            }
        }
    }
    Ok(())
}

fn play(session: &mut Session, guild: i64, message: &Map<String, Value>, now: Instant) -> Result<(), BadOp> {
    let no_replace = message.get("noReplace").and_then(Value::as_bool).unwrap_or(false);
    let encoded = text_of(message, "track").ok_or(BadOp)?;
    let mut track = Track::decode(&encoded).ok_or(BadOp)?;
    if let Some(start) = optional(message, "startTime")? {
        track.position = start;
    }
    let end = optional(message, "endTime")?;
    let player = session.player(guild, now);
    if no_replace && player.playing.is_some() {
        return Ok(());
    }
    player.set_paused(message.get("pause").and_then(Value::as_bool).unwrap_or(false), now);
    if let Some(volume) = optional(message, "volume")? {
        player.volume = volume;
    }
    let user_data = Value::Object(Map::new());
    session.play(guild, Some(Playing { encoded, track, user_data, end }), false, now);
    Ok(())
}

fn text_of(object: &Map<String, Value>, name: &str) -> Option<String> {
    object.get(name).and_then(Value::as_str).map(str::to_owned)
}

fn optional(object: &Map<String, Value>, name: &str) -> Result<Option<i64>, BadOp> {
    object.get(name).filter(|value| !value.is_null()).map(number).transpose()
}

/// Old bots send some numbers as text, which Java's JSON reader takes.
fn number(value: &Value) -> Result<i64, BadOp> {
    match value {
        Value::String(text) => text.parse().map_err(|_| BadOp),
        Value::Number(number) => number.as_i64().or_else(|| number.as_f64().map(|float| float as i64)).ok_or(BadOp),
        _ => Err(BadOp),
    }
}
