// Tests the web pages in a real Chromium, against the lavaproxy at BASE_URL.
//
// SCENARIO names what is tested, and what must be there for it:
//   live     everything that the pages do; connections of both versions and both kinds, with traffic (the default)
//   nodes    several nodes; eu1 and eu2 of version v4 and one of v3, as in the demo, with traffic
//   security the page /security and the switch of /data-usage; refused requests of 203.0.113.9 behind a trusted front, and
//            a bot with the User-Id 80351110224678912 and the Client-Name tester; no STATE_DIR, no accounts
//   history  the charts and /status; STATUS_PAGE=on and a node of each version that is up
//   empty    the pages without rows; no bot has connected yet
//   hostile  names of clients stay text; one connection has each of NAMES, a JSON array, as its Client-Name
//   many     5,000 rows cost little more than 60; connections of the addresses 10.0.0.0, 10.0.0.1 and so on
// WEB_PASSWORD is the password of the listener `web`, if it has one.
//
// The script prints STEP <name> after each step. In `live` it also prints KILL: its parent process then stops
// lavaproxy. Then it prints START: its parent starts lavaproxy again at the same address. In `nodes` it prints
// END <name>: its parent then ends that node. In `many` it prints CONNECTIONS <count>: its parent then opens so many more,
// with traffic. The exit code is 0 if every check held, else 1 with an explanation on
// stderr. A console error, an answer with an error status and a request to another host are failures.

import { readFileSync } from "node:fs";

import { DESK, PHONE, STATS, WIDTHS, alter, check, close, exact, expected, fits, isAccessible, open, password, pause, repeated, rowHeights, rows, run, step, text, texts, tick, titles, until } from "./chromium.mjs";
import { history } from "./history.mjs";
import { many } from "./many.mjs";
import { nodes } from "./nodes.mjs";
import { security } from "./security.mjs";

const PAGES = ["/", "/data-usage", "/security", "/health"];

// ---- Live ----

async function live() {
  const page = await open("/");
  await numbersMove(page);
  await firstScreen(page);
  await uptimes(page);
  await botNames(page);
  await search(page);
  await filters(page);
  await sorting(page);
  await units(page);
  await selectionStays(page);
  await pausing(page);
  await copying(page);
  await close(page);
  await copyingWithoutClipboard();
  await hostileAnswers();
  await theme();
  await dataUsage();
  await health();
  await everyWidth();
  await accessibility();
  await goneAndBack();
}

async function numbersMove(page) {
  const total = () => page.locator("#bytes-out").getAttribute("title");
  check(!(await total()), "no exact total before the pointer is there");
  await page.locator("#bytes-out").hover();
  const each = async () => String(await exact(page, "bytesOut"));
  const [totalBefore, eachBefore] = [await total(), await each()];
  await until("the total to move", async () => (await total()) !== totalBefore);
  await until("the rows to move", async () => (await each()) !== eachBefore);
  await until("a sparkline of several samples", async () => ((await page.locator("td.minute .out").first().getAttribute("points")) ?? "").split(" ").length > 4);
  check((await text(page, "#address")).match(/:\d+$/), "the address for bots");

  const titled = page.locator("#table td.bytesOut[title$=' bytes']");
  check(!(await titled.count()), "no title before the pointer is there");
  await page.locator("#table td.bytesOut").first().hover();
  check((await titled.count()) === 1, "the exact value where the pointer is");
  await page.mouse.move(0, 0);
  check(!(await titled.count()), "no title once the pointer has left");
  step("numbers-move");
}

// At 1280 x 900 px the totals take one row, ten connections are in sight, and no bot's name or id is cut off.
async function firstScreen(page) {
  await alter(page, repeated(12));
  await until("twelve rows", async () => (await rows(page).count()) === 12);
  const tops = await page.$$eval(".tile", (tiles) => tiles.map((tile) => tile.getBoundingClientRect().top));
  check(new Set(tops).size === 1, "the totals in one row");
  const seen = await rows(page).evaluateAll((all) => all.filter((row) => row.getBoundingClientRect().bottom <= innerHeight).length);
  check(seen >= 10, `ten connections on the first screen, not ${seen}`);
  await page.unroute(STATS);
  step("first-screen");
}

async function uptimes(page) {
  const shown = [[0, "0s"], [59_999, "59s"], [60_000, "1m"], [3_599_999, "59m"], [3_600_000, "1h\u00a00m"], [90_000_000, "1d\u00a01h"]];
  await alter(page, (stats) => {
    repeated(shown.length)(stats);
    stats.connections.forEach((row, index) => (row.uptime = shown[index][0]));
  });
  await until("the two largest units, and seconds alone", async () => String(await texts(page, "td.uptime")) === String(shown.map(([, text]) => text)));
  await page.unroute(STATS);
  step("uptimes");
}

const BOT = { clientName: "lavalink-client/2.5.1 (https://github.com/Tomato6966/lavalink-client)", userId: "18446744073709551615", userAgent: "" };

async function botNames(page) {
  await alter(page, (stats) => stats.connections.forEach((row) => Object.assign(row, BOT)));
  await until("the product's name alone", async () => (await texts(page, "td.bot .name")).every((name) => name === "lavalink-client/2.5.1"));
  check((await texts(page, "td.bot .user")).every((user) => user === BOT.userId), "the user's id");
  const names = await titles(page, "bot");
  check(names.every((name) => name === `${BOT.clientName}\nuser ${BOT.userId}`), `the whole name in the title, not ${names[0]}`);
  for (const viewport of [DESK, PHONE]) {
    await page.setViewportSize(viewport);
    const cut = await page.$$eval("td.bot, td.bot bdi", (all) => all.filter((each) => each.scrollWidth > each.clientWidth).map((each) => each.textContent));
    check(!cut.length, `names and ids as a whole at ${viewport.width} px, not cut off as ${cut[0]}`);
  }
  await page.setViewportSize(DESK);
  await page.unroute(STATS);
  await tick(page);
  step("bot-names");
}

// Rows of one kind: HTTP connections come and go, WebSockets stay.
async function showKind(page, kind, word) {
  await page.check(`#kind input[value='${kind}']`, { force: true });
  if (kind) await until(`only ${word}`, async () => (await texts(page, "#table td.kind")).every((cell) => cell === word));
}

async function search(page) {
  await showKind(page, "websocket", "WebSocket");
  const client = await text(page, "#table td.client");
  const isFound = async () => (await rows(page).count()) === 1 && (await text(page, "#table td.client")) === client;
  await page.fill("#search", client);
  await until("the one row that was searched for", isFound);
  check((await text(page, "#count")).startsWith("1 of "), "a count of the rows found");
  await tick(page);
  check((await page.inputValue("#search")) === client && (await isFound()), "the search to outlive a tick");
  check(await page.locator("#search").evaluate((input) => input === document.activeElement), "the focus to outlive a tick");
  await until("the count to be spoken", async () => (await page.locator("#spoken").textContent()) === "1\u00a0connection shown");
  await page.fill("#search", "no such bot & = + % #");
  await page.locator("#empty").waitFor();
  check((await text(page, "#empty h2")) === "Nothing matches", "a message that nothing matches");
  await page.click("#empty button");
  await until("all rows after the search was cleared", async () => (await rows(page).count()) > 1);
  step("search");
}

async function filters(page) {
  for (const version of ["v3", "v4"]) {
    await page.check(`#version input[value=${version}]`, { force: true });
    await until(`only ${version}`, async () => {
      const shown = await texts(page, "#table td.node .badge");
      return shown.length && shown.every((badge) => badge === version);
    });
  }
  await page.check("#version input[value='']", { force: true });
  await showKind(page, "http", "HTTP");
  await showKind(page, "websocket", "WebSocket");
  check((await rows(page).count()) > 0, "a WebSocket");
  await showKind(page, "");
  step("filter");
}

async function sorting(page) {
  const sort = (name) => page.click(`th.${name} button`);
  const order = (name) => page.locator(`th.${name}`).getAttribute("aria-sort");
  const isSorted = (values, sign) => values.every((value, index) => index === 0 || sign * (value - values[index - 1]) >= 0);
  await sort("bytesIn");
  check((await order("bytesIn")) === "descending" && (await order("bytesOut")) === "none", "the marks of a descending column");
  await until("descending bytes", async () => isSorted(await exact(page, "bytesIn"), -1));
  await page.focus("th.bytesIn button");
  await page.keyboard.press("Enter");
  check((await order("bytesIn")) === "ascending", "the other order, by keyboard");
  await until("ascending bytes", async () => isSorted(await exact(page, "bytesIn"), 1));
  await tick(page);
  check(await page.locator("th.bytesIn button").evaluate((button) => button === document.activeElement), "the focus to outlive a tick");
  await page.reload();
  await page.locator("#state.live").waitFor();
  check((await order("bytesIn")) === "ascending", "the order to be remembered");
  step("sort");
}

async function units(page) {
  await page.check("#unit input[value=bits]", { force: true });
  const shown = [...(await texts(page, "td.rateOut")), await text(page, "#rate-out")];
  check(shown.every((rate) => rate.endsWith("bit/s")), `rates in bits, not ${shown}`);
  await page.check("#unit input[value=bytes]", { force: true });
  check((await text(page, "#rate-out")).endsWith("B/s"), "rates in bytes");
  step("unit");
}

// A selection stays, and its row keeps its position, while the numbers change.
async function selectionStays(page) {
  await showKind(page, "websocket", "WebSocket");
  await alter(page, (stats) => void stats.connections.sort(() => Math.random() - 0.5));
  await tick(page);
  const client = await text(page, "#table td.client");
  await page.evaluate(() => getSelection().selectAllChildren(document.querySelector("#table td.client")));
  for (let ticks = 0; ticks < 3; ticks++) await tick(page);
  check((await page.evaluate(() => String(getSelection()))) === client, "the selection to outlive ticks");
  check((await text(page, "#table td.client")) === client, "the selected row to keep its position");
  await page.evaluate(() => getSelection().removeAllRanges());
  await until("the rows to move again", async () => (await text(page, "#table td.client")) !== client);
  await page.unroute(STATS);
  await showKind(page, "");
  step("selection");
}

async function pausing(page) {
  let requests = 0;
  const count = (request) => (requests += request.url().includes("/api/"));
  const noRequests = async (when) => {
    await pause(300);
    requests = 0;
    await pause(2500);
    check(requests === 0, `no request ${when}, not ${requests}`);
  };
  page.on("request", count);
  await page.click("#pause");
  await page.locator("#state.paused").waitFor();
  await noRequests("while paused");
  await page.click("#pause");
  await page.locator("#state.live").waitFor();
  const hide = (hidden) => page.evaluate((value) => {
    Object.defineProperty(document, "hidden", { configurable: true, get: () => value });
    document.dispatchEvent(new Event("visibilitychange"));
  }, hidden);
  await hide(true);
  await noRequests("while hidden");
  await hide(false);
  await until("requests again", () => requests > 1);
  page.off("request", count);
  await page.selectOption("#refresh", "60");
  check((await page.evaluate(() => localStorage.getItem("lavaproxy.refresh"))) === "60", "the interval to be remembered");
  await page.selectOption("#refresh", "1");
  step("pause");
}

async function copying(page) {
  const copied = () => page.evaluate(() => navigator.clipboard.readText());
  await page.click("#copy-address");
  await until("the address to be copied", async () => (await copied()) === (await text(page, "#address")));
  await page.click("#connect-open");
  for (const library of await texts(page, "#library option")) {
    await page.selectOption("#library", library);
    const settings = await text(page, "#settings");
    check(/\d{2,5}/.test(settings) && settings.includes("THE_PROXY_PASSWORD"), `settings for ${library}, not ${settings}`);
    await page.click("#copy-settings");
    await until(`the settings for ${library} to be copied`, async () => (await copied()).replaceAll("\r", "") === settings);
  }
  await isAccessible(page, "the dialog");
  await page.keyboard.press("Escape");
  check(!(await page.locator("#connect").isVisible()), "Escape to close the dialog");
  step("copy");
}

// Over plain HTTP from another machine a page has no clipboard API.
async function copyingWithoutClipboard() {
  const page = await open("/", { prepare: () => Object.defineProperty(navigator, "clipboard", { value: undefined }) });
  await page.click("#copy-address");
  await page.focus("#search");
  await page.keyboard.press("Control+V");
  check((await page.inputValue("#search")) === (await text(page, "#address")), "the address in the clipboard");
  await close(page);
  step("copy-without-clipboard");
}

const HOSTILE = [
  "<img src=x onerror=\"window.harmed=1\">",
  "</td></table><script>window.harmed=1</script>",
  "\u202egnp.exe\u2066 \u0000\u001b[31m\nsecond line",
  "x".repeat(256),
  "=HYPERLINK(\"http://host.invalid\")",
];

async function hostileAnswers() {
  const change = (stats) => {
    stats.connections.forEach((row, index) => Object.assign(row, { clientName: HOSTILE[index % HOSTILE.length], userAgent: HOSTILE[0], userId: HOSTILE[1] }));
  };
  const page = await open("/", { change });
  await stayText(page, HOSTILE.slice(0, Math.min(HOSTILE.length, await rows(page).count())));
  const phone = await open("/", { change, viewport: { width: 360, height: 740 } });
  await fits(phone, "a page of hostile names");
  await close(phone);
  await close(page);
  step("hostile-names");
}

async function stayText(page, names) {
  await tick(page);
  const shown = await page.$$eval("#table td.bot .name", (cells) => cells.map((cell) => cell.textContent));
  const full = await titles(page, "bot");
  const plain = (name) => name.replace(/[^ -~]/g, "").slice(0, 40);
  const product = (name) => name.split(" (")[0];
  for (const name of names) {
    check(shown.some((cell) => plain(cell) === plain(product(name))), `${JSON.stringify(name)} as text among ${JSON.stringify(shown)}`);
    check(full.some((title) => plain(title).startsWith(plain(name))), `all of ${JSON.stringify(name)} among ${JSON.stringify(full)}`);
  }
  check(![...shown, ...full.map((title) => title.replaceAll("\n", ""))].some((cell) => /[\u0000-\u001f\u202a-\u202e\u2066-\u2069]/.test(cell)), "no control characters");
  check((await page.locator("main img, main script, main iframe").count()) === 0, "no elements from names");
  check((await page.evaluate(() => window.harmed)) === undefined, "no script from names");
  check((await rowHeights(page)).size === 1, "rows of one height");
  await fits(page, "a page of hostile names");
}

async function theme() {
  const page = await open("/", { colorScheme: "dark" });
  const ground = () => page.evaluate(() => Number(getComputedStyle(document.documentElement).backgroundColor.match(/\d+/)[0]));
  check((await ground()) < 64, "a dark page, as the system is");
  await page.click("#theme");
  check((await ground()) > 192, "a light page after the switch");
  await page.goto("/health");
  check((await ground()) > 192, "a light page, remembered");
  await page.click("#theme");
  check((await ground()) < 64, "a dark page again");
  await close(page);
  step("dark-mode");
}

async function dataUsage() {
  const page = await open("/data-usage");
  check((await rows(page).count()) > 0, "an address");
  const address = await text(page, "#table td.address");
  const widths = await page.$$eval("#table .fill", (bars) => bars.map((bar) => bar.style.width));
  check(widths.includes("100%"), `a full bar for the most, not ${widths}`);
  const arrival = page.waitForEvent("download");
  await page.click("#download");
  const lines = readFileSync(await (await arrival).path(), "utf8").trimEnd().split("\r\n");
  check(lines[0].startsWith('"address","bytesIn","bytesOut"'), `the names of the columns, not ${lines[0]}`);
  check(lines.length === Number((await text(page, "#count")).replace(/\D/g, "")) + 1 && lines.some((line) => line.startsWith(`"${address}","`)), "a line for each address");
  await alter(page, ({ usage }) => void (usage[0].address = '=1+"1'), "**/api/data-usage*");
  await until("the changed address", async () => (await texts(page, "td.address")).includes('=1+"1'));
  const second = page.waitForEvent("download");
  await page.click("#download");
  check(readFileSync(await (await second).path(), "utf8").includes(`"'=1+""1","`), "no formula in the file");
  await page.unrouteAll({ behavior: "ignoreErrors" });
  await page.focus("#search");
  await page.keyboard.insertText("x".repeat(300));
  await until("nothing to be found", async () => (await text(page, "#empty h2")) === "Nothing matches");
  check(await page.locator("#state.live").isVisible(), "a long search to be no fault");
  await close(page);
  step("data-usage");
}

async function health() {
  const page = await open("/health");
  const cards = await page.locator("#nodes .card").count();
  check(cards > 0, "a card for each node");
  check((await page.locator("#nodes .pill.up").count()) === cards, "all nodes to be reachable");
  check((await text(page, "#verdict-word")) === "Everything works", "a clear verdict");
  check((await page.locator("#settings tr").count()) > 5 && (await text(page, "#settings")).length, "the settings");
  check((await texts(page, "#listeners tr")).length > 0, "the listeners");
  const answer = page.waitForResponse("**/api/health/check");
  await page.click("#check");
  const checked = await answer;
  check(checked.request().method() === "POST" && checked.status() === 200, "a check on demand");
  await until("the button to come back", async () => (await text(page, "#check")) === "Check now");
  if (password) check(!(await page.content()).includes(password), "no password on the page");
  // The clock of the reader's machine is set back.
  await page.evaluate(() => {
    const { now } = Date;
    Date.now = () => now() - 3_600_000;
  });
  await page.waitForRequest("**/api/health");
  await close(page);
  step("check-now");
}

async function everyWidth() {
  for (const path of PAGES) {
    const page = await open(path);
    for (const viewport of WIDTHS) {
      await page.setViewportSize(viewport);
      await tick(page);
      await fits(page, `${path} at ${viewport.width} px`);
      if (viewport === PHONE) await isAccessible(page, `${path} on a phone`);
    }
    await close(page);
  }
  const page = await open("/", { viewport: PHONE });
  await page.selectOption("#sort-by", "rateOut");
  check((await text(page, "#sort-reverse")) === "\u2193", "a way to sort without column heads");
  await page.click("#connect-open");
  await fits(page, "the dialog on a phone");
  await close(page);
  step("phone");
}

async function accessibility() {
  for (const path of PAGES) {
    const page = await open(path);
    for (const colorScheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme });
      await isAccessible(page, `${path} in ${colorScheme}`);
    }
    await close(page);
  }
  step("axe");
}

async function goneAndBack() {
  const pages = [];
  for (const path of PAGES) pages.push(await open(path));
  expected.noServer = true;
  console.log("KILL");
  for (const page of pages) {
    await page.locator("#state.gone").waitFor();
    check((await text(page, "#banner")).startsWith("The proxy is gone"), "a banner that says so");
  }
  await isAccessible(pages[0], "the banner");
  console.log("START");
  for (const page of pages) {
    await page.locator("#state.live").waitFor();
    await page.locator("#banner").waitFor({ state: "hidden" });
  }
  expected.noServer = false;
  for (const page of pages) await tick(page);
  for (const page of pages) await close(page);

  const page = await open("/");
  await page.route(STATS, () => {});
  await page.locator("#state.late").waitFor();
  check((await text(page, "#banner")).startsWith("The proxy does not answer"), "a banner about a server that does not answer");
  await page.unrouteAll({ behavior: "ignoreErrors" });
  await page.locator("#state.live").waitFor({ timeout: 20_000 });
  await close(page);
  step("gone-and-back");
}

// ---- Empty ----

async function empty() {
  for (const colorScheme of ["light", "dark"]) {
    const page = await open("/", { colorScheme });
    check((await text(page, "#empty h2")) === "No bot has connected yet", "a message for a new operator");
    check((await text(page, "#empty code")).match(/:\d+$/), "the next step");
    await isAccessible(page, "the empty page");
    await page.click("#empty button");
    check(await page.locator("#connect").isVisible(), "the settings for bots");
    await page.goto("/data-usage");
    await page.locator("#empty h2").waitFor();
    await isAccessible(page, "the empty data usage");
    await close(page);
  }
  step("empty");
}

// ---- Hostile ----

async function hostile() {
  const page = await open("/");
  await stayText(page, JSON.parse(process.env.NAMES));
  await isAccessible(page, "hostile names");
  await close(page);
  step("hostile");
}

// ---- Start ----

const scenario = { live, nodes, security, history, empty, hostile, many }[process.env.SCENARIO ?? "live"];
await run(() => {
  check(scenario, "SCENARIO to be live, nodes, security, history, empty, hostile or many");
  return scenario();
});
