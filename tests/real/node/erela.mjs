// erela.js 2, of the v3 era: the WebSocket at `/`, REST without a version in the path, player updates as messages on
// the WebSocket. It never sends a User-Agent, and it allows TLS at port 443 alone.

import { bot, check, checkTrack, cut, drive, kill, load, next, server, step, voiceEvents } from "./common.mjs";

const { Manager, TrackUtils } = load("erela.js");

drive(async () => {
  const { host, port, password, secure } = server;
  check(!secure || port === 443, "port 443, the only one where erela.js speaks TLS");

  const manager = new Manager({
    nodes: [{ identifier: "proxy", host, port, password, secure, retryAmount: 50, retryDelay: 100 }],
    clientId: bot.id,
    send: (_guild, packet) => voiceEvents(packet, (event) => manager.updateVoiceState(event)),
  });
  // Older than the ready message, the library reports it as an error.
  manager.on("nodeError", (_node, error) => {
    if (!error.message.startsWith('Unexpected op "ready"')) console.error(`erela.js: ${error.message}`);
  });
  const isReady = (message) => message.op === "ready" && message.sessionId;

  const ready = next(manager, "nodeRaw", isReady);
  manager.init();
  await ready;
  const node = manager.nodes.get("proxy");
  step("ready");

  // search() would put "ytsearch:" before what is no URL.
  const search = async () => {
    if (/^https?:/.test(server.identifier)) return manager.search(server.identifier);
    const answer = await node.makeRequest(`/loadtracks?identifier=${encodeURIComponent(server.identifier)}`);
    return { ...answer, tracks: answer.tracks.map((track) => TrackUtils.build(track)) };
  };
  const loaded = await search();
  check(loaded.loadType === "TRACK_LOADED", `one track, not ${loaded.loadType}`);
  const [track] = loaded.tracks;
  checkTrack(track.track, track.title);
  step("load");

  const decoded = await manager.decodeTrack(track.track);
  check(decoded.info.title === track.title, "the same title from decodetracks");
  step("decode");

  const play = async () => {
    const player = manager.create({ guild: bot.guild, voiceChannel: bot.channel });
    player.connect();
    const started = next(manager, "trackStart");
    await player.play(track);
    const [, , event] = await started;
    check(event.track === track.track, "the server to play the track");
    player.setVolume(50);
    return player;
  };
  const player = await play();
  step("play");

  player.destroy();
  // destroy() does not wait for its message to leave, a second one after it does.
  check(await node.send({ op: "destroy", guildId: bot.guild }), "the WebSocket to be open");
  step("destroy");

  const back = next(manager, "nodeRaw", isReady);
  cut();
  await back;
  step("reconnect");

  const again = await search();
  checkTrack(again.tracks[0].track, again.tracks[0].title);
  step("load-again");
  const playing = await play();
  step("play-again");

  const backAgain = next(manager, "nodeRaw", isReady);
  kill();
  await backAgain;
  step("reconnect-again");

  playing.destroy();
  await play();
  step("play-on");
});
