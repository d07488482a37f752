// The scenario `security`: what the page shows of refusals, limits and accounts, how it bans and lifts, and the switch of
// the page "Data usage".

import { readFileSync } from "node:fs";

import { DESK, PHONE, WIDTHS, alter, check, close, expected, fits, isAccessible, open, password, rowHeights, rows, step, text, texts, tick, until } from "./chromium.mjs";

// What must be there: refused requests of this client and, fewer, of this front, and bots of these names.
const REFUSED = "203.0.113.9";
const FRONT = "127.0.0.1";
const REPORT = "**/api/security";

export async function security() {
  const page = await open("/security");
  await firstLook(page);
  await banARefusedAddress(page);
  await banByForm(page);
  await liftByButton(page);
  await failedBan(page);
  await accountList(page);
  await close(page);
  await loading();
  await crowded();
  await usageBySwitch();
}

const focused = (locator) => locator.evaluate((element) => element === document.activeElement);
const isOpen = (page, id) => page.locator(`#${id}`).isVisible();
const list = (page, name) => page.check(`#list input[value=${name}]`, { force: true });

async function accessibleEverywhere(page, what) {
  for (const viewport of [DESK, PHONE]) {
    await page.setViewportSize(viewport);
    await fits(page, `${what} at ${viewport.width} px`);
    for (const colorScheme of ["dark", "light"]) {
      await page.emulateMedia({ colorScheme });
      await isAccessible(page, `${what} at ${viewport.width} px in ${colorScheme}`);
    }
  }
  await page.setViewportSize(DESK);
}

async function firstLook(page) {
  check((await text(page, "#empty h2")) === "Nobody is banned", "a message while there is no ban");
  check((await text(page, "#empty p")).startsWith("An address that sends 20 wrong passwords"), "the rule that bans");
  check((await text(page, "#note")) === "STATE_DIR is not set: bans end when lavaproxy stops.", "what happens to bans without STATE_DIR");
  check((await text(page, "#bans")) === "0" && (await text(page, "#accounts")) === "1", "totals");
  check(Number((await text(page, "#refused")).replace(/\D/g, "")) > 0, "the refusals of the last hour");
  const reasons = await texts(page, "#reasons tr");
  check(reasons.some((row) => row.startsWith("rejected-password the password was missing or wrong")), `a reason in words, not ${reasons}`);
  const limits = await page.$$eval("#limits tr", (all) => all.map((row) => [row.querySelector("code").innerText, row.querySelector("td").innerText]));
  const names = limits.map(([name]) => name);
  for (const name of ["MAX_CONNECTIONS", "MAX_CONNECTIONS_PER_ADDRESS", "CONNECTION_RATE", "REQUEST_RATE", "BAN_AFTER", "ALLOWED_ADDRESSES", "BLOCKED_ADDRESSES", "TRUSTED_PROXIES"]) {
    check(names.includes(name), `the limit ${name} among ${names}`);
  }
  check(limits.every(([, value]) => value.length), `a value for each limit, not ${limits.join("; ")}`);
  if (password) check(!(await page.content()).includes(password), "no password on the page");
  await accessibleEverywhere(page, "the security page without bans");
  step("security-first-look");
}

async function banARefusedAddress(page) {
  const row = page.locator("#addresses tr").filter({ hasText: REFUSED });
  const button = row.locator("button");
  check((await button.getAttribute("aria-label")) === `Ban ${REFUSED}`, "a button that bans the address");
  const front = page.locator("#addresses tr").filter({ hasText: FRONT });
  check(!(await front.locator("button").isVisible()) && (await front.locator(".act").innerText()) === "exempt", "no button for a front, which is never banned");
  await button.focus();
  await page.keyboard.press("Enter");
  check((await isOpen(page, "ban")) && (await page.inputValue("#ban-address")) === REFUSED, "the form with the address in it");
  check(await focused(page.locator("#ban-reason")), "the focus on what is left to fill in");
  await page.keyboard.press("Escape");
  check(!(await isOpen(page, "ban")) && (await focused(button)), "Escape to close the form and the focus to go back");
  await page.keyboard.press("Enter");
  await page.keyboard.type("it guesses <b>passwords</b>");
  await page.keyboard.press("Enter");
  await until("the ban in the list", async () => (await texts(page, "#table td.address")).includes(REFUSED));
  check(!(await isOpen(page, "ban")), "the form to close");
  check((await text(page, "#table td.reason")) === "it guesses <b>passwords</b>", "the reason as text");
  check((await text(page, "#table td.by")) === "this page", "who has banned it");
  check((await text(page, "#table td.until")).match(/^in 23h\s5\dm$/) || (await text(page, "#table td.until")) === "in 1d 0h", `the end, not ${await text(page, "#table td.until")}`);
  await until("the address to be marked", async () => (await row.locator(".pill").isVisible()) && !(await button.isVisible()));
  check((await text(page, "#bans")) === "1" && (await text(page, "#bans-sub")) === "0 by a rule", "the number of bans");
  step("ban-refused");
}

async function banByForm(page) {
  await page.click("#ban-open");
  check(await focused(page.locator("#ban-address")), "the focus on the address");
  await accessibleEverywhere(page, "the form of a ban");
  const attempts = [
    ["", "neither an address nor a network"],
    ["bot.example", "names are not looked up"],
    ["10.0.0.5/8", "write 10.0.0.0/8 for it"],
    ["127.0.0.1", "loopback"],
    ["0.0.0.0/0", "loopback"],
  ];
  expected.failures = true;
  for (const [address, words] of attempts) {
    await page.fill("#ban-address", address);
    await page.click("#ban-confirm");
    await until(`the error ${words}`, async () => (await page.locator("#ban-error").textContent()).includes(words));
    check((await text(page, "#ban-error")).startsWith("Not banned. ") && (await isOpen(page, "ban")), "the form to stay with its error");
    await until("another attempt to be possible", () => page.locator("#ban-confirm").isEnabled());
    check(await focused(page.locator("#ban-address")), "the focus on what is wrong");
  }
  await accessibleEverywhere(page, "an error in the form");
  expected.failures = false;
  await page.fill("#ban-address", "2001:db8:1:2::/64");
  await page.selectOption("#ban-duration", { label: "until it is lifted" });
  await page.click("#ban-confirm");
  await until("the network in the list", async () => (await texts(page, "#table td.address")).includes("2001:db8:1:2::/64"));
  const row = rows(page).filter({ hasText: "2001:db8:1:2::/64" });
  check((await row.locator(".until").innerText()) === "no end", "a ban without an end");
  await until("the result to be spoken", async () => (await page.locator("#spoken").textContent()) === "2001:db8:1:2::/64 is banned");
  await page.fill("#search", "2001:db8");
  check((await rows(page).count()) === 1 && (await text(page, "#count")) === "1 of 2\u00a0bans", "a search among the bans");
  await page.fill("#search", "");
  await accessibleEverywhere(page, "the list of bans");
  step("ban-by-form");
}

async function liftByButton(page) {
  const row = rows(page).filter({ hasText: "2001:db8:1:2::/64" });
  const button = row.locator("button");
  check((await button.getAttribute("aria-label")) === "Lift the ban of 2001:db8:1:2::/64", "a button that lifts the ban");
  await button.focus();
  await stayingWithItsRow(page, button);
  await page.keyboard.press("Enter");
  check((await text(page, "#lift-title")) === "Lift the ban of 2001:db8:1:2::/64?", "the dialog to name the network");
  check(await focused(page.locator("#lift-cancel")), "the focus on the answer that does nothing");
  await accessibleEverywhere(page, "the dialog that lifts");
  await page.keyboard.press("Enter");
  check(!(await isOpen(page, "lift")) && (await rows(page).count()) === 2, "nothing to be done after Cancel");
  for (const address of ["2001:db8:1:2::/64", REFUSED]) {
    await rows(page).filter({ hasText: address }).locator("button").click();
    await page.click("#lift-confirm");
    await until(`${address} to be free`, async () => !(await rows(page).filter({ hasText: address }).isVisible()));
    await until("the result to be spoken", async () => (await page.locator("#spoken").textContent()) === `The ban of ${address} is lifted`);
  }
  check(await focused(page.locator("#ban-open")), "the focus to stay on the page");
  check((await text(page, "#empty h2")) === "Nobody is banned", "a message that there is no ban left");
  await until("the address to be bannable again", () => page.locator("#addresses button").first().isVisible());
  step("lift-by-button");
}

// A button that has the focus is never that of another ban, whatever comes and goes around it.
async function stayingWithItsRow(page, button) {
  const ask = (method, path, body) => page.evaluate(async ([method, path, body]) => {
    const headers = { "X-Requested-With": "lavaproxy", "Content-Type": "application/json" };
    await fetch(path, { method, headers, ...(body && { body: JSON.stringify(body) }) });
  }, [method, path, body]);
  const above = rows(page).filter({ hasText: "198.51.100.7" });
  await ask("POST", "api/bans", { address: "198.51.100.7" });
  await until("a ban above", () => above.isVisible());
  check(await focused(button), "the focus to stay with its row when others come");
  await ask("DELETE", "api/bans/198.51.100.7");
  await until("the ban above to go", async () => !(await above.isVisible()));
  check(await focused(button), "the focus to stay with its row when others go");
  await ask("POST", "api/bans", { address: "198.51.100.7" });
  await until("a ban above", () => above.isVisible());
  await above.locator("button").focus();
  await ask("DELETE", "api/bans/198.51.100.7");
  await until("the ban to go", async () => !(await above.isVisible()));
  check(await page.evaluate(() => document.activeElement === document.body), "no other row to get the focus of one that is gone");
  await button.focus();
  await page.keyboard.press("Enter");
  await ask("POST", "api/bans", { address: "198.51.100.7" });
  await until("a ban above, behind the dialog", () => above.isVisible());
  await page.keyboard.press("Escape");
  check(await focused(button), "the focus to go back to the row that the dialog was for");
  await ask("DELETE", "api/bans/198.51.100.7");
  await until("the ban above to go", async () => !(await above.isVisible()));
}

async function failedBan(page) {
  expected.failures = true;
  const answers = [
    [(route) => route.fulfill({ status: 409, json: { status: 409, error: "Conflict", message: "there are 20000 bans already", path: "" } }), "there are 20000 bans already"],
    [(route) => route.fulfill({ status: 502, body: "<html>Bad Gateway</html>" }), "answers with an error"],
    [(route) => route.abort(), "The proxy is gone"],
  ];
  await page.click("#ban-open");
  await page.fill("#ban-address", "198.51.100.1");
  for (const [answer, words] of answers) {
    await page.route("**/api/bans", answer);
    await page.click("#ban-confirm");
    await until(`the error ${words}`, async () => (await page.locator("#ban-error").textContent()).includes(words));
    await page.unroute("**/api/bans");
  }
  expected.failures = false;
  await page.click("#ban-cancel");
  await page.click("#ban-open");
  check(!(await isOpen(page, "ban-error")) && (await page.inputValue("#ban-address")) === "", "no old error and no old address in a new form");
  await page.click("#ban-cancel");
  // Another operator was quicker.
  await alter(page, (report) => void (report.bans = [ban(0)]), REPORT);
  await until("a ban in the list", async () => (await rows(page).count()) === 1);
  await rows(page).locator("button").click();
  expected.failures = true;
  await page.click("#lift-confirm");
  await until("the error", async () => (await page.locator("#lift-error").textContent()).startsWith("Not lifted. there is no ban of 10.0.0.0"));
  expected.failures = false;
  await page.click("#lift-cancel");
  await page.unroute(REPORT);
  step("failed-ban");
}

async function accountList(page) {
  await list(page, "accounts");
  check(String(await texts(page, "#table td.account")) === "default", "the account of PROXY_PASSWORD");
  check((await text(page, "#note")).startsWith("ACCOUNTS_FILE is not set"), "how there could be more");
  await accessibleEverywhere(page, "the list of accounts");
  await page.reload();
  await page.locator("#state.live").waitFor();
  check((await text(page, "#table td.account")) === "default", "the list to be remembered");
  await list(page, "bans");
  step("accounts");
}

async function loading() {
  const page = await open("/security");
  await page.route(REPORT, () => {});
  await page.reload();
  await page.locator("#addresses-empty").waitFor();
  check((await texts(page, ".panel .hint")).every((hint) => hint === "Loading") && (await text(page, "#count")) === "Loading", "a page that says that it loads");
  await isAccessible(page, "the security page while it loads");
  // A search that comes before the bans.
  await page.type("#search", "x");
  await page.fill("#search", "");
  check(!(await page.locator("#empty").isVisible()), "nothing about bans before they are there");
  await page.unroute(REPORT);
  expected.failures = true;
  await page.route(REPORT, (route) => route.fulfill({ status: 500, json: { message: "a defect" } }));
  await page.reload();
  await page.locator("#state.failing").waitFor();
  check((await text(page, "#banner")).startsWith("The proxy answers with an error"), "a banner about the error");
  await page.unroute(REPORT);
  await page.locator("#state.live").waitFor();
  expected.failures = false;
  await until("the words for no ban", async () => (await text(page, "#empty h2")) === "Nobody is banned");
  await close(page);
  step("security-loading");
}

// ---- Many rows, and the longest that there can be ----

const ban = (index) => ({
  address: index % 3 ? `10.0.${index >> 8}.${index & 255}` : index ? `2001:db8:ffff:ffff:ffff:ffff:ffff:${1000 + index}` : "10.0.0.0",
  reason: ["", "20 wrong passwords within a minute", "x".repeat(200), "\u202egnp\u0000<script>"][index % 4],
  by: ["rule", "page", "api"][index % 3],
  since: Date.now() - index * 60_000,
  until: index % 5 ? Date.now() + index * 86_400_000 : null,
});

const account = (index) => ({
  account: index ? `${"a".repeat(index % 2 ? 60 : 8)}${index}` : "default",
  state: ["active", "expired", "disabled"][index % 3],
  versions: index % 4 ? ["v3", "v4"] : ["v4"],
  limits: { connections: index % 2 ? 100_000 : null, requestsPerSecond: index % 2 ? 1_000_000 : null },
  expires: index % 3 === 1 ? Date.now() - 1000 : null,
  enabled: index % 3 !== 2, active: index, connections: index, requests: 0, bytesIn: 0, bytesOut: 0, rateIn: 0, rateOut: 0, lastSeen: index ? Date.now() : null,
});

function crowd(report) {
  report.bans = Array.from({ length: 20_000 }, (_, index) => ban(index));
  report.accounts = Array.from({ length: 101 }, (_, index) => account(index));
  report.refusals.addresses = Array.from({ length: 10 }, (_, index) => ({ address: ban(index).address, lastHour: 123_456_789, reason: "rejected-connection-rate", lastSeen: Date.now(), bannable: index % 4 > 0 }));
  report.refusals.reasons.forEach((reason) => (reason.lastHour = 123_456_789));
  report.limits.forEach((limit) => (limit.value = "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff,198.51.100.0/24"));
  report.dropped = 123_456_789_012;
  report.stateDir = "/var/lib/lavaproxy";
}

async function crowded() {
  const page = await open("/security", { prepare: () => location.host && (localStorage["lavaproxy.refresh"] = "5") });
  await alter(page, crowd, REPORT);
  await page.reload();
  await until("the bans", async () => (await text(page, "#count")).replace(/\D/g, "") === "20000");
  check((await page.locator("#table tr").count()) < 120, "only the rows in sight to exist");
  check(!(await isOpen(page, "note")), "no note with STATE_DIR");
  for (const name of ["bans", "accounts"]) {
    await list(page, name);
    for (const viewport of [DESK, ...WIDTHS]) {
      await page.setViewportSize(viewport);
      await fits(page, `many ${name} at ${viewport.width} px`);
      const heights = await rowHeights(page);
      check(heights.size === 1, `rows of one height at ${viewport.width} px, not ${[...heights]}`);
      const cut = await page.$$eval(".panel, .panel th, .panel td", (all) => all.filter((each) => each.scrollWidth > each.clientWidth + 1).map((each) => each.textContent));
      check(!cut.length, `panels that hold what is in them at ${viewport.width} px, not ${cut[0]}`);
    }
    await page.setViewportSize(PHONE);
    await isAccessible(page, `many ${name} on a phone`);
    await page.setViewportSize(DESK);
    await isAccessible(page, `many ${name}`);
  }
  check(!/[\u0000\u202e]/.test(await page.locator("main").innerText()), "no control characters");
  await close(page);
  step("security-crowded");
}

// ---- The switch of "Data usage" ----

async function saved(page) {
  const arrival = page.waitForEvent("download");
  await page.click("#download");
  const download = await arrival;
  return { name: download.suggestedFilename(), lines: readFileSync(await download.path(), "utf8").trimEnd().split("\r\n") };
}

const FIGURES = '"bytesIn","bytesOut","rateIn","rateOut","active","connections","requests","lastSeen"';

async function usageBySwitch() {
  const page = await open("/data-usage");
  const by = (name) => page.check(`#by input[value=${name}]`, { force: true });
  check((await text(page, "#rows-label")) === "Addresses" && (await text(page, "#count")).endsWith("addresses"), "addresses at first");
  await by("bot");
  await until("the bots", async () => (await texts(page, "#table td.bot .name")).includes("tester"));
  check((await texts(page, "#table td.bot .user")).includes("80351110224678912"), "the id of a bot");
  check((await text(page, "#rows-label")) === "Bots" && (await page.getAttribute("#search", "placeholder")) === "Search bots", "words for bots");
  const bots = await saved(page);
  check(/^lavaproxy-data-usage-by-bot-\d{4}-\d\d-\d\d\.csv$/.test(bots.name), `the name of the file, not ${bots.name}`);
  check(bots.lines[0] === `"userId","clientName",${FIGURES}`, `the names of the columns, not ${bots.lines[0]}`);
  check(bots.lines.some((line) => line.startsWith('"80351110224678912","tester","')), `a line for the bot, not ${bots.lines}`);
  await accessibleEverywhere(page, "data usage by bot");
  await page.reload();
  await until("the choice to be remembered", async () => (await texts(page, "#table td.bot .name")).includes("tester"));
  await page.fill("#search", "80351110224678912");
  await until("the one bot that was searched for", async () => (await rows(page).count()) === 1);
  await page.fill("#search", "");

  await by("account");
  await until("the accounts", async () => (await texts(page, "#table td.account .name")).includes("default"));
  const accounts = await saved(page);
  check(accounts.name.includes("-by-account-") && accounts.lines[0] === `"account","state",${FIGURES}`, `the names of the columns, not ${accounts.lines[0]}`);
  check(accounts.lines.some((line) => line.startsWith('"default","active","')), `a line for the account, not ${accounts.lines}`);
  await accessibleEverywhere(page, "data usage by account");
  await tick(page);
  check((await texts(page, "#table td.account .name")).includes("default"), "the accounts to outlive a tick");

  // An answer that was on its way when the switch was used does not come under the wrong columns.
  let release;
  const held = new Promise((resolve) => (release = resolve));
  await page.route("**/api/accounts*", async (route) => {
    await held;
    await route.continue();
  });
  await page.waitForRequest("**/api/accounts*");
  await by("bot");
  // Another unit meanwhile has nothing to show anew.
  for (const unit of ["bits", "bytes"]) await page.check(`#unit input[value=${unit}]`, { force: true });
  release();
  await until("the bots again", async () => (await texts(page, "#table td.bot .name")).includes("tester"));
  check((await page.locator("#table td.account").count()) === 0, "no account among the bots");
  await page.unrouteAll({ behavior: "ignoreErrors" });
  await by("address");
  await until("the addresses", async () => (await texts(page, "#table td.address")).includes(REFUSED));
  const addresses = await saved(page);
  check(addresses.lines[0] === `"address",${FIGURES}`, `the names of the columns, not ${addresses.lines[0]}`);
  await close(page);
  step("usage-switch");
}
