"""mafic 2: asks /version before anything else and speaks what it finds there, v3.7 or v4.

It upgrades the connection that it used for /version, and sends an empty Session-Id. A node says what it expects
through LAVALINK_VERSION (3 or 4, 4 unless set).
"""

import asyncio
import os

import mafic

from common import (
    HOST, IDENTIFIER, PASSWORD, PORT, SECURE, TAKEOVER, VOICE,
    check, check_position, check_track, cut, drive, kill, pretend_discord, step, takeover,
)

VERSION = int(os.environ.get("LAVALINK_VERSION", "4"))


class Player(mafic.Player):
    """It disconnects once more when Discord says that it has left, and would take the next player with it."""

    def __init__(self, *args):
        super().__init__(*args)
        self.left = asyncio.Event()

    async def on_voice_state_update(self, data):
        try:
            await super().on_voice_state_update(data)
        finally:
            if data["channel_id"] is None:
                self.left.set()

    async def has_left(self):
        if VOICE:
            await self.left.wait()


async def main():
    client = await pretend_discord()
    # It searches with a prefix for whatever is no URL.
    prefix, _, rest = IDENTIFIER.partition(":")
    query, search_type = (IDENTIFIER, "") if IDENTIFIER.startswith("http") else (rest, prefix)
    check(query, "a URL or prefix:words, mafic can load nothing else")

    pool = mafic.NodePool(client)
    ready = client.next_event("node_ready")
    node = await pool.create_node(host=HOST, port=PORT, label="proxy", password=PASSWORD, secure=SECURE)
    await ready
    check(node.session_id, "a session id")
    check(node.version == VERSION, f"a v{VERSION} server, not v{node.version}")
    step("ready")

    tracks = await node.fetch_tracks(query, search_type=search_type)
    check(len(tracks) == 1, f"one track, not {tracks!r}")
    track = tracks[0]
    check_track(track.id, track.title)
    step("load")

    check((await node.decode_track(track.id)).title == track.title, "the same title from decodetrack")
    check((await node.decode_tracks([track.id]))[0].title == track.title, "the same title from decodetracks")
    step("decode")

    guild_id = client.voice_channel.guild.id

    async def play():
        started = client.next_event("track_start")
        if VOICE:
            player = await client.voice_channel.connect(cls=Player)
            await player.play(track)
        else:
            # Its player plays nothing before it is connected, its node does.
            player = Player(client, client.voice_channel, node=node)
            node.add_player(guild_id, player)
            answer = await node.update(guild_id=guild_id, track=track)
            check(answer["track"]["info"]["title"] == track.title, "the server to accept the track")
        await started
        held = (await node.fetch_player(guild_id))["track"]
        check(held["info"]["title"] == track.title, "the server to play the track")
        return player

    player = await play()
    step("play")

    await player.disconnect(force=True)
    await player.has_left()
    try:
        await node.fetch_player(guild_id)
        check(False, "no player to be left")
    except mafic.HTTPNotFound:
        step("destroy")

    back = client.next_event("node_ready")
    cut()
    await back
    check(node.session_id, "a session id again")
    step("reconnect")

    again = (await node.fetch_tracks(query, search_type=search_type))[0]
    check_track(again.id, again.title)
    step("load-again")
    player = await play()
    step("play-again")

    if TAKEOVER:
        names = ("node_ready", "node_unavailable", "track_end", "track_start", "track_exception", "websocket_closed")
        await takeover([client.next_event(name) for name in names])
        await player.pause()
        check((await node.fetch_player(guild_id))["paused"], "the player to be paused")
        await player.resume()
        await player.seek(5_000)
        await player.add_filter(mafic.Filter(timescale=mafic.Timescale(speed=1.1)), label="faster")
        await player.set_volume(50)
        held = await node.fetch_player(guild_id)
        check(held["filters"]["timescale"]["speed"] == 1.1 and held["volume"] == 50, "the volume and the filter")
        check(held["track"]["info"]["title"] == track.title and not held["paused"], "the track to play on")
        await check_position(lambda: player.position)
        step("taken-over")
        started = client.next_event("track_start")
        await player.play(track)
        await started
        step("play-on")
        return

    back_again = client.next_event("node_ready")
    kill()
    await back_again
    step("reconnect-again")

    # The library has disconnected it by itself, as the new session does not have it.
    await player.has_left()
    await play()
    step("play-on")


drive(main)
