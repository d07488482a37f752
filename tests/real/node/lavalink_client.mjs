// lavalink-client 2: Lavalink v4 only. It allows TLS at port 443 alone.

import { bot, check, checkPosition, checkTrack, cut, drive, kill, load, next, server, step, takeover, voiceEvents } from "./common.mjs";

const { LavalinkManager } = load("lavalink-client");

drive(async () => {
  // What the library sends of voice, which must have been answered before the node is killed.
  const voice = [];
  const voiceIsSent = () => Promise.all(voice.splice(0));
  const manager = new LavalinkManager({
    nodes: [{
      id: "proxy",
      host: server.host,
      port: server.port,
      authorization: server.password,
      secure: server.secure,
      retryAmount: 50,
      retryDelay: 100,
    }],
    client: { id: bot.id, username: "lavaproxy-test" },
    sendToShard: (_guild, packet) => voiceEvents(packet, (event) => voice.push(manager.sendRawData(event))),
  });
  manager.nodeManager.on("error", (_node, error) => console.error(`lavalink-client: ${error.message}`));

  const isReady = (_node, message) => message.op === "ready";
  const connected = next(manager.nodeManager, "connect");
  const ready = next(manager.nodeManager, "raw", isReady);
  await manager.init({ id: bot.id, username: "lavaproxy-test" });
  const [node] = await connected;
  await ready;
  check(node.sessionId, "a session id");
  check(node.info.version.major === 4, "a v4 server");
  check(server.unversioned.test(await node.fetchVersion()), `${server.unversioned} at /version`);
  step("ready");

  // With the source "local" the library leaves an identifier that is no URL as it is.
  const query = { query: server.identifier, source: "local" };
  const loaded = await node.search(query, bot);
  check(loaded.loadType === "track", `one track, not ${loaded.loadType}`);
  const [track] = loaded.tracks;
  checkTrack(track.encoded, track.info.title);
  step("load");

  const decoded = await node.decode.singleTrack(track.encoded, bot);
  check(decoded.info.title === track.info.title, "the same title from decodetrack");
  const [listed] = await node.decode.multipleTracks([track.encoded], bot);
  check(listed.info.title === track.info.title, "the same title from decodetracks");
  step("decode");

  const play = async () => {
    const player = manager.createPlayer({ guildId: bot.guild, voiceChannelId: bot.channel });
    await player.connect();
    const started = next(manager, "trackStart");
    await player.play({ track });
    await started;
    await voiceIsSent();
    const held = (await node.fetchPlayer(bot.guild)).track;
    check(held.info.title === track.info.title, "the server to play the track");
    return player;
  };
  const player = await play();
  step("play");

  await player.destroy();
  check((await node.fetchAllPlayers()).length === 0, "no player to be left");
  await voiceIsSent();
  step("destroy");

  const back = next(manager.nodeManager, "connect");
  const readyBack = next(manager.nodeManager, "raw", isReady);
  cut();
  await back;
  await readyBack;
  check(node.sessionId, "a session id again");
  step("reconnect");

  const again = await node.search(query, bot);
  checkTrack(again.tracks[0].encoded, again.tracks[0].info.title);
  step("load-again");
  const playing = await play();
  step("play-again");

  if (server.takeover) {
    const done = await takeover([
      [manager.nodeManager, ["connect", "disconnect", "error", "reconnecting", "reconnectinprogress", "destroy"]],
      [manager, ["trackEnd", "trackError", "playerDisconnect", "playerDestroy", "playerSocketClosed"]],
    ]);
    await playing.pause();
    check((await node.fetchPlayer(bot.guild)).paused, "the player to be paused");
    await playing.resume();
    await playing.seek(5_000);
    await playing.filterManager.setSpeed(1.1);
    await playing.setVolume(50);
    const held = await node.fetchPlayer(bot.guild);
    check(held.volume === 50 && held.filters.timescale.speed === 1.1, "the volume and the filter");
    check(held.track.info.title === track.info.title && !held.paused, "the track to play on");
    await checkPosition(async () => (await node.fetchPlayer(bot.guild)).state.position);
    step("taken-over");
    done();
    const started = next(manager, "trackStart");
    await playing.play({ track });
    await started;
    step("play-on");
    return;
  }

  const backAgain = next(manager.nodeManager, "connect");
  const readyAgain = next(manager.nodeManager, "raw", isReady);
  kill();
  await backAgain;
  await readyAgain;
  step("reconnect-again");

  await playing.destroy();
  await play();
  step("play-on");
});
