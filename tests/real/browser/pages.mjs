// The web pages in a real Chromium, against the lavaproxy at BASE_URL.
//
// SCENARIO says what is there and what is checked of it:
//   live     connections of both versions and both kinds, with traffic: everything that the pages do (the default)
//   empty    a proxy to which nothing has connected yet
//   hostile  connections whose Client-Name is each of NAMES, a JSON array: they have to stay text
//   many     at least one connection, which the answers are made to repeat: 5,000 rows against 10
// WEB_PASSWORD is the people's door's, if it has one.
//
// The driver says STEP <name> after each step. In `live` it also says KILL, and waits for the pages to notice that the
// server is gone; then START, and waits for them to recover: whoever started it stops the server and starts it again at
// the same address. It ends with 0 when all went well, and with 1 and a line on stderr if not. A console error, an
// answer with an error status or a request to another host is a failure.

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

// ---- What every page is watched for ----

const faults = [];
let serverIsGone = false;

function watch(context) {
  context.on("request", (request) => {
    const url = new URL(request.url());
    if (!["data:", "blob:"].includes(url.protocol) && url.host !== base.host) faults.push(`a request to ${url}`);
  });
  context.on("response", (response) => {
    if (response.status() >= 400) faults.push(`${response.status()} for ${response.url()}`);
  });
  context.on("console", (message) => {
    const expected = serverIsGone && message.text().startsWith("Failed to load resource");
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

// A page of its own browser profile, refreshed every second. `change` may alter the answers of /api/stats.
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
    // A page that is still blank has no storage.
    if (location.host) localStorage["lavaproxy.refresh"] ??= "1";
  });
  if (prepare) await context.addInitScript(prepare);
  const page = await context.newPage();
  if (change) await alter(page, change);
  await page.goto(path);
  await page.locator("#state.live").waitFor();
  return page;
}

async function alter(page, change) {
  await page.unroute("**/api/stats");
  await page.route("**/api/stats", async (route) => {
    const response = await route.fetch();
    const stats = await response.json();
    await route.fulfill({ response, json: change(stats) ?? stats });
  });
}

async function close(page) {
  await page.unrouteAll({ behavior: "ignoreErrors" });
  await page.context().close();
}

const text = (page, selector) => page.locator(selector).first().innerText();
const texts = (page, selector) => page.locator(selector).allInnerTexts();
const rows = (page) => page.locator("#table tbody tr:not(.spacer)");

// The time of the last answer is shown in seconds, and ticks are more than a second apart.
async function tick(page) {
  const shown = () => page.locator("#as-of").textContent();
  const before = await shown();
  await until("a tick", async () => (await shown()) !== before);
}

// The figures that a column shows, as numbers; their exact values are in the titles.
const exact = (page, column) =>
  page.$$eval(`#table td.${column}`, (cells) => cells.map((cell) => Number((cell.title || cell.querySelector("[title]").title).replace(/\D/g, ""))));

async function judge(page, what) {
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
  check((await text(page, "#address")).match(/:\d+$/), "the bots' address");
  step("numbers-move");
}

// On a screen of 1280 x 900 the totals take one row, and ten connections are in sight.
async function firstScreen(page) {
  await alter(page, repeated(12));
  await until("twelve rows", async () => (await rows(page).count()) === 12);
  const tops = await page.$$eval(".tile", (tiles) => tiles.map((tile) => tile.getBoundingClientRect().top));
  check(new Set(tops).size === 1, "the totals in one row");
  const seen = await rows(page).evaluateAll((all) => all.filter((row) => row.getBoundingClientRect().bottom <= innerHeight).length);
  check(seen >= 10, `ten connections on the first screen, not ${seen}`);
  await page.unroute("**/api/stats");
  await tick(page);
  step("first-screen");
}

// The connections of the first answer for ever, with figures that change: nothing is searched or selected that may end.
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
  check((await text(page, "#count")).startsWith("1 of "), "a count of what was found");
  await tick(page);
  check((await page.inputValue("#search")) === client && (await rows(page).count()) === 1, "the search to outlive a tick");
  check(await page.locator("#search").evaluate((input) => input === document.activeElement), "the focus to outlive a tick");
  await page.fill("#search", "no such bot");
  check(await page.locator("#empty").isVisible(), "a word about nothing found");
  await page.click("#empty button");
  check((await rows(page).count()) > 1, "all rows after the search was cleared");
  await page.unroute("**/api/stats");
  step("search");
}

async function filters(page) {
  for (const version of ["v3", "v4"]) {
    await page.check(`#version input[value=${version}]`, { force: true });
    const shown = await texts(page, "#table td.backend .badge");
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

// What the reader selected is still there, and in its place, after the numbers around it moved.
async function selectionStays(page) {
  await alter(page, lasting());
  await tick(page);
  const client = await text(page, "#table td.client");
  await page.evaluate(() => getSelection().selectAllChildren(document.querySelector("#table td.client")));
  for (let turn = 0; turn < 3; turn++) await tick(page);
  check((await page.evaluate(() => String(getSelection()))) === client, "the selection to outlive ticks");
  check((await text(page, "#table td.client")) === client, "the selected row to stay in its place");
  await page.evaluate(() => getSelection().removeAllRanges());
  await page.unroute("**/api/stats");
  step("selection");
}

async function pausing(page) {
  let asked = 0;
  const count = (request) => (asked += request.url().includes("/api/"));
  const stillFor = async (why) => {
    await pause(300);
    asked = 0;
    await pause(2500);
    check(asked === 0, `no request ${why}, not ${asked}`);
  };
  page.on("request", count);
  await page.click("#pause");
  await page.locator("#state.paused").waitFor();
  await stillFor("while paused");
  await page.click("#pause");
  await page.locator("#state.live").waitFor();
  const hide = (hidden) => page.evaluate((value) => {
    Object.defineProperty(document, "hidden", { configurable: true, get: () => value });
    document.dispatchEvent(new Event("visibilitychange"));
  }, hidden);
  await hide(true);
  await stillFor("while hidden");
  await hide(false);
  await until("requests again", () => asked > 1);
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
  await judge(page, "the dialog");
  await page.keyboard.press("Escape");
  check(!(await page.locator("#connect").isVisible()), "Escape to close the dialog");
  step("copy");
}

// As over plain HTTP from another machine, where a page has no clipboard.
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
  const plain = (name) => name.replace(/[^ -~]/g, "").slice(0, 40);
  for (const name of names) check(shown.some((cell) => plain(cell) === plain(name)), `${JSON.stringify(name)} as text among ${JSON.stringify(shown)}`);
  check(!shown.some((cell) => /[\u0000-\u001f\u202a-\u202e\u2066-\u2069]/.test(cell)), "no control characters");
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
  const cards = await page.locator("#backends .card").count();
  check(cards > 0, "a card for each node");
  check((await page.locator("#backends .pill.up").count()) === cards, "all nodes to be reachable");
  check((await text(page, "#verdict-word")) === "Everything works", "a clear verdict");
  check((await page.locator("#settings tr").count()) > 5 && (await text(page, "#settings")).length, "the settings");
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
      if (viewport === PHONE) await judge(page, `${path} on a phone`);
    }
    await close(page);
  }
  const page = await open("/", { viewport: PHONE });
  await page.selectOption("#sort-by", "rateOut");
  check((await text(page, "#sort-turn")) === "\u2193", "a way to sort without heads of columns");
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
      await judge(page, `${path} in ${colorScheme}`);
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
  await judge(pages[0], "the banner");
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
  check((await text(page, "#banner")).startsWith("The proxy does not answer"), "a banner about a silent server");
  await page.unrouteAll({ behavior: "ignoreErrors" });
  await page.locator("#state.live").waitFor({ timeout: 20_000 });
  await close(page);
  step("gone-and-back");
}

// ---- Empty ----

async function empty() {
  for (const colorScheme of ["light", "dark"]) {
    const page = await open("/", { colorScheme });
    check((await text(page, "#empty h2")) === "No bot has connected yet", "a friendly word");
    check((await text(page, "#empty code")).match(/:\d+$/), "the next step");
    await judge(page, "the empty page");
    await page.click("#empty button");
    check(await page.locator("#connect").isVisible(), "the settings for bots");
    await page.goto("/data-usage");
    await page.locator("#empty h2").waitFor();
    await judge(page, "the empty data usage");
    await close(page);
  }
  step("empty");
}

// ---- Hostile ----

async function hostile() {
  const page = await open("/");
  await stayText(page, JSON.parse(process.env.NAMES));
  await judge(page, "hostile names");
  await close(page);
  step("hostile");
}

// ---- Many ----

// Makes an answer that repeats what is there until it has so many rows, each with an id and an address of its own.
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
  check((await page.locator("#table").getAttribute("aria-rowcount")) === "5001", "a screen reader to be told of all");

  await page.evaluate(() => scrollTo(0, document.body.scrollHeight));
  await until("the last row", async () => (await rows(page).last().getAttribute("aria-rowindex")) === "5001");
  const position = await page.evaluate(() => scrollY);
  await tick(page);
  check((await page.evaluate(() => scrollY)) === position, "the position to outlive a tick");
  await page.evaluate(() => scrollTo(0, 0));
  await page.fill("#search", "10.0.7.77:");
  check((await rows(page).count()) === 1, "one row of 5,000");
  await page.fill("#search", "");
  await judge(page, "5,000 rows");
  await page.setViewportSize(PHONE);
  await fits(page, "5,000 rows on a phone");
  await page.evaluate(() => scrollTo(0, 200_000));
  await until("rows in sight", () => rows(page).evaluateAll((all) => all.some((row) => row.getBoundingClientRect().top > 0 && row.getBoundingClientRect().top < innerHeight)));
  await close(page);
  step("many");
}

// What a tick, a filter and a scroll take of the page's only thread, in ms.
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
    for (let turn = 1; turn <= 10; turn++) {
      const start = performance.now();
      scrollTo(0, turn * 3000);
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

setTimeout(() => fail("not done in time"), 300_000);

const scenario = { live, empty, hostile, many }[process.env.SCENARIO ?? "live"];
try {
  check(scenario, "SCENARIO to be live, empty, hostile or many");
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
