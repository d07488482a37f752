// What the scenarios share: a Chromium whose faults are failures, pages of lavaproxy in it, and what is asked of them.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const load = createRequire(new URL("../../../target/real/browser/", import.meta.url));
const { chromium } = load("playwright-core");
const axe = readFileSync(load.resolve("axe-core/axe.min.js"), "utf8");

const base = new URL(process.env.BASE_URL);
export const password = process.env.WEB_PASSWORD;
export const DESK = { width: 1280, height: 900 };
export const PHONE = { width: 390, height: 844 };
export const WIDTHS = [PHONE, { width: 360, height: 740 }, { width: 768, height: 1024 }, { width: 900, height: 700 }];

// ---- Faults on any page ----

const faults = [];

// What a scenario may expect for a while: no server at all, or answers with an error status.
export const expected = { noServer: false, failures: false };

function watch(context) {
  context.on("request", (request) => {
    const url = new URL(request.url());
    if (!["data:", "blob:"].includes(url.protocol) && url.host !== base.host) faults.push(`a request to ${url}`);
  });
  context.on("response", (response) => {
    if (response.status() >= 400 && !expected.failures) faults.push(`${response.status()} for ${response.url()}`);
  });
  context.on("console", (message) => {
    const isExpected = (expected.noServer || expected.failures) && message.text().startsWith("Failed to load resource");
    if (message.type() === "error" && !isExpected) faults.push(`console: ${message.text()}`);
  });
  context.on("weberror", (error) => faults.push(`uncaught: ${error.error().stack}`));
}

let last = "the start";

export function step(name) {
  check(!faults.length, `no faults, not\n${faults.join("\n")}`);
  last = name;
  console.log(`STEP ${name}`);
}

export function check(holds, what) {
  if (!holds) throw new Error(`expected ${what}`);
}

export async function until(what, holds, limit = 15_000) {
  const end = Date.now() + limit;
  while (!(await holds())) {
    if (Date.now() > end) throw new Error(`expected ${what} within ${limit / 1000} s`);
    await pause(50);
  }
}

export const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

// ---- The browser ----

let browser;

export const STATS = "**/api/stats*";

// Opens a page in a browser profile of its own, refreshed every second. `change` may alter the answers of /api/stats.
export async function open(path, { change, prepare, ...options } = {}) {
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

export async function alter(page, change, path = STATS) {
  await page.unroute(path);
  await page.route(path, async (route) => {
    const response = await route.fetch();
    const answer = await response.json();
    await route.fulfill({ response, json: change(answer) ?? answer }).catch((error) => {
      // The change was taken back meanwhile, and the browser has gone on without it.
      if (!error.message.includes("Route is already handled")) throw error;
    });
  });
}

export async function close(page) {
  await page.unrouteAll({ behavior: "ignoreErrors" });
  await page.context().close();
}

export const text = (page, selector) => page.locator(selector).first().innerText();
export const texts = (page, selector) => page.locator(selector).allInnerTexts();

const ROWS = "#table tbody tr:not(.spacer)";
export const rows = (page) => page.locator(ROWS);

// The heights that rows have. All are taken at once: a row may go between a search for it and a look at it.
export const rowHeights = async (page) => new Set(await page.evaluate((selector) =>
  [...document.querySelectorAll(selector)].map((row) => Math.round(row.getBoundingClientRect().height)), ROWS));

// The page shows the time of its last answer in seconds, and ticks are more than a second apart.
export async function tick(page) {
  const shown = () => page.locator("#as-of").textContent();
  const before = await shown();
  await until("a tick", async () => (await shown()) !== before);
}

// Each cell of a column with its title, which is there while the pointer is.
export const cells = (page, column) => page.$$eval(`#table td.${column}`, (all) => all.map((cell) => {
  cell.dispatchEvent(new PointerEvent("pointerenter"));
  const { title, innerText } = cell;
  cell.dispatchEvent(new PointerEvent("pointerleave"));
  return { title, text: innerText };
}));

export const titles = async (page, column) => (await cells(page, column)).map(({ title }) => title);

// The exact values of a column.
export const exact = async (page, column) => (await titles(page, column)).map((title) => Number(title.replace(/\D/g, "")));

export async function isAccessible(page, what) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() =>
    axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"], resultTypes: ["violations"] }));
  const found = violations.map(({ id, help, nodes }) => `${id}: ${help}\n${nodes.slice(0, 3).map((node) => `  ${node.html} ${node.failureSummary}`).join("\n")}`);
  check(!found.length, `no violation of WCAG A or AA on ${what}, not\n${found.join("\n")}`);
}

export async function fits(page, what) {
  const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  check(over <= 0, `${what} to fit its width, it is ${over} px too wide`);
}

// ---- Answers for the pages ----

// Repeats the connections of an answer until there are `count`, each with an id and an address of its own.
export const repeated = (count) => (stats) => {
  const { connections } = stats;
  const copy = (_, index) => ({ ...connections[index % connections.length], id: index + 1, client: `10.0.0.${index}:40000`, address: `10.0.0.${index}` });
  Object.assign(stats, { connections: Array.from({ length: count }, copy), matched: count, offset: 0 });
  stats.totals.active = count;
};

// ---- Start ----

// Runs a scenario in a browser of its own, and ends the process.
export async function run(scenario) {
  setTimeout(() => fail("the scenario took more than 300 s"), 300_000);
  try {
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
}

function fail(error) {
  console.error(`FAILED after ${last}: ${error?.stack ?? error}\n${faults.join("\n")}`);
  process.exit(1);
}
