// shoukaku 4: Lavalink v4 only.

import { bot, check, checkPosition, checkTrack, cut, drive, kill, load, next, server, step, takeover, voiceEvents } from "./common.mjs";

const { Connector, Player, Shoukaku } = load("shoukaku");

class PretendDiscord extends Connector {
  sendPacket(_shard, packet) {
    voiceEvents(packet, (event) => this.raw(event));
  }

  getId() {
    return bot.id;
  }

  listen(nodes) {
    this.ready(nodes);
  }
}

// A guild's player. joinVoiceChannel() waits for Discord, so without voice this does what it does after that.
async function join(shoukaku, node) {
  if (server.voice) return shoukaku.joinVoiceChannel({ guildId: bot.guild, channelId: bot.channel, shardId: 0 });
  const player = new Player(bot.guild, node);
  shoukaku.players.set(bot.guild, player);
  return player;
}

drive(async () => {
  const shoukaku = new Shoukaku(
    new PretendDiscord(),
    [{ name: "proxy", url: `${server.host}:${server.port}`, auth: server.password, secure: server.secure }],
    { reconnectTries: 20, reconnectInterval: 0.1 },
  );
  shoukaku.on("error", (_node, error) => console.error(`shoukaku: ${error.message}`));

  await next(shoukaku, "ready");
  const node = shoukaku.getIdealNode();
  check(node.sessionId, "a session id");
  step("ready");

  const loaded = await node.rest.resolve(server.identifier);
  check(loaded.loadType === "track", `one track, not ${loaded.loadType}`);
  const { encoded, info } = loaded.data;
  checkTrack(encoded, info.title);
  step("load");

  const decoded = await node.rest.decode(encoded);
  check(decoded.info.title === info.title, "the same title from decodetrack");
  step("decode");

  const play = async () => {
    const player = await join(shoukaku, node);
    const started = next(player, "start");
    await player.playTrack({ track: { encoded } });
    await started;
    // `encoded` ends in the position, which goes on.
    check((await node.rest.getPlayer(bot.guild)).track.info.identifier === info.identifier, "the server to play the track");
  };
  await play();
  step("play");

  await shoukaku.leaveVoiceChannel(bot.guild);
  check((await node.rest.getPlayers()).length === 0, "no player to be left");
  step("destroy");

  const back = next(shoukaku, "ready");
  cut();
  await back;
  check(node.sessionId, "a session id again");
  step("reconnect");

  const again = await node.rest.resolve(server.identifier);
  checkTrack(again.data.encoded, again.data.info.title);
  step("load-again");
  await play();
  step("play-again");

  if (server.takeover) {
    const player = shoukaku.players.get(bot.guild);
    const done = await takeover([[shoukaku, ["ready", "error", "close", "disconnect", "reconnecting"]], [player, ["end", "closed", "exception"]]]);
    await player.setPaused(true);
    check((await node.rest.getPlayer(bot.guild)).paused, "the player to be paused");
    await player.setPaused(false);
    await player.seekTo(5_000);
    await player.setFilters({ timescale: { speed: 1.1 } });
    await player.setGlobalVolume(50);
    const held = await node.rest.getPlayer(bot.guild);
    check(held.volume === 50 && held.filters.timescale.speed === 1.1, "the volume and the filter");
    check(held.track.info.identifier === info.identifier && !held.paused, "the track to play on");
    await checkPosition(async () => (await node.rest.getPlayer(bot.guild)).state.position);
    step("taken-over");
    done();
    const started = next(player, "start");
    await player.playTrack({ track: { encoded } });
    await started;
    step("play-on");
    return;
  }

  const backAgain = next(shoukaku, "ready");
  kill();
  await backAgain;
  step("reconnect-again");

  await shoukaku.leaveVoiceChannel(bot.guild);
  await play();
  step("play-on");
});
