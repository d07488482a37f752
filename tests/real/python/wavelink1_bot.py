"""wavelink 1, of the v3 era: the WebSocket at `/`, REST without a version in the path, player updates as messages
on the WebSocket. It has an environment of its own, because wavelink 3 is the same package.
"""

import asyncio
import logging

import wavelink

from common import HOST, IDENTIFIER, PASSWORD, PORT, SECURE, check, check_track, cut, drive, kill, pretend_discord, step


class ReadyMessages(logging.Handler):
    """Older than the ready message, the library logs it like all others and tells its user of the open socket only."""

    def __init__(self):
        super().__init__(logging.DEBUG)
        self.waiting = []
        logger = logging.getLogger("wavelink.websocket")
        logger.setLevel(logging.DEBUG)
        logger.propagate = False
        logger.addHandler(self)

    def emit(self, record):
        text = record.getMessage()
        if '"op":"ready"' in text and '"sessionId":"' in text:
            for future in self.waiting:
                if not future.done():
                    future.set_result(text)

    def next(self):
        future = asyncio.get_running_loop().create_future()
        self.waiting.append(future)
        return future


async def main():
    messages = ReadyMessages()
    client = await pretend_discord()
    ready, connected = messages.next(), client.next_event("wavelink_node_ready")
    node = await wavelink.NodePool.create_node(
        bot=client, host=HOST, port=PORT, password=PASSWORD, https=SECURE, identifier="proxy"
    )
    await connected
    await ready
    step("ready")

    tracks = await node.get_tracks(wavelink.Track, IDENTIFIER)
    check(len(tracks) == 1, f"one track, not {tracks!r}")
    track = tracks[0]
    check_track(track.id, track.title)
    step("load")

    check((await node.build_track(wavelink.Track, track.id)).title == track.title, "the same title from decodetrack")
    step("decode")

    async def play():
        player = await client.voice_channel.connect(cls=wavelink.Player)
        started = client.next_event("wavelink_track_start")
        await player.play(track)
        _, started_track = await started
        check(started_track.title == track.title, "the server to play the track")
        await player.set_volume(50)
        return player

    player = await play()
    step("play")

    await player.disconnect()
    step("destroy")

    back = messages.next()
    cut()
    await back
    step("reconnect")

    again = (await node.get_tracks(wavelink.Track, IDENTIFIER))[0]
    check_track(again.id, again.title)
    step("load-again")
    player = await play()
    step("play-again")

    back_again = messages.next()
    kill()
    await back_again
    step("reconnect-again")

    await player.disconnect()
    await play()
    step("play-on")


drive(main)
