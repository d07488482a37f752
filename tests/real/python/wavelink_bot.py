"""wavelink 3: Lavalink v4 only. It sends User-Id and Client-Name on REST too."""

from contextlib import suppress

import wavelink

from common import (
    HOST, IDENTIFIER, PASSWORD, PORT, SECURE, TAKEOVER, VOICE,
    check, check_position, check_track, cut, drive, kill, pretend_discord, step, takeover,
)


async def main():
    client = await pretend_discord()
    ready = client.next_event("wavelink_node_ready")
    uri = f"{'https' if SECURE else 'http'}://{HOST}:{PORT}"
    node = wavelink.Node(identifier="proxy", uri=uri, password=PASSWORD)
    await wavelink.Pool.connect(nodes=[node], client=client)
    check((await ready)[0].session_id, "a session id")
    check((await node.fetch_version()).startswith("4."), "a v4 server")
    check((await node.fetch_info()).version.major == 4, "a v4 server in /v4/info too")
    step("ready")

    tracks = await wavelink.Pool.fetch_tracks(IDENTIFIER)
    check(len(tracks) == 1, f"one track, not {tracks!r}")
    track = tracks[0]
    check_track(track.encoded, track.title)
    step("load")

    # The library has no method of its own for this.
    decoded = await node.send("GET", path="v4/decodetrack", params={"encodedTrack": track.encoded})
    check(decoded["info"]["title"] == track.title, "the same title from decodetrack")
    step("decode")

    guild_id = client.voice_channel.guild.id

    async def play():
        if VOICE:
            player = await client.voice_channel.connect(cls=wavelink.Player)
        else:
            # It gives up waiting for Discord, but leaves a player that plays.
            with suppress(wavelink.ChannelTimeoutException):
                await client.voice_channel.connect(cls=wavelink.Player, timeout=0.1)
            player = node.get_player(guild_id)
        started = client.next_event("wavelink_track_start")
        await player.play(track)
        await started
        held = await node.fetch_player_info(guild_id)
        check(held.track.title == track.title, "the server to play the track")
        return player

    player = await play()
    step("play")

    await player.disconnect()
    check(await node.fetch_players() == [], "no player to be left")
    step("destroy")

    back = client.next_event("wavelink_node_ready")
    cut()
    check((await back)[0].session_id, "a session id again")
    step("reconnect")

    again = (await wavelink.Pool.fetch_tracks(IDENTIFIER))[0]
    check_track(again.encoded, again.title)
    step("load-again")
    player = await play()
    step("play-again")

    if TAKEOVER:
        names = ("node_ready", "node_closed", "node_disconnected", "track_end", "track_start", "websocket_closed")
        await takeover([client.next_event(f"wavelink_{name}") for name in names])
        await player.pause(True)
        check((await node.fetch_player_info(guild_id)).paused, "the player to be paused")
        await player.pause(False)
        await player.seek(5_000)
        filters = wavelink.Filters()
        filters.timescale.set(speed=1.1)
        await player.set_filters(filters)
        await player.set_volume(50)
        held = await node.fetch_player_info(guild_id)
        check(held.volume == 50 and held.filters.timescale.payload["speed"] == 1.1, "the volume and the filter")
        check(held.track.title == track.title and not held.paused, "the track to play on")

        async def position():
            return (await node.fetch_player_info(guild_id)).state.position

        await check_position(position)
        step("taken-over")
        started = client.next_event("wavelink_track_start")
        await player.play(track)
        await started
        step("play-on")
        return

    back_again = client.next_event("wavelink_node_ready")
    kill()
    check((await back_again)[0].session_id, "a session id again")
    step("reconnect-again")

    await player.disconnect()
    await play()
    step("play-on")


drive(main)
