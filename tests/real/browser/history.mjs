// The scenario `history`: charts of figures over time on three pages, and the status page.

import { DESK, PHONE, WIDTHS, check, close, fits, isAccessible, open, step, text, texts, tick, until } from "./chromium.mjs";

const STEPS = { "1h": [360, 10], "24h": [1440, 60], "30d": [720, 3600] };
const API = "**/api/history?**";

// An answer of the API whose last value is that of now: a wave, and a gap in the middle of it.
export function figures(url, nodes = 2) {
  const query = new URL(url).searchParams;
  const [range, by] = ["range", "by"].map((name) => query.get(name));
  const [count, seconds] = STEPS[range];
  const now = Date.now();
  const start = (Math.floor(now / (seconds * 1000)) - count) * seconds * 1000;
  const list = (least, most) => Array.from({ length: count }, (_, index) =>
    Math.abs(index - count / 2) < count / 20 ? null : Math.round(least + ((most - least) * (1 + Math.sin(index / 20))) / 2));
  const row = (name, most) => ({
    name, connections: list(0, most), requests: list(0, 9 * most), bytesIn: list(0, 1e4 * most), bytesOut: list(0, 1e5 * most), players: list(0, 3 * most),
    ...(by === "node" && { load: list(0, most).map((value) => value && value / 100), responseTime: list(1, most) }),
  });
  const names = { version: ["none", "v3", "v4"], node: Array.from({ length: nodes }, (_, index) => `eu${index + 1}`), account: ["default"] }[by];
  return { range, by, now, start, step: seconds, series: names.map((name, index) => row(name, 10 * (index + 1) ** 2)), refusals: list(0, 9) };
}

export async function give(page, nodes) {
  await page.unroute(API);
  await page.route(API, (route) => route.fulfill({ json: figures(route.request().url(), nodes) }));
}

async function openWith(path, nodes) {
  const page = await open(path);
  await give(page, nodes);
  await page.reload();
  await page.locator("#state.live").waitFor();
  await page.locator(".plot path.l0").first().waitFor();
  return page;
}

export async function history() {
  await linesAndGaps();
  await numbers();
  await table();
  await ranges();
  await summerTime();
  await manyNodes();
  await looks();
  await nothingYet();
  await statusPage();
}

async function linesAndGaps() {
  for (const [path, titles] of [["/", ["Traffic, both directions", "Open connections"]], ["/data-usage", ["Traffic"]], ["/health", ["Players", "Load of the node's machine", "Response time"]]]) {
    const page = await openWith(path);
    check(String(await texts(page, ".chart h3")) === String(titles), `the charts ${titles}, not ${await texts(page, ".chart h3")}`);
    const paths = await page.$$eval(".plot path.line", (all) => all.map((each) => each.getAttribute("d")));
    check(paths.every((d) => d.split("M").length === 3), "a line that ends at a gap and begins again after it");
    const marks = await page.$$eval(".plot text", (all) => all.map((each) => each.textContent));
    check(marks.includes("0") || marks.some((mark) => /^0.*(B\/s|%|ms)/.test(mark)), `a value axis from zero with its unit, not ${marks}`);
    check(marks.filter((mark) => /^\d\d:\d\d$/.test(mark)).length >= titles.length * 3, "times at the time axis");
    const styles = await page.$$eval(".chart:first-of-type .plot path.line", (all) => all.map((each) => getComputedStyle(each).strokeDasharray));
    check(new Set(styles).size === styles.length, `lines that differ without their colours, not ${styles}`);
    await close(page);
  }
  step("lines");
}

async function numbers() {
  const page = await openWith("/");
  const chart = page.locator(".chart").nth(1);
  const [plot, at] = [chart.locator(".plot"), chart.locator(".at")];
  const said = () => plot.getAttribute("aria-valuetext");
  const values = () => chart.locator(".legend strong").allInnerTexts();
  check((await at.innerText()).startsWith("newest"), "the newest values at first");
  await plot.focus();
  const newest = await said();
  for (let press = 0; press < 30; press++) await page.keyboard.press("ArrowLeft");
  check((await said()) !== newest && (await plot.getAttribute("aria-valuenow")) === "329", "the arrow keys to move the cursor by a step");
  check((await said()).endsWith(`v3 ${(await values())[1]}, v4 ${(await values())[2]}`), `the same numbers for eyes and ears, not ${await said()}`);
  check((await plot.locator(".cursor").getAttribute("d")).startsWith("M"), "a line at the cursor");
  await tick(page);
  check((await plot.getAttribute("aria-valuenow")) === "329", "the cursor to outlive a tick");
  await page.keyboard.press("Home");
  check((await plot.getAttribute("aria-valuenow")) === "0", "Home to lead to the first step");
  await page.keyboard.press("Escape");
  check((await at.innerText()).startsWith("newest"), "Escape to lead to the newest values");
  const { x, y, width } = await plot.boundingBox();
  await page.mouse.move(x + 62 + (width - 70) / 2, y + 40);
  check(String(await values()) === "not measured,not measured,not measured", `a gap under the pointer to be no number, not ${await values()}`);
  await page.mouse.move(x + 62 + (width - 70) / 4, y + 40);
  check((await values()).every((value) => /^\d/.test(value)), "numbers under the pointer");
  check(!(await at.innerText()).startsWith("newest"), "the time under the pointer");
  await page.check("#unit input[value=bits]", { force: true });
  check((await page.locator(".chart").first().locator(".legend strong").last().innerText()).includes("bit/s"), "the rates in the other unit");
  await close(page);
  step("numbers");
}

async function table() {
  const page = await openWith("/data-usage");
  await page.click(".chart summary");
  await page.locator(".chart tbody tr").first().waitFor();
  const shown = await page.locator(".chart tbody tr").count();
  check(shown === 12, `a row for each five minutes, not ${shown}`);
  check((await text(page, ".chart caption")) === "Traffic: means of 5 minutes", "a caption");
  check(String(await texts(page, ".chart thead th")) === "From,from bots,to bots", "a column for each line");
  await isAccessible(page, "the table of a chart");
  await page.setViewportSize(PHONE);
  await fits(page, "the table of a chart on a phone");
  await close(page);
  step("table");
}

async function ranges() {
  const page = await openWith("/");
  let asked = [];
  page.on("request", (request) => request.url().includes("/api/history") && asked.push(new URL(request.url()).searchParams.get("range")));
  for (const [range, mark] of [["24h", /^\d\d:00$/], ["30d", /^\d+ [A-Z][a-z]+$/], ["1h", /^\d\d:\d\d$/]]) {
    asked = [];
    await page.check(`#range input[value="${range}"]`, { force: true });
    await until(`a request for ${range}`, () => asked.includes(range));
    const marks = () => page.$$eval(".chart:first-of-type .plot text", (all) => all.map((each) => each.textContent).slice(3));
    await until(`an axis for ${range}`, async () => (await marks()).length > 2 && (await marks()).every((text) => mark.test(text)));
  }
  await page.check('#range input[value="30d"]', { force: true });
  await until("the last request", () => asked.includes("30d"));
  asked = [];
  for (let count = 0; count < 4; count++) await tick(page);
  check(!asked.length, "no request while no step has ended");
  await page.reload();
  await until("the choice to be remembered", () => asked.includes("30d"));
  await close(page);
  step("ranges");
}

// A day has 23 or 25 hours when the clocks change: the marks keep their days.
async function summerTime() {
  for (const [month, last] of [["March", "2026-04-10"], ["October", "2026-11-10"]]) {
    const page = await open("/", { timezoneId: "Europe/Berlin", prepare: () => location.host && (localStorage["lavaproxy.range"] = '"30d"') });
    await page.unroute(API);
    await page.route(API, (route) => route.fulfill({ json: { ...figures(route.request().url()), start: Date.parse(last) - 30 * 86_400_000 } }));
    await page.reload();
    await page.locator(".plot path.l0").first().waitFor();
    const marks = await page.$$eval(".chart:first-of-type .plot text", (all) => all.map((each) => each.textContent).slice(3));
    const days = marks.map((mark) => Date.parse(`${mark} 2026 UTC`) / 86_400_000);
    const steps = days.slice(1).map((day, index) => day - days[index]);
    check(steps.length > 3 && steps.every((days) => days === steps[0]), `marks at equal distances in ${month}, not ${marks}`);
    await close(page);
  }
  step("summer-time");
}

async function manyNodes() {
  const page = await openWith("/health", 20);
  const names = await page.locator(".chart").first().locator(".legend span").allInnerTexts();
  check(String(names) === "eu15,eu16,eu17,eu18,eu19,eu20", `the six nodes with the highest peak, not ${names}`);
  for (const viewport of [DESK, PHONE]) {
    await page.setViewportSize(viewport);
    await tick(page);
    await fits(page, `charts of twenty nodes at ${viewport.width} px`);
  }
  // Several have the same peak, as idle nodes have.
  await page.unroute(API);
  await page.route(API, (route) => {
    const answer = figures(route.request().url(), 8);
    for (const row of answer.series.slice(0, 3)) row.players.fill(0);
    return route.fulfill({ json: answer });
  });
  await page.reload();
  const shown = () => page.locator(".chart").first().locator(".legend span").allInnerTexts();
  await until("the charts of eight nodes", async () => (await shown()).length === 6);
  check(String(await shown()) === "eu1,eu4,eu5,eu6,eu7,eu8", `all nodes that are busy, not ${await shown()}`);
  await close(page);
  step("many-nodes");
}

async function looks() {
  for (const path of ["/", "/data-usage", "/health"]) {
    const page = await openWith(path, 6);
    for (const viewport of [DESK, ...WIDTHS]) {
      await page.setViewportSize(viewport);
      await until("the charts to take the width", () => page.$$eval(".plot", (all) => all.every((plot) => plot.firstElementChild?.getAttribute("width") === String(plot.clientWidth))));
      await fits(page, `the charts of ${path} at ${viewport.width} px`);
      const cut = await page.evaluate(() => [...document.querySelectorAll(".plot text")].filter((label) => {
        const [plot, { left, right }] = [label.closest(".plot").getBoundingClientRect(), label.getBoundingClientRect()];
        return left < plot.left - 1 || right > plot.right + 8;
      }).map((label) => label.textContent));
      check(!cut.length, `no label cut off at ${viewport.width} px, as ${cut[0]}`);
      for (const colorScheme of viewport === DESK || viewport === PHONE ? ["light", "dark"] : []) {
        await page.emulateMedia({ colorScheme });
        await isAccessible(page, `the charts of ${path} at ${viewport.width} px in ${colorScheme}`);
      }
    }
    await close(page);
  }
  step("looks");
}

async function nothingYet() {
  const page = await open("/");
  await page.route(API, () => {});
  await page.reload();
  await page.locator(".plot").first().waitFor();
  await isAccessible(page, "charts before their figures");
  await page.unroute(API);
  await page.route(API, (route) => {
    const answer = figures(route.request().url());
    route.fulfill({ json: { ...answer, series: [], refusals: [] } });
  });
  await page.reload();
  await until("a sentence in place of lines", async () => (await text(page, "#history .hint")).startsWith("Nothing was measured yet"));
  await isAccessible(page, "charts without figures");
  await close(page);
  step("nothing-yet");
}

async function statusPage() {
  const context = await open("/");
  for (const viewport of [DESK, PHONE]) {
    await context.setViewportSize(viewport);
    for (const colorScheme of ["light", "dark"]) {
      await context.emulateMedia({ colorScheme });
      await context.goto("/status");
      check((await text(context, "h1")) === "Everything works", `a verdict, not ${await text(context, "h1")}`);
      check((await context.locator(".days").count()) === 2 && (await context.locator(".days rect").count()) === 180, "ninety days of two versions");
      await fits(context, `the status page at ${viewport.width} px`);
      await isAccessible(context, `the status page at ${viewport.width} px in ${colorScheme}`);
    }
  }
  await close(context);
  step("status");
}
