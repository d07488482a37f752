// lavacord 3: asks /version before anything else and speaks what it finds there, so it belongs at a v4 listener.

import { bot, check, checkTrack, cut, drive, kill, load, next, server, step, voiceEvents } from "./common.mjs";

// lavacord's WebSocket expects this of node 22.
Promise.withResolvers ??= () => {
  const settle = {};
  settle.promise = new Promise((resolve, reject) => Object.assign(settle, { resolve, reject }));
  return settle;
};

const { Manager, Rest } = load("lavacord");

drive(async () => {
  const { host, port, password, secure } = server;
  // The library sends a PATCH for these events, which a cut must not meet.
  const voiceUpdates = [];
  const manager = new Manager([{ id: "proxy", host, port, password, secure, reconnectInterval: 100 }], {
    userId: bot.id,
    send: (packet) => voiceEvents(packet, ({ t, d }) => {
      voiceUpdates.push(t === "VOICE_STATE_UPDATE" ? manager.voiceStateUpdate(d) : manager.voiceServerUpdate(d));
    }),
  });
  manager.on("error", (error) => console.error(`lavacord: ${error.message}`));
  const isReady = (message) => message.op === "ready";

  // Not manager.connect(), which needs the iterator helpers of node 22. The library reports the open socket as "ready",
  // the server's own ready message comes as "raw".
  const node = manager.nodes.get("proxy");
  const ready = next(manager, "raw", isReady);
  await node.connect();
  await ready;
  check(node.version === "4", `a v4 server, not ${node.version}`);
  check(node.sessionId, "a session id");
  step("ready");

  const loaded = await Rest.load(node, server.identifier);
  check(loaded.loadType === "track", `one track, not ${loaded.loadType}`);
  const { encoded, info } = loaded.data;
  checkTrack(encoded, info.title);
  step("load");

  const [decoded] = await Rest.decode(node, [encoded]);
  check(decoded.info.title === info.title, "the same title from decodetracks");
  step("decode");

  const play = async () => {
    const player = await manager.join({ guild: bot.guild, channel: bot.channel, node: "proxy" });
    const started = next(manager, "playerTrackStart");
    const answer = await player.play(encoded);
    check(answer.track.info.title === info.title, "the server to play the track");
    await started;
    check((await player.setVolume(50)).volume === 50, "the server to change the volume");
    await Promise.all(voiceUpdates.splice(0));
  };
  await play();
  step("play");

  check(await manager.leave(bot.guild), "a player to destroy");
  step("destroy");

  const back = next(manager, "raw", isReady);
  cut();
  await back;
  check(node.sessionId, "a session id again");
  step("reconnect");

  const again = await Rest.load(node, server.identifier);
  checkTrack(again.data.encoded, again.data.info.title);
  step("load-again");
  await play();
  step("play-again");

  const backAgain = next(manager, "raw", isReady);
  kill();
  await backAgain;
  step("reconnect-again");

  check(await manager.leave(bot.guild), "a player to destroy");
  await play();
  step("play-on");
});
