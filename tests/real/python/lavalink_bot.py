"""lavalink.py 5: Lavalink v4 only. It closes each REST connection after one answer."""

import os
import asyncio

import lavalink

from common import (
    BOT_ID, CHANNEL_ID, GUILD_ID, HOST, IDENTIFIER, PASSWORD, PORT, SECURE, TAKEOVER, VOICE,
    check, check_position, check_track, cut, drive, kill, step, takeover, voice_server, voice_state,
)


async def main():
    client = lavalink.Client(BOT_ID)

    def next_event(kind):
        future = asyncio.get_running_loop().create_future()

        async def hook(event):
            client.remove_event_hooks(hooks=[hook])
            if not future.done():
                future.set_result(event)

        client.add_event_hook(hook, event=kind)
        return future

    ready = next_event(lavalink.NodeReadyEvent)
    node = client.add_node(host=HOST, port=PORT, password=PASSWORD, region="eu", name="proxy", ssl=SECURE)
    check((await ready).session_id, "a session id")
    # A listener that is not pinned answers this by its default on a new connection.
    said = await node.get_version()
    check(said[0] in os.environ.get("LAVALINK_VERSION", "34") and said.count(".") == 2, f"a version, not {said}")
    step("ready")

    loaded = await node.get_tracks(IDENTIFIER)
    check(loaded.load_type is lavalink.LoadType.TRACK, f"one track, not {loaded.load_type}")
    track = loaded.tracks[0]
    check_track(track.track, track.title)
    step("load")

    check((await node.decode_track(track.track)).title == track.title, "the same title from decodetrack")
    check((await node.decode_tracks([track.track]))[0].title == track.title, "the same title from decodetracks")
    step("decode")

    async def play():
        player = client.player_manager.create(GUILD_ID)
        if VOICE:
            await client.voice_update_handler({"t": "VOICE_STATE_UPDATE", "d": voice_state(CHANNEL_ID)})
            await client.voice_update_handler({"t": "VOICE_SERVER_UPDATE", "d": voice_server()})
        started = next_event(lavalink.TrackStartEvent)
        await player.play(track)
        await started
        held = (await node.get_player(GUILD_ID))["track"]
        check(held["info"]["title"] == track.title, "the server to play the track")

    await play()
    step("play")

    await client.player_manager.destroy(GUILD_ID)
    check(await node.get_players() == [], "no player to be left")
    step("destroy")

    back = next_event(lavalink.NodeReadyEvent)
    cut()
    check((await back).session_id, "a session id again")
    step("reconnect")

    again = (await node.get_tracks(IDENTIFIER)).tracks[0]
    check_track(again.track, again.title)
    step("load-again")
    await play()
    step("play-again")

    if TAKEOVER:
        kinds = (lavalink.NodeReadyEvent, lavalink.NodeDisconnectedEvent, lavalink.TrackEndEvent, lavalink.TrackStartEvent)
        await takeover([next_event(kind) for kind in kinds])
        player = client.player_manager.get(GUILD_ID)
        await player.set_pause(True)
        check((await node.get_player(GUILD_ID))["paused"], "the player to be paused")
        await player.set_pause(False)
        await player.seek(5_000)
        speed = lavalink.Timescale()
        speed.update(speed=1.1)
        await player.set_filter(speed)
        await player.set_volume(50)
        held = await node.get_player(GUILD_ID)
        check(held["filters"]["timescale"]["speed"] == 1.1 and held["volume"] == 50, "the volume and the filter")
        check(held["track"]["info"]["title"] == track.title and not held["paused"], "the track to play on")

        async def position():
            return (await node.get_player(GUILD_ID))["state"]["position"]

        await check_position(position)
        step("taken-over")
        started = next_event(lavalink.TrackStartEvent)
        await player.play(track)
        await started
        step("play-on")
        return

    back_again = next_event(lavalink.NodeReadyEvent)
    kill()
    check((await back_again).session_id, "a session id again")
    step("reconnect-again")

    await client.player_manager.destroy(GUILD_ID)
    await play()
    step("play-on")


drive(main)
