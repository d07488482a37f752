// The scenario `nodes`: how the pages show several nodes, and how they drain them.

import { DESK, PHONE, WIDTHS, alter, cells, check, close, expected, fits, isAccessible, open, step, text, texts, tick, until } from "./chromium.mjs";

export async function nodes() {
  await nodeColumn();
  const page = await open("/health");
  await nodeCards(page);
  await drainByKeyboard(page);
  await drainEffects(page);
  await failedDrain(page);
  await moveSessions(page);
  await twentyNodes();
  await nodesGoDown(page);
  await close(page);
}

const card = (page, name) => page.locator("#nodes .card").filter({ has: page.locator("h3", { hasText: new RegExp(`\\b${name}\\b`) }) });
const drainButton = (page, name) => card(page, name).locator(".acts button").first();
const moveButton = (page, name) => card(page, name).locator(".acts button").last();
const hint = (page, name, begin) => card(page, name).locator(".hint").filter({ hasText: new RegExp(`^${begin}`) });
const pill = (page, name) => card(page, name).locator(".pill").innerText();
const focused = (locator) => locator.evaluate((element) => element === document.activeElement);

async function nodeColumn() {
  const page = await open("/");
  const names = () => texts(page, "#table td.node .name");
  await until("rows of both v4 nodes", async () => String([...new Set(await names())].filter((name) => name.startsWith("eu")).sort()) === "eu1,eu2");
  // WebSockets stay.
  await page.check("#kind input[value=websocket]", { force: true });
  await until("WebSockets alone", async () => (await texts(page, "#table td.kind")).every((kind) => kind === "WebSocket"));
  for (const { text: name, title } of await cells(page, "node")) {
    const matches = name.startsWith("v4") ? name.match(/^v4\s+(eu[12])$/) : name.match(/^v3\s+127\.0\.0\.1:\d+$/);
    check(matches && title.match(new RegExp(`^${matches[1] ?? "v3"} at 127\\.0\\.0\\.1:\\d+$`)), `a node and its address, not ${name} with the title ${title}`);
  }
  await page.fill("#search", "eu2");
  await until("the rows of the node that was searched for", async () => String([...new Set(await names())]) === "eu2");
  await page.fill("#search", "");
  await page.click("th.node button");
  const sorted = async () => (await texts(page, "#table td.node")).map((cell) => cell.replace(/\s+/g, " "));
  await until("rows in the order of their nodes", async () => new Set(await sorted()).size > 2 && String(await sorted()) === String((await sorted()).sort()));
  check((await text(page, "#v4-sub")) === "2 nodes up" && (await text(page, "#v3-sub")) === "node up", "how many nodes are up");
  await page.setViewportSize(PHONE);
  await page.fill("#search", "eu1");
  await until("the names of nodes on a phone", async () => (await names()).includes("eu1"));
  await close(page);
  step("node-column");
}

const FACTS = ["Since", "Response", "Lavalink", "Playing", "Load", "Sessions", "Requests", "Loads retried"];

async function nodeCards(page) {
  const { nodes } = await page.evaluate(() => fetch("api/health").then((answer) => answer.json()));
  check(String(nodes.map(({ name }) => name)) === "v3,eu1,eu2", `the demo's nodes, not ${nodes.map(({ name }) => name)}`);
  for (const { name, address, lavalinkVersion } of nodes) {
    const its = card(page, name);
    check((await its.locator(".where code").innerText()) === address, "the node's address");
    check((await pill(page, name)) === "up", "the state as a word");
    const facts = await its.locator("dt").allInnerTexts();
    check(String(facts) === String(FACTS), `the facts ${FACTS}, not ${facts}`);
    const values = await its.locator("dd").allInnerTexts();
    check(values[2] === lavalinkVersion && values[1].endsWith("ms") && values[3].match(/^[\d,]+ of [\d,]+$/) && values[4].endsWith("%"), `figures, not ${values}`);
    check(values.slice(5).every((value) => value.match(/^[\d,]+$/)), `counts, not ${values}`);
  }
  const sessions = await page.$$eval("#nodes .card", (cards) => cards.map((each) => Number([...each.querySelectorAll("dt")].find((dt) => dt.textContent === "Sessions").nextElementSibling.textContent)));
  check(sessions.every((count) => count > 0), `sessions on every node, not ${sessions}`);
  await isAccessible(page, "the cards of the nodes");
  step("node-cards");
}

async function drainByKeyboard(page) {
  let posts = [];
  const count = (request) => request.method() === "POST" && posts.push(new URL(request.url()).pathname);
  page.on("request", count);
  const button = drainButton(page, "eu1");
  check((await button.innerText()) === "Drain" && (await button.getAttribute("aria-label")) === "Drain eu1", "a button that drains eu1");
  await button.focus();
  await page.keyboard.press("Enter");
  check(await page.locator("#drain").isVisible(), "a dialog before anything is done");
  check((await text(page, "#drain-title")) === "Drain eu1?", "the dialog to name the node");
  check((await text(page, "#drain-effect")) === "No new sessions, and no requests without a session, go to eu1 any more. What is there stays.", "the dialog to say what will happen");
  check(await focused(page.locator("#drain-cancel")), "the focus on the answer that does nothing");
  await isAccessible(page, "the dialog");
  await page.setViewportSize(PHONE);
  await fits(page, "the dialog on a phone");
  await isAccessible(page, "the dialog on a phone");
  await page.setViewportSize(DESK);
  await page.keyboard.press("Escape");
  check(!(await page.locator("#drain").isVisible()) && (await focused(button)), "Escape to close the dialog and the focus to go back");
  await page.keyboard.press("Enter");
  await page.keyboard.press("Enter");
  check(!(await page.locator("#drain").isVisible()) && !posts.length, `nothing to be done after Cancel, not ${posts}`);

  for (const [wanted, action, state, next] of [["Drain", "drain", "draining", "Activate"], ["Activate", "activate", "up", "Drain"]]) {
    posts = [];
    check((await button.innerText()) === wanted, `a button ${wanted}`);
    await page.keyboard.press("Enter");
    await page.keyboard.press("Tab");
    check(await focused(page.locator("#drain-confirm")), "the confirmation to be next");
    await page.keyboard.press("Enter");
    await until(`eu1 to be ${state}`, async () => (await pill(page, "eu1")) === state);
    check(String(posts) === `/api/nodes/eu1/${action}`, `one request to ${action}, not ${posts}`);
    await until("the dialog to close", async () => !(await page.locator("#drain").isVisible()));
    check((await button.innerText()) === next && (await focused(button)), `the focus on a button ${next}`);
    await until("the result to be spoken", async () => (await page.locator("#spoken").textContent()) === (state === "up" ? "eu1 is active again" : "eu1 is draining"));
    if (state === "draining") {
      check((await text(page, "#verdict-word")) === "Everything works", "a node that drains to be no fault");
      check((await text(page, "#verdict-why")).includes("eu1 is draining"), "the verdict to name the node that drains");
      await isAccessible(page, "a node that drains");
      const other = await open("/");
      await until("the other pages to say so", async () => (await text(other, "#v4-sub")) === "1 of 2 draining");
      check(!(await other.locator("#trouble").isVisible()), "no banner for a node that drains");
      await close(other);
    }
  }
  page.off("request", count);
  step("drain");
}

// What the dialog says depends on the other nodes of the version.
async function drainEffects(page) {
  const effect = async (name, confirm) => {
    await drainButton(page, name).click();
    const said = await text(page, "#drain-effect");
    await page.click(confirm ? "#drain-confirm" : "#drain-cancel");
    await until("the dialog to close", async () => !(await page.locator("#drain").isVisible()));
    return said;
  };
  const expect = async (name, said, confirm) => {
    const found = await effect(name, confirm);
    check(found === said, `${JSON.stringify(said)}, not ${JSON.stringify(found)}`);
  };
  await expect("v3", "There is no other Lavalink v3 node, so sessions and requests still go to v3.");
  await expect("eu1", "No new sessions, and no requests without a session, go to eu1 any more. What is there stays.", true);
  await expect("eu2", "All other Lavalink v4 nodes drain too, so sessions and requests still go to eu2.");
  await expect("eu1", "New sessions, and requests without a session, go to eu1 again.", true);
  step("drain-effects");
}

async function failedDrain(page) {
  expected.failures = true;
  const path = "**/api/nodes/**";
  const message = "there is no node of this name; the nodes are eu2";
  const answers = [
    [(route) => route.fulfill({ status: 404, json: { status: 404, error: "Not Found", message, path: "" } }), message],
    [(route) => route.fulfill({ status: 502, body: "<html>Bad Gateway</html>" }), "answers with an error"],
    [(route) => route.abort(), "The proxy is gone"],
  ];
  await drainButton(page, "eu1").click();
  for (const [answer, words] of answers) {
    await page.route(path, answer);
    await page.click("#drain-confirm");
    await until(`the error ${words}`, async () => (await page.locator("#drain-error").textContent()).includes(words));
    check((await text(page, "#drain-error")).startsWith("Not drained. "), "the error to say what was not done");
    check((await page.locator("#drain").isVisible()) && (await page.locator("#drain-confirm").isEnabled()), "the dialog to stay open for another attempt");
    await isAccessible(page, "the error in the dialog");
    await page.unroute(path);
  }
  expected.failures = false;
  await page.click("#drain-confirm");
  await until("eu1 to drain at the next attempt", async () => (await pill(page, "eu1")) === "draining");
  await drainButton(page, "eu1").click();
  check(!(await page.locator("#drain-error").isVisible()), "no old error in a new dialog");
  await page.click("#drain-confirm");
  await until("eu1 to be up", async () => (await pill(page, "eu1")) === "up");
  step("failed-drain");
}

async function moveSessions(page) {
  const targets = [];
  const note = (request) => request.method() === "POST" && targets.push(request.url().replace(/^.*\/api/, ""));
  page.on("request", note);
  const act = async (button, effect) => {
    await button.click();
    const said = await text(page, "#drain-effect");
    check(said === effect, `${JSON.stringify(effect)}, not ${JSON.stringify(said)}`);
    await page.click("#drain-confirm");
    await until("the dialog to close", async () => !(await page.locator("#drain").isVisible()));
  };
  const sessions = async (name) => Number((await card(page, name).locator("dd").allInnerTexts())[5]);
  const says = (name, words) => until(`${name} to say ${words}`, async () => (await hint(page, name, words).isVisible()));
  const up = (name) => until(`${name} to be up`, async () => (await pill(page, name)) === "up");
  const moving = (name) => `${name} drains, and its sessions move to other nodes, a few a second. Their players play on.`;
  const activating = (name) => `New sessions, and requests without a session, go to ${name} again.`;

  check(!(await moveButton(page, "v3").isVisible()), "no button that moves sessions where there is no other node");
  const move = moveButton(page, "eu2");
  check((await move.innerText()) === "Drain and move sessions" && (await move.getAttribute("aria-label")) === "Drain and move sessions of eu2", "a button that moves the sessions of eu2");
  const count = await sessions("eu2");
  await act(move, moving("eu2"));
  await until("the result to be spoken", async () => (await page.locator("#spoken").textContent()) === "eu2 is draining, and its sessions move");
  await says("eu2", `Moves ended: moved ${count}, 0 left, 0 failed.`);
  check((await move.innerText()) === "Move sessions" && (await focused(move)), "the focus on a button that moves what is left");
  await act(drainButton(page, "eu2"), activating("eu2"));
  await up("eu2");
  check(!(await hint(page, "eu2", "Mov").isVisible()), "no word of moves that are over");

  await act(drainButton(page, "eu2"), "No new sessions, and no requests without a session, go to eu2 any more. What is there stays.");
  const left = await sessions("eu1");
  await act(moveButton(page, "eu1"), "No other Lavalink v4 node is in rotation: eu1 drains, and its sessions wait until one is.");
  const waiting = `No other node is in rotation, so the moves wait: moved 0, ${left} left, 0 failed.`;
  await until("eu1 to say what it waits for", async () => (await card(page, "eu1").locator(".error:visible").allInnerTexts()).includes(waiting));
  check((await moveButton(page, "eu1").innerText()) === "Stop moving", "a button that stops the moves");
  for (const viewport of [DESK, PHONE]) {
    await page.setViewportSize(viewport);
    await fits(page, `moves at ${viewport.width} px`);
    for (const colorScheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme });
      await isAccessible(page, `moves at ${viewport.width} px in ${colorScheme}`);
    }
  }
  await page.setViewportSize(DESK);
  await act(moveButton(page, "eu1"), "Sessions that have not moved yet stay on eu1, which goes on draining.");
  await until("the moves to end", async () => (await moveButton(page, "eu1").innerText()) === "Move sessions");
  check((await pill(page, "eu1")) === "draining" && (await sessions("eu1")) === left, `eu1 to drain with its ${left} sessions, not to be ${await pill(page, "eu1")} with ${await sessions("eu1")}`);
  await act(drainButton(page, "eu2"), activating("eu2"));
  await up("eu2");
  await act(moveButton(page, "eu1"), moving("eu1"));
  await says("eu1", `Moves ended: moved ${left}, 0 left, 0 failed.`);
  await act(drainButton(page, "eu1"), activating("eu1"));
  await up("eu1");
  const expectedTargets = ["eu2/drain?move=true", "eu2/activate", "eu2/drain", "eu1/drain?move=true", "eu1/drain", "eu2/activate", "eu1/drain?move=true", "eu1/activate"];
  check(String(targets) === String(expectedTargets.map((target) => `/nodes/${target}`)), `one request for each action, not ${targets}`);
  page.off("request", note);
  step("move-sessions");
}

// Twenty nodes in all states, with the longest names and addresses there can be.
function twenty(health) {
  const states = ["up", "up", "draining", "up", "down", "unknown", "up"];
  const [model] = health.nodes;
  health.nodes = Array.from({ length: 20 }, (_, index) => {
    const state = states[index % states.length];
    const known = state === "up" || state === "draining";
    const figure = (value) => (known ? value : null);
    return {
      ...model, state,
      name: index % 2 ? `eu${index}` : `frankfurt-am-${String(index).padStart(3, "0")}`,
      version: index < 5 ? "v3" : "v4",
      address: index % 4 ? `10.0.0.${index}:2333` : `[2001:db8:ffff:ffff:ffff:ffff:ffff:${1000 + index}]:65535`,
      draining: state === "draining" || index === 4,
      responseTime: figure(1.234 * index), players: figure(12345 * index), playingPlayers: figure(9876 * index), systemLoad: figure(0.05 * index),
      moving: index % 7 === 2, movesWaiting: index === 2, moved: 12_345 * index, movesFailed: index,
      takeovers: { underWay: 1000 * (index % 3), taken: 123_456 * index, failed: index % 2, players: 1_234_567 * index },
      sessions: 1000 * index, requests: index, loadsRetried: 123_456 * index,
      error: index === 3 ? "this is Lavalink 3.7.13; let LAVALINK_V4_NODES name a Lavalink v4" : state === "down" ? `v4@10.0.0.${index}:2333 refused the connection; start it` : null,
    };
  });
  health.status = "degraded";
}

async function twentyNodes() {
  for (const path of ["/health", "/"]) {
    const page = await open(path);
    if (path === "/health") await alter(page, twenty, "**/api/health");
    else await alter(page, ({ health }) => health && twenty(health));
    await tick(page);
    if (path === "/health") await until("twenty cards", async () => (await page.locator("#nodes .card").count()) === 20);
    for (const viewport of [DESK, ...WIDTHS]) {
      await page.setViewportSize(viewport);
      await fits(page, `${path} with twenty nodes at ${viewport.width} px`);
      const cut = await page.$$eval("#nodes .card, #nodes .card *", (all) => all.filter((each) => each.scrollWidth > each.clientWidth + 1 && getComputedStyle(each).display !== "inline").map((each) => each.textContent));
      check(!cut.length, `cards that hold what is in them at ${viewport.width} px, not ${cut[0]}`);
      for (const colorScheme of viewport === DESK || viewport === PHONE ? ["light", "dark"] : []) {
        await page.emulateMedia({ colorScheme });
        await isAccessible(page, `${path} with twenty nodes at ${viewport.width} px in ${colorScheme}`);
      }
    }
    if (path === "/health") {
      const pills = await texts(page, "#nodes .pill");
      for (const word of ["up", "draining", "down", "down, draining", "not known yet", "up, with a fault"]) check(pills.includes(word), `the word ${word} among ${pills}`);
      check((await text(page, "#verdict-word")) === "Degraded", "a verdict");
    }
    await close(page);
  }
  step("twenty-nodes");
}

async function nodesGoDown(page) {
  const other = await open("/");
  check(!(await other.locator("#trouble").isVisible()), "no banner while all nodes are up");
  const sinceOf = (name) => card(page, name).locator("dd").first().getAttribute("title");
  const upSince = await sinceOf("eu2");
  const goesDown = async (name) => {
    console.log(`END ${name}`);
    await until(`${name} to be down`, async () => (await pill(page, name)) === "down", 30_000);
    await tick(other);
  };
  await goesDown("eu2");
  await until("eu2 to say what has become of its sessions", async () => (await hint(page, "eu2", "Takeovers: \\d+ taken over with \\d+.players?\\.").isVisible()));
  await until("rows that were taken over", async () => (await cells(other, "node")).some(({ text, title }) => /^v4\s+eu1 \u21bb1$/.test(text) && /; taken over 1.time$/.test(title)));
  check((await other.locator("#table td.node span[title='taken over 1\u00a0time']").count()) > 0, "words for the mark of a takeover, without a pointer");
  await isAccessible(other, "rows that were taken over");
  check((await text(page, "#verdict-word")) === "Degraded" && (await text(page, "#verdict-why")) === "Lavalink v4: eu2 is down.", "a verdict that names the node");
  check((await card(page, "eu2").locator(".error").innerText()).includes("LAVALINK_V4_NODES"), "what to do about it");
  check((await sinceOf("eu2")) !== upSince, "since when it is down");
  await until("a banner on the other pages", async () => (await text(other, "#trouble")) === "Lavalink v4: eu2 is down. See Health");
  check((await text(other, "#health-mark")) === "degraded" && (await text(other, "#v4-sub")) === "1 of 2 down", "the marks on the other pages");
  check((await other.locator("#trouble.degraded").count()) === 1, "a banner of the lesser kind");
  await isAccessible(other, "the banner");
  await drainButton(page, "eu1").click();
  check((await text(page, "#drain-effect")) === "No other Lavalink v4 node is up: new sessions, and requests without a session, fail until one is. What is there stays.", "a warning");
  await page.click("#drain-cancel");

  await goesDown("eu1");
  await until("eu1 to say which sessions have no node", async () => (await hint(page, "eu1", "Takeovers: \\d+.sessions? waiting for a node").isVisible()));
  await until("rows without a node", async () => (await cells(other, "node")).some(({ text, title }) => /^v4\s+eu1 is lost$/.test(text) && title.endsWith("; it is lost, and a node that takes over is sought")));
  await isAccessible(other, "rows without a node");
  check((await text(page, "#verdict-why")) === "Lavalink v4 is down: eu1, eu2.", "a verdict about the version");
  await until("a banner about the version", async () => (await text(other, "#trouble")).startsWith("Lavalink v4 is down: eu1, eu2."));
  check((await other.locator("#trouble.down").count()) === 1, "a banner of the worse kind");
  await isAccessible(page, "nodes that are down");
  await isAccessible(other, "the banner about a version");
  await other.setViewportSize(PHONE);
  await fits(other, "the banner on a phone");
  await goesDown("v3");
  check((await text(page, "#verdict-word")) === "Down", "the verdict that all is down");
  await until("the mark that all is down", async () => (await text(other, "#health-mark")) === "down");
  await other.click("#trouble a");
  await other.locator("#verdict.down").waitFor();
  await close(other);
  step("nodes-down");
}
