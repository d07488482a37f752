// What the Node drivers share: the server to talk to, the steps they report, and a pretend Discord.
//
// A driver says STEP <name> after each step. It says CUT, and the test that started it cuts its TCP connections; it says
// KILL while it plays, and the test kills the Lavalink that has its session. The library has to come back by itself each
// time, or, with LAVALINK_TAKEOVER=1, must not notice that it was killed. It ends with 0 when all went well, and with 1
// and a line on stderr if not.

import { createRequire } from "node:module";

// The libraries live in target/real/node (see install.sh), where an import from here would not look.
export const load = createRequire(new URL("../../../target/real/node/", import.meta.url));

const env = process.env;

export const server = {
  host: env.LAVALINK_HOST ?? "127.0.0.1",
  port: Number(env.LAVALINK_PORT),
  password: env.LAVALINK_PASSWORD,
  identifier: env.LAVALINK_IDENTIFIER,
  secure: env.LAVALINK_SECURE === "1",
  // A real Lavalink has no Discord to connect to here. It plays all the same, unheard.
  voice: env.LAVALINK_VOICE !== "0",
  // Another Lavalink takes the session over when its own is killed.
  takeover: env.LAVALINK_TAKEOVER === "1",
  // What /version may say: a listener that is not pinned answers it by its default on a new connection.
  unversioned: new RegExp(`^[${env.LAVALINK_VERSION ?? "34"}]\\.\\d+\\.\\d+`),
};

export const bot = { id: "170000000000000001", guild: "170000000000000002", channel: "170000000000000003" };

// Discord's part when a bot asks to join or leave a voice channel: two events, some time after the request.
// Without voice it does not answer.
export function voiceEvents({ d: asked }, deliver) {
  if (!server.voice) return;
  setImmediate(() => {
    deliver({
      op: 0,
      t: "VOICE_STATE_UPDATE",
      d: { ...asked, user_id: bot.id, session_id: "discord-session", deaf: false, mute: false, suppress: false },
    });
    if (asked.channel_id === null) return;
    deliver({
      op: 0,
      t: "VOICE_SERVER_UPDATE",
      d: { guild_id: asked.guild_id, token: "discord-token", endpoint: "rotterdam1234.discord.media:443" },
    });
  });
}

// The arguments of the next such event for which `wanted` holds.
export function next(emitter, event, wanted = () => true) {
  return new Promise((resolve) => {
    emitter.on(event, function listener(...args) {
      if (!wanted(...args)) return;
      emitter.off(event, listener);
      resolve(args);
    });
  });
}

let last = "the start";

export function step(name) {
  last = name;
  console.log(`STEP ${name}`);
}

export function cut() {
  console.log("CUT");
}

export function kill() {
  console.log("KILL");
}

// Kills the Lavalink. None of these events of the library may come from then on, until the returned function is called.
export async function takeover(events) {
  let mayNot = true;
  for (const [emitter, names] of events) {
    for (const name of names) {
      emitter.on(name, () => {
        if (mayNot) throw new Error(`the library says ${name}`);
      });
    }
  }
  kill();
  // A takeover takes less; the library would notice the end of its WebSocket at once.
  await new Promise((resolve) => setTimeout(resolve, 2000));
  return () => {
    mayNot = false;
  };
}

export function check(holds, what) {
  if (!holds) throw new Error(`expected ${what}`);
}

// After a seek to 5 s, the player must be there; for a moment it may report where it was.
export async function checkPosition(position) {
  let found;
  for (let i = 0; i < 100; i++) {
    found = await position();
    if (found >= 5_000) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  check(false, `a position of at least 5000 ms, not ${found}`);
}

// A track as any of the libraries gives it: an encoded string and a title.
export function checkTrack(encoded, title) {
  check(typeof encoded === "string" && encoded.length > 20, `an encoded track, not ${encoded}`);
  check(typeof title === "string" && title.length > 0, `a title, not ${title}`);
}

export function drive(main) {
  const fail = (error) => {
    console.error(`FAILED ${error?.stack ?? error}`);
    process.exit(1);
  };
  process.on("uncaughtException", fail);
  setTimeout(() => fail(`not done after 90 s, nothing came after ${last}`), 90_000);
  main().then(() => process.exit(0), fail);
}
