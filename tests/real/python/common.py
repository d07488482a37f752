"""What the Python drivers share: the server to talk to, the steps they report, and a pretend Discord.

A driver says STEP <name> after each step. It says CUT, and the test that started it cuts its TCP connections; it says
KILL while it plays, and the test kills the Lavalink that has its session. The library has to come back by itself each
time, or, with LAVALINK_TAKEOVER=1, must not notice that it was killed. It ends with 0 when all went well, and with 1
and a line on stderr if not.
"""

import asyncio
import logging
import os
import sys
import traceback

HOST = os.environ.get("LAVALINK_HOST", "127.0.0.1")
PORT = int(os.environ["LAVALINK_PORT"])
PASSWORD = os.environ["LAVALINK_PASSWORD"]
IDENTIFIER = os.environ["LAVALINK_IDENTIFIER"]
SECURE = os.environ.get("LAVALINK_SECURE") == "1"
# A real Lavalink has no Discord to connect to here. It plays all the same, unheard.
VOICE = os.environ.get("LAVALINK_VOICE") != "0"
# Another Lavalink takes the session over when its own is killed.
TAKEOVER = os.environ.get("LAVALINK_TAKEOVER") == "1"

BOT_ID = 170000000000000001
GUILD_ID = 170000000000000002
CHANNEL_ID = 170000000000000003

last = "the start"


def step(name):
    global last
    last = name
    print(f"STEP {name}", flush=True)


def cut():
    print("CUT", flush=True)


def kill():
    print("KILL", flush=True)


async def takeover(noticed):
    """Kills the Lavalink. None of these futures may be done after a while, which is longer than a takeover takes."""
    kill()
    await asyncio.sleep(2)
    check(not any(future.done() for future in noticed), "the library to notice nothing")


def check(holds, what):
    if not holds:
        raise AssertionError(f"expected {what}")


async def check_position(position):
    """After a seek to 5 s, the player must be there; for a moment it may report where it was."""
    for _ in range(100):
        found = position()
        found = await found if asyncio.iscoroutine(found) else found
        if found >= 5_000:
            return
        await asyncio.sleep(0.1)
    check(False, f"a position of at least 5000 ms, not {found}")


def check_track(encoded, title):
    """A track as any of the libraries gives it: an encoded string and a title."""
    check(isinstance(encoded, str) and len(encoded) > 20, f"an encoded track, not {encoded!r}")
    check(isinstance(title, str) and title, f"a title, not {title!r}")


def drive(main):
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr)

    async def run():
        status = 0
        try:
            await asyncio.wait_for(main(), timeout=90)
        except Exception as error:
            traceback.print_exc()
            why = "not done in time" if isinstance(error, asyncio.TimeoutError) else repr(error)
            print(f"FAILED {why}, nothing came after {last}", file=sys.stderr)
            status = 1
        sys.stdout.flush()
        sys.stderr.flush()
        # At once, because the libraries would come back again from the end of their connections.
        os._exit(status)

    asyncio.run(run())


def voice_state(channel_id):
    return {
        "guild_id": str(GUILD_ID),
        "channel_id": channel_id and str(channel_id),
        "user_id": str(BOT_ID),
        "session_id": "discord-session",
        "deaf": False,
        "mute": False,
        "self_deaf": False,
        "self_mute": False,
        "self_video": False,
        "suppress": False,
        "request_to_speak_timestamp": None,
    }


def voice_server():
    return {"guild_id": str(GUILD_ID), "token": "discord-token", "endpoint": "rotterdam1234.discord.media:443"}


async def pretend_discord():
    """A discord.py client that is logged in and ready, in one guild with one voice channel, with no network.

    client.voice_channel.connect(cls=...) and await client.next_event(name) are all a driver needs.
    """
    import discord

    class Gateway:
        """Answers a request to join or leave a voice channel with Discord's two events; without voice, not at all."""

        def __init__(self, state):
            self.state = state

        async def voice_state(self, guild_id, channel_id, self_mute=False, self_deaf=False):
            if not VOICE:
                return
            self.state.parse_voice_state_update(voice_state(channel_id))
            if channel_id is not None:
                self.state.parse_voice_server_update(voice_server())

    class Client(discord.Client):
        def __init__(self):
            super().__init__(intents=discord.Intents(guilds=True))
            self.waiting = []

        async def log_in(self):
            await self._async_setup_hook()
            state = self._connection
            user = {"id": str(BOT_ID), "username": "lavaproxy-test", "discriminator": "0", "avatar": None, "bot": True}
            state.user = discord.ClientUser(state=state, data=user)
            channel = {"id": str(CHANNEL_ID), "type": 2, "name": "music", "position": 0, "bitrate": 64000,
                       "user_limit": 0, "permission_overwrites": [], "nsfw": False, "parent_id": None}
            guild = {"id": str(GUILD_ID), "name": "test", "channels": [channel], "roles": [], "members": []}
            state._add_guild(discord.Guild(data=guild, state=state))
            self.ws = Gateway(state)
            self._ready.set()
            self.voice_channel = self.get_channel(CHANNEL_ID)

        def dispatch(self, event, /, *args, **kwargs):
            super().dispatch(event, *args, **kwargs)
            for name, future in self.waiting:
                if name == event and not future.done():
                    future.set_result((*args, *kwargs.values()))

        def next_event(self, name):
            """A future of the arguments of the next such event. Ask for it before what causes the event."""
            future = asyncio.get_running_loop().create_future()
            self.waiting.append((name, future))
            return future

    client = Client()
    await client.log_in()
    return client
