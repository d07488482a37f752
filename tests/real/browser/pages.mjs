// Tests the web pages in a real Chromium, against the lavaproxy at BASE_URL.
//
// SCENARIO names what is tested, and what must be there for it:
//   live     everything that the pages do; connections of both versions and both kinds, with traffic (the default)
//   nodes    several nodes; eu1 and eu2 of version v4 and one of v3, as in the demo, with traffic
//   empty    the pages without rows; no bot has connected yet
//   hostile  names of clients stay text; one connection has each of NAMES, a JSON array, as its Client-Name
//   many     5,000 rows cost little more than 10; one connection or more, which this script repeats in the answers
// WEB_PASSWORD is the password of the listener `web`, if it has one.
//
// The script prints STEP <name> after each step. In `live` it also prints KILL: its parent process then stops
// lavaproxy. Then it prints START: its parent starts lavaproxy again at the same address. In `nodes` it prints
// END <name>: its parent then ends that node. The exit code is 0 if every check held, else 1 with an explanation on
// stderr. A console error, an answer with an error status and a request to another host are failures.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const load = createRequire(new URL("../../../target/real/browser/", import.meta.url));
const { chromium } = load("playwright-core");
const axe = readFileSync(load.resolve("axe-core/axe.min.js"), "utf8");

const base = new URL(process.env.BASE_URL);
const password = process.env.WEB_PASSWORD;
const DESK = { width: 1280, height: 900 };
const PHONE = { width: 390, height: 844 };
const PAGES = ["/", "/data-usage", "/health"];

// ---- Faults on any page ----

const faults = [];
let serverIsGone = false;
let failureIsExpected = false;

function watch(context) {
  context.on("request", (request) => {
    const url = new URL(request.url());
    if (!["data:", "blob:"].includes(url.protocol) && url.host !== base.host) faults.push(`a request to ${url}`);
  });
  context.on("response", (response) => {
    if (response.status() >= 400 && !failureIsExpected) faults.push(`${response.status()} for ${response.url()}`);
  });
  context.on("console", (message) => {
    const expected = (serverIsGone || failureIsExpected) && message.text().startsWith("Failed to load resource");
    if (message.type() === "error" && !expected) faults.push(`console: ${message.text()}`);
  });
  context.on("weberror", (error) => faults.push(`uncaught: ${error.error().stack}`));
}

let last = "the start";

function step(name) {
  check(!faults.length, `no faults, not\n${faults.join("\n")}`);
  last = name;
  console.log(`STEP ${name}`);
}

function check(holds, what) {
  if (!holds) throw new Error(`expected ${what}`);
}

async function until(what, holds, limit = 15_000) {
  const end = Date.now() + limit;
  while (!(await holds())) {
    if (Date.now() > end) throw new Error(`expected ${what} within ${limit / 1000} s`);
    await pause(50);
  }
}

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

// ---- The browser ----

let browser;

// Opens a page in a browser profile of its own, refreshed every second. `change` may alter the answers of /api/stats.
async function open(path, { change, prepare, ...options } = {}) {
  const context = await browser.newContext({
    baseURL: base.href,
    viewport: DESK,
    locale: "en-GB",
    ...(password && { httpCredentials: { username: "operator", password } }),
    ...options,
  });
  await context.grantPermissions(["clipboard-read", "clipboard-write"], { origin: base.origin });
  watch(context);
  await context.addInitScript(() => {
    // A blank page has no storage.
    if (location.host) localStorage["lavaproxy.refresh"] ??= "1";
  });
  if (prepare) await context.addInitScript(prepare);
  const page = await context.newPage();
  if (change) await alter(page, change);
  await page.goto(path);
  await page.locator("#state.live").waitFor();
  return page;
}

async function alter(page, change, path = "**/api/stats") {
  await page.unroute(path);
  await page.route(path, async (route) => {
    const response = await route.fetch();
    const answer = await response.json();
    await route.fulfill({ response, json: change(answer) ?? answer });
  });
}

async function close(page) {
  await page.unrouteAll({ behavior: "ignoreErrors" });
  await page.context().close();
}

const text = (page, selector) => page.locator(selector).first().innerText();
const texts = (page, selector) => page.locator(selector).allInnerTexts();
const rows = (page) => page.locator("#table tbody tr:not(.spacer)");

// The page shows the time of its last answer in seconds, and ticks are more than a second apart.
async function tick(page) {
  const shown = () => page.locator("#as-of").textContent();
  const before = await shown();
  await until("a tick", async () => (await shown()) !== before);
}

// The exact values of a column, which are in the titles.
const exact = (page, column) =>
  page.$$eval(`#table td.${column}`, (cells) => cells.map((cell) => Number((cell.title || cell.querySelector("[title]").title).replace(/\D/g, ""))));

async function isAccessible(page, what) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() =>
    axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"], resultTypes: ["violations"] }));
  const found = violations.map(({ id, help, nodes }) => `${id}: ${help}\n${nodes.slice(0, 3).map((node) => `  ${node.html} ${node.failureSummary}`).join("\n")}`);
  check(!found.length, `no violation of WCAG A or AA on ${what}, not\n${found.join("\n")}`);
}

async function fits(page, what) {
  const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  check(over <= 0, `${what} to fit its width, it is ${over} px too wide`);
}

// ---- Live ----

async function live() {
  const page = await open("/");
  await numbersMove(page);
  await firstScreen(page);
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
  const each = async () => String(await exact(page, "bytesOut"));
  const [totalBefore, eachBefore] = [await total(), await each()];
  await until("the total to move", async () => (await total()) !== totalBefore);
  await until("the rows to move", async () => (await each()) !== eachBefore);
  await until("a sparkline of several samples", async () => ((await page.locator("td.minute path.out").first().getAttribute("d")) ?? "").split("L").length > 2);
  check((await text(page, "#address")).match(/:\d+$/), "the address for bots");
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
  await page.unroute("**/api/stats");
  step("first-screen");
}

const BOT = { clientName: "lavalink-client/2.5.1 (https://github.com/Tomato6966/lavalink-client)", userId: "18446744073709551615", userAgent: "" };

async function botNames(page) {
  await alter(page, (stats) => stats.connections.forEach((row) => Object.assign(row, BOT)));
  await until("the product's name alone", async () => (await texts(page, "td.bot .name")).every((name) => name === "lavalink-client/2.5.1"));
  check((await texts(page, "td.bot .user")).every((user) => user === BOT.userId), "the user's id");
  const titles = await page.$$eval("td.bot", (cells) => cells.map((cell) => cell.title));
  check(titles.every((title) => title === `${BOT.clientName}\nuser ${BOT.userId}`), `the whole name in the title, not ${titles[0]}`);
  for (const viewport of [DESK, PHONE]) {
    await page.setViewportSize(viewport);
    const cut = await page.$$eval("td.bot, td.bot bdi", (all) => all.filter((each) => each.scrollWidth > each.clientWidth).map((each) => each.textContent));
    check(!cut.length, `names and ids as a whole at ${viewport.width} px, not cut off as ${cut[0]}`);
  }
  await page.setViewportSize(DESK);
  await page.unroute("**/api/stats");
  await tick(page);
  step("bot-names");
}

// Keeps the connections of the first answer and changes their figures, so that no row in use goes away.
function lasting() {
  let kept;
  return (stats) => {
    kept ??= stats.connections;
    stats.connections = kept = kept.map((row) => ({ ...row, bytesIn: row.bytesIn + Math.floor(Math.random() * 1e6), requests: row.requests + 1 }));
  };
}

async function search(page) {
  await alter(page, lasting());
  await tick(page);
  const client = await text(page, "#table td.client");
  await page.fill("#search", client);
  check((await rows(page).count()) === 1 && (await text(page, "#table td.client")) === client, "the one row that was searched for");
  check((await text(page, "#count")).startsWith("1 of "), "a count of the rows found");
  await tick(page);
  check((await page.inputValue("#search")) === client && (await rows(page).count()) === 1, "the search to outlive a tick");
  check(await page.locator("#search").evaluate((input) => input === document.activeElement), "the focus to outlive a tick");
  await page.fill("#search", "no such bot");
  check(await page.locator("#empty").isVisible(), "a message that nothing matches");
  await page.click("#empty button");
  check((await rows(page).count()) > 1, "all rows after the search was cleared");
  await page.unroute("**/api/stats");
  step("search");
}

async function filters(page) {
  for (const version of ["v3", "v4"]) {
    await page.check(`#version input[value=${version}]`, { force: true });
    const shown = await texts(page, "#table td.node .badge");
    check(shown.length && shown.every((badge) => badge === version), `only ${version}, not ${shown}`);
  }
  await page.check("#version input[value='']", { force: true });
  for (const [kind, word] of [["http", "HTTP"], ["websocket", "WebSocket"]]) {
    await page.check(`#kind input[value=${kind}]`, { force: true });
    const shown = await texts(page, "#table td.kind");
    check(shown.every((cell) => cell === word), `only ${word}, not ${shown}`);
  }
  check((await rows(page).count()) > 0, "a WebSocket");
  await page.check("#kind input[value='']", { force: true });
  step("filter");
}

async function sorting(page) {
  const sort = (name) => page.click(`th.${name} button`);
  const order = (name) => page.locator(`th.${name}`).getAttribute("aria-sort");
  const isSorted = (values, sign) => values.every((value, index) => index === 0 || sign * (value - values[index - 1]) >= 0);
  await sort("bytesIn");
  check((await order("bytesIn")) === "descending" && (await order("bytesOut")) === "none", "the marks of a descending column");
  check(isSorted(await exact(page, "bytesIn"), -1), "descending bytes");
  await page.focus("th.bytesIn button");
  await page.keyboard.press("Enter");
  check((await order("bytesIn")) === "ascending" && isSorted(await exact(page, "bytesIn"), 1), "ascending bytes, by keyboard");
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
  await alter(page, lasting());
  await tick(page);
  const client = await text(page, "#table td.client");
  await page.evaluate(() => getSelection().selectAllChildren(document.querySelector("#table td.client")));
  for (let ticks = 0; ticks < 3; ticks++) await tick(page);
  check((await page.evaluate(() => String(getSelection()))) === client, "the selection to outlive ticks");
  check((await text(page, "#table td.client")) === client, "the selected row to keep its position");
  await page.evaluate(() => getSelection().removeAllRanges());
  await page.unroute("**/api/stats");
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
  const titles = await page.$$eval("#table td.bot", (cells) => cells.map((cell) => cell.title));
  const plain = (name) => name.replace(/[^ -~]/g, "").slice(0, 40);
  const product = (name) => name.split(" (")[0];
  for (const name of names) {
    check(shown.some((cell) => plain(cell) === plain(product(name))), `${JSON.stringify(name)} as text among ${JSON.stringify(shown)}`);
    check(titles.some((title) => plain(title).startsWith(plain(name))), `all of ${JSON.stringify(name)} among ${JSON.stringify(titles)}`);
  }
  check(![...shown, ...titles.map((title) => title.replaceAll("\n", ""))].some((cell) => /[\u0000-\u001f\u202a-\u202e\u2066-\u2069]/.test(cell)), "no control characters");
  check((await page.locator("main img, main script, main iframe").count()) === 0, "no elements from names");
  check((await page.evaluate(() => window.harmed)) === undefined, "no script from names");
  const heights = new Set(await rows(page).evaluateAll((all) => all.map((row) => Math.round(row.getBoundingClientRect().height))));
  check(heights.size === 1, "rows of one height");
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
  await alter(page, (stats) => void (stats.usage[0].address = '=1+"1'));
  await until("the changed address", async () => (await texts(page, "td.address")).includes('=1+"1'));
  const second = page.waitForEvent("download");
  await page.click("#download");
  check(readFileSync(await (await second).path(), "utf8").includes(`"'=1+""1","`), "no formula in the file");
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
  await close(page);
  step("check-now");
}

const WIDTHS = [PHONE, { width: 360, height: 740 }, { width: 768, height: 1024 }, { width: 900, height: 700 }];

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
  serverIsGone = true;
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
  serverIsGone = false;
  for (const page of pages) await tick(page);
  for (const page of pages) await close(page);

  const page = await open("/");
  await page.route("**/api/stats", () => {});
  await page.locator("#state.late").waitFor();
  check((await text(page, "#banner")).startsWith("The proxy does not answer"), "a banner about a server that does not answer");
  await page.unrouteAll({ behavior: "ignoreErrors" });
  await page.locator("#state.live").waitFor({ timeout: 20_000 });
  await close(page);
  step("gone-and-back");
}

// ---- Nodes ----

async function severalNodes() {
  await nodeColumn();
  const page = await open("/health");
  await nodeCards(page);
  await drainByKeyboard(page);
  await drainEffects(page);
  await failedDrain(page);
  await twentyNodes();
  await nodesGoDown(page);
  await close(page);
}

const card = (page, name) => page.locator("#nodes .card").filter({ has: page.locator("h3", { hasText: new RegExp(`\\b${name}\\b`) }) });
const pill = (page, name) => card(page, name).locator(".pill").innerText();
const focused = (locator) => locator.evaluate((element) => element === document.activeElement);

async function nodeColumn() {
  const page = await open("/");
  const names = () => texts(page, "#table td.node .name");
  await until("rows of both v4 nodes", async () => ["eu1", "eu2"].every((name) => names().then((all) => all.includes(name))));
  await alter(page, lasting());
  await tick(page);
  const shown = await page.$$eval("#table td.node", (cells) => cells.map((cell) => [cell.innerText, cell.title]));
  for (const [name, title] of shown) {
    const matches = name.startsWith("v4") ? name.match(/^v4\s+(eu[12])$/) : name.match(/^v3\s+127\.0\.0\.1:\d+$/);
    check(matches && title.match(new RegExp(`^${matches[1] ?? "v3"} at 127\\.0\\.0\\.1:\\d+$`)), `a node and its address, not ${name} with the title ${title}`);
  }
  await page.fill("#search", "eu2");
  check((await names()).length && (await names()).every((name) => name === "eu2"), "the rows of the node that was searched for");
  await page.fill("#search", "");
  await page.click("th.node button");
  const sorted = (await texts(page, "#table td.node")).map((cell) => cell.replace(/\s+/g, " "));
  check(String(sorted) === String([...sorted].sort()), `rows in the order of their nodes, not ${sorted}`);
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
  const button = card(page, "eu1").locator("button");
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
      check((await text(other, "#v4-sub")) === "1 of 2 draining", "the other pages to say so");
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
    await card(page, name).locator("button").click();
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
  failureIsExpected = true;
  const path = "**/api/nodes/**";
  const message = "there is no node of this name; the nodes are eu2";
  const answers = [
    [(route) => route.fulfill({ status: 404, json: { status: 404, error: "Not Found", message, path: "" } }), message],
    [(route) => route.fulfill({ status: 502, body: "<html>Bad Gateway</html>" }), "answers with an error"],
    [(route) => route.abort(), "The proxy is gone"],
  ];
  await card(page, "eu1").locator("button").click();
  for (const [answer, expected] of answers) {
    await page.route(path, answer);
    await page.click("#drain-confirm");
    await until(`the error ${expected}`, async () => (await page.locator("#drain-error").textContent()).includes(expected));
    check((await text(page, "#drain-error")).startsWith("Not drained. "), "the error to say what was not done");
    check((await page.locator("#drain").isVisible()) && (await page.locator("#drain-confirm").isEnabled()), "the dialog to stay open for another attempt");
    await isAccessible(page, "the error in the dialog");
    await page.unroute(path);
  }
  failureIsExpected = false;
  await page.click("#drain-confirm");
  await until("eu1 to drain at the next attempt", async () => (await pill(page, "eu1")) === "draining");
  await card(page, "eu1").locator("button").click();
  check(!(await page.locator("#drain-error").isVisible()), "no old error in a new dialog");
  await page.click("#drain-confirm");
  await until("eu1 to be up", async () => (await pill(page, "eu1")) === "up");
  step("failed-drain");
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
      sessions: 1000 * index, requests: index, loadsRetried: 123_456 * index,
      error: index === 3 ? "this is Lavalink 3.7.13; let LAVALINK_V4_NODES name a Lavalink v4" : state === "down" ? `v4@10.0.0.${index}:2333 refused the connection; start it` : null,
    };
  });
  health.status = "degraded";
}

async function twentyNodes() {
  for (const path of ["/health", "/"]) {
    const page = await open(path);
    await alter(page, twenty, "**/api/health");
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
  check((await text(page, "#verdict-word")) === "Degraded" && (await text(page, "#verdict-why")) === "Lavalink v4: eu2 is down.", "a verdict that names the node");
  check((await card(page, "eu2").locator(".error").innerText()).includes("LAVALINK_V4_NODES"), "what to do about it");
  check((await sinceOf("eu2")) !== upSince, "since when it is down");
  check((await text(other, "#trouble")) === "Lavalink v4: eu2 is down. See Health", "a banner on the other pages");
  check((await text(other, "#health-mark")) === "degraded" && (await text(other, "#v4-sub")) === "1 of 2 down", "the marks on the other pages");
  check((await other.locator("#trouble.degraded").count()) === 1, "a banner of the lesser kind");
  await isAccessible(other, "the banner");
  await card(page, "eu1").locator("button").click();
  check((await text(page, "#drain-effect")) === "No other Lavalink v4 node is up: new sessions, and requests without a session, fail until one is. What is there stays.", "a warning");
  await page.click("#drain-cancel");

  await goesDown("eu1");
  check((await text(page, "#verdict-why")) === "Lavalink v4 is down: eu1, eu2.", "a verdict about the version");
  check((await text(other, "#trouble")).startsWith("Lavalink v4 is down: eu1, eu2.") && (await other.locator("#trouble.down").count()) === 1, "a banner about the version");
  await isAccessible(page, "nodes that are down");
  await isAccessible(other, "the banner about a version");
  await other.setViewportSize(PHONE);
  await fits(other, "the banner on a phone");
  await goesDown("v3");
  check((await text(page, "#verdict-word")) === "Down" && (await text(other, "#health-mark")) === "down", "the verdict that all is down");
  await other.click("#trouble a");
  await other.locator("#verdict.down").waitFor();
  await close(other);
  step("nodes-down");
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

// ---- Many ----

// Repeats the rows of an answer until there are `count`, each with an id and an address of its own.
const repeated = (count) => (stats) => {
  const { connections, usage } = stats;
  const copies = (rows, change) => Array.from({ length: count }, (_, index) => ({ ...rows[index % rows.length], ...change(index) }));
  const address = (index) => `10.${index >> 16}.${(index >> 8) & 255}.${index & 255}`;
  stats.connections = copies(connections, (index) => ({ id: index + 1, client: `${address(index)}:40000`, address: address(index), bytesOut: connections[0].bytesOut + index * 1000 }));
  stats.usage = copies(usage, (index) => ({ address: address(index) }));
};

async function many() {
  const page = await open("/", { change: repeated(10) });
  const few = await cost(page, 10);
  await alter(page, repeated(5000));
  const lots = await cost(page, 5000);
  for (const [what, base] of Object.entries(few)) {
    const ratio = lots[what] / Math.max(base, 2);
    console.log(`${what}: ${base.toFixed(1)} ms with 10 rows, ${lots[what].toFixed(1)} ms with 5,000`);
    check(ratio < 100, `${what} with 500 times the rows to cost far less than 500 times, not ${ratio.toFixed(0)} times`);
  }
  check((await page.locator("#table tr").count()) < 120, "only the rows in sight to exist");
  check((await page.locator("#table").getAttribute("aria-rowcount")) === "5001", "the number of all rows for screen readers");

  await page.evaluate(() => scrollTo(0, document.body.scrollHeight));
  await until("the last row", async () => (await rows(page).last().getAttribute("aria-rowindex")) === "5001");
  const position = await page.evaluate(() => scrollY);
  await tick(page);
  check((await page.evaluate(() => scrollY)) === position, "the position to outlive a tick");
  await page.evaluate(() => scrollTo(0, 0));
  await page.fill("#search", "10.0.7.77:");
  check((await rows(page).count()) === 1, "one row of 5,000");
  await page.fill("#search", "");
  await isAccessible(page, "5,000 rows");
  await page.setViewportSize(PHONE);
  await fits(page, "5,000 rows on a phone");
  await page.evaluate(() => scrollTo(0, 200_000));
  await until("rows in sight", () => rows(page).evaluateAll((all) => all.some((row) => row.getBoundingClientRect().top > 0 && row.getBoundingClientRect().top < innerHeight)));
  await close(page);
  step("many");
}

// How long a tick, a filter and a scroll keep the page's thread busy, in ms.
async function cost(page, count) {
  await until(`${count} rows`, async () => (await text(page, "#count")).replace(/\D/g, "") === String(count));
  const session = await page.context().newCDPSession(page);
  await session.send("Performance.enable");
  const busy = async () => (await session.send("Performance.getMetrics")).metrics.find(({ name }) => name === "TaskDuration").value * 1000;
  let ticks = 0;
  page.on("response", (response) => (ticks += response.url().endsWith("/api/stats")));
  const before = await busy();
  await until("five ticks", () => ticks >= 5, 60_000);
  const spent = (await busy()) - before;
  await session.detach();
  const measured = await page.evaluate(async () => {
    const median = (values) => values.sort((a, b) => a - b)[values.length >> 1];
    const filter = [];
    for (const words of ["4", "40", "1 0", "zz", ""]) {
      const start = performance.now();
      document.getElementById("search").value = words;
      document.getElementById("search").dispatchEvent(new Event("input"));
      document.body.getBoundingClientRect();
      filter.push(performance.now() - start);
    }
    const scroll = [];
    for (let step = 1; step <= 10; step++) {
      const start = performance.now();
      scrollTo(0, step * 3000);
      await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
      scroll.push(performance.now() - start);
    }
    scrollTo(0, 0);
    return { filter: median(filter), scroll: median(scroll) };
  });
  return { tick: spent / ticks, ...measured };
}

// ---- Start ----

const fail = (error) => {
  console.error(`FAILED after ${last}: ${error?.stack ?? error}\n${faults.join("\n")}`);
  process.exit(1);
};

setTimeout(() => fail("the scenario took more than 300 s"), 300_000);

const scenario = { live, nodes: severalNodes, empty, hostile, many }[process.env.SCENARIO ?? "live"];
try {
  check(scenario, "SCENARIO to be live, nodes, empty, hostile or many");
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    // Chromium refuses its sandbox to root.
    chromiumSandbox: process.getuid() !== 0,
    args: ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  });
  await scenario();
  await browser.close();
  check(!faults.length, `no faults, not\n${faults.join("\n")}`);
  process.exit(0);
} catch (error) {
  await browser?.close();
  fail(error);
}
