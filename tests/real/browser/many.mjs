// The scenario `many`: 5,000 connections stay usable, with charts of 30 days above them.

import { readFileSync } from "node:fs";

import { PHONE, check, close, fits, isAccessible, open, pause, rows, step, text, tick, until } from "./chromium.mjs";
import { give } from "./history.mjs";

const TICKS = 12; // that are measured, about a second each

export async function many() {
  console.log("CONNECTIONS 60");
  const page = await open("/", { prepare: () => location.host && (localStorage["lavaproxy.range"] = '"30d"') });
  await give(page);
  await page.reload();
  await page.locator(".plot path.l2").first().waitFor();
  // Requests that the test looks at cost the page time.
  await page.unrouteAll();
  const few = await cost(page, 60);
  console.log("CONNECTIONS 4940");
  const lots = await cost(page, 5000);
  await page.click("th.client button");
  await until("the first address", async () => (await text(page, "#table td.client")) === "10.0.0.0:40000");
  await page.mouse.move(0, 0);
  const steady = await cost(page, 5000);
  console.log(`a tick: ${few.tick.toFixed(1)} ms of the page's thread and ${few.bytes} bytes with 60 rows, ${lots.tick.toFixed(1)} ms and ${lots.bytes} bytes with 5,000 whose order changes, ${steady.tick.toFixed(1)} ms while it stays`);
  check(lots.bytes < 2 * few.bytes, "an answer as long as that for 60 rows");
  check(lots.tick < 2.5 * Math.max(few.tick, 4), "a tick with 5,000 rows to cost what it costs with 60");
  check((await page.locator("#table tr").count()) < 60, "only the rows in sight to exist");
  check((await page.locator("#table").getAttribute("aria-rowcount")) === "5001", "the number of all rows for screen readers");
  await scrolling(page);
  await holding(page);
  await page.fill("#search", "10.0.7.77:");
  await until("one row of 5,000", async () => (await rows(page).count()) === 1 && (await text(page, "#count")).startsWith("1 of 5,000"));
  await page.fill("#search", "");
  await until("all rows", async () => (await text(page, "#count")) === "5,000\u00a0connections");
  await page.click("th.client button");
  await isAccessible(page, "5,000 rows");
  await page.setViewportSize(PHONE);
  await fits(page, "5,000 rows on a phone");
  await page.evaluate(() => scrollTo(0, 200_000));
  await fillTheScreen(page);
  await close(page);
  step("many");
  await addresses();
}

// The page of usage asks for the rows in sight as well. The file has all rows that match.
async function addresses() {
  const page = await open("/data-usage");
  await until("all addresses", async () => (await text(page, "#count")) === "5,000\u00a0addresses");
  check((await page.locator("#table tr").count()) < 60, "only the rows in sight to exist");
  check((await text(page, "#rows")) === "5,000", "the number of all addresses above");
  await page.evaluate(() => scrollTo(0, 80_000));
  await until("rows all over the screen", () => page.evaluate(() => {
    const [first, last] = [".spacer + tr", "tr:nth-last-child(2)"].map((row) => document.querySelector(`#table tbody ${row}`).getBoundingClientRect());
    return first.top <= 0 && last.bottom >= innerHeight;
  }));
  await page.evaluate(() => scrollTo(0, 0));
  await page.fill("#search", "10.0.7.7");
  await until("the addresses that begin so", async () => (await text(page, "#count")).startsWith("11 of 5,000"));
  const arrival = page.waitForEvent("download");
  await page.click("#download");
  const lines = readFileSync(await (await arrival).path(), "utf8").trimEnd().split("\r\n");
  check(lines.length === 12, `a line for each address that was found, not ${lines.length}`);
  await close(page);
  step("many-addresses");
}

// Rows come as one scrolls to them, in their order, and one request at a time asks for them.
async function scrolling(page) {
  const requests = { now: 0, most: 0 };
  const isTheirs = (request) => request.url().includes("/api/stats");
  page.on("request", (request) => isTheirs(request) && (requests.most = Math.max(requests.most, ++requests.now)));
  for (const end of ["requestfinished", "requestfailed"]) page.on(end, (request) => isTheirs(request) && requests.now--);
  for (const part of [0.001, 0.02, 0.5, 0.49, 0.9, 0.3]) {
    await page.evaluate((to) => scrollTo(0, to * document.body.scrollHeight), part);
    await fillTheScreen(page);
  }
  await page.evaluate(async () => {
    for (let place = 0; place < 100; place++) {
      scrollTo(0, place * 1500);
      await new Promise(requestAnimationFrame);
    }
  });
  await fillTheScreen(page);
  check(requests.most === 1, `one request at a time, not ${requests.most}`);
  await page.evaluate(() => document.activeElement.blur());
  await page.keyboard.press("End");
  await until("the last row", async () => (await rows(page).last().getAttribute("aria-rowindex")) === "5001");
  check((await rows(page).last().locator(".client").innerText()) === "10.0.19.135:40000", "the last address in the last row");
  const position = await page.evaluate(() => scrollY);
  await tick(page);
  check((await page.evaluate(() => scrollY)) === position, "the position to outlive a tick");
  await page.keyboard.press("Home");
  await fillTheScreen(page);
}

// Every row in sight has the address that belongs to its place, from the top of the screen to its bottom.
async function fillTheScreen(page) {
  await until("rows all over the screen", () => page.evaluate(() => {
    const all = [...document.querySelectorAll("#table tbody tr:not(.spacer)")];
    const [first, last] = [all[0], all.at(-1)].map((row) => row?.getBoundingClientRect());
    const top = Math.max(0, document.querySelector("#table tbody").getBoundingClientRect().top);
    const address = (place) => `10.0.${place >> 8}.${place & 255}:40000`;
    return first && first.top <= top + 1 && last.bottom >= innerHeight && all.every((row) => row.querySelector(".client").textContent === address(row.ariaRowIndex - 2));
  }));
}

// Rows keep their places while text in one of them is selected, though the order changes.
async function holding(page) {
  await page.click("th.rateOut button");
  await until("the busiest row", async () => (await page.locator("th.rateOut").getAttribute("aria-sort")) === "descending");
  await tick(page);
  const clients = () => page.$$eval("#table td.client", (cells) => cells.slice(0, 5).map((cell) => cell.textContent).join());
  await page.evaluate(() => getSelection().selectAllChildren(document.querySelector("#table td.client")));
  await tick(page);
  const before = await clients();
  for (let ticks = 0; ticks < 3; ticks++) await tick(page);
  check((await clients()) === before, "the rows to keep their places");
  await page.evaluate(() => getSelection().removeAllRanges());
  await until("the order of now", async () => (await clients()) !== before);
  await ordering(page, clients);
  await figures(page);
}

// The order changes every fifteen seconds, not at each tick: a row that moved each second could not be read.
async function ordering(page, clients) {
  const start = Date.now();
  let [shown, changes] = [await clients(), 0];
  while (Date.now() < start + 16_000) {
    await tick(page);
    const now = await clients();
    if (now !== shown) changes++;
    shown = now;
  }
  const most = 1 + (Date.now() - start) / 14_500;
  check(changes >= 1 && changes <= most, `an order that changes, at most ${most.toFixed(1)} times, not ${changes}`);
}

// Rows that keep their places have the figures of now, wherever they are in the order by now.
async function figures(page) {
  const shown = () => page.$$eval("#table tbody tr:not(.spacer)", (rows) => rows.map((row) => [".client", ".bytesOut"].map((cell) => row.querySelector(cell).textContent)));
  let first = await shown();
  await until("the figures of now in rows that keep their places", async () => {
    const now = await shown();
    if (now.some(([client], place) => client !== first[place]?.[0])) first = now;
    return now.every(([, bytes], place) => bytes !== first[place][1]);
  }, 60_000);
}

// How long a tick keeps the page's thread busy, in ms, and how long the answer of /api/stats is.
async function cost(page, count) {
  await until(`${count} rows`, async () => (await text(page, "#count")).replace(/\D/g, "") === String(count));
  const session = await page.context().newCDPSession(page);
  // The time of the page's thread alone, whatever else the machine does.
  await session.send("Performance.enable", { timeDomain: "threadTicks" });
  const busy = async () => (await session.send("Performance.getMetrics")).metrics.find(({ name }) => name === "TaskDuration").value * 1000;
  const reads = (path) => page.evaluate((path) => performance.getEntriesByType("resource").filter(({ name }) => name.includes(path)).map(({ startTime, decodedBodySize }) => ({ startTime, bytes: decodedBodySize })), path);
  await page.evaluate(() => performance.clearResourceTimings());
  // What the page has loaded and dropped before is not a tick's garbage.
  await session.send("HeapProfiler.collectGarbage");
  const before = await busy();
  await pause(TICKS * 1000);
  const spent = (await busy()) - before;
  const [ticks, healths] = [await reads("/api/stats"), await reads("health=true")];
  await session.detach();
  check(ticks.length > 2, "several ticks");
  check(healths.length >= 2, "the nodes' state to be read again");
  check(healths.every(({ startTime }, place) => !place || startTime - healths[place - 1].startTime > 4000), "the nodes' state to be read every five seconds at most");
  return { tick: spent / ticks.length, bytes: Math.max(...ticks.map(({ bytes }) => bytes)) };
}
