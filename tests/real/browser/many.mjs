// The scenario `many`: 5,000 connections stay usable, with charts of 30 days above them.

import { PHONE, alter, check, close, fits, isAccessible, open, repeated, rows, step, text, tick, until } from "./chromium.mjs";
import { give } from "./history.mjs";

export async function many() {
  const page = await open("/", { change: repeated(10), prepare: () => location.host && (localStorage["lavaproxy.range"] = '"30d"') });
  await give(page);
  await page.reload();
  await page.locator(".plot path.l2").first().waitFor();
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
  // The time of the page's thread alone, whatever else the machine does.
  await session.send("Performance.enable", { timeDomain: "threadTicks" });
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
