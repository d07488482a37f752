// Takes pictures of the pages of the lavaproxy at BASE_URL, as WebP, into the folder that the argument names.

import { writeFileSync } from "node:fs";
import { close, open, pause, run } from "./chromium.mjs";

const pictures = [
  { name: "connections-light", path: "/", colorScheme: "light" },
  { name: "connections-dark", path: "/", colorScheme: "dark" },
  { name: "data-usage", path: "/data-usage", colorScheme: "light" },
  { name: "health", path: "/health", colorScheme: "light" },
  { name: "security", path: "/security", colorScheme: "light" },
];

run(async () => {
  for (const { name, path, colorScheme } of pictures) {
    const page = await open(path, { colorScheme });
    // Rates need a few answers.
    await pause(6000);
    const session = await page.context().newCDPSession(page);
    const { data } = await session.send("Page.captureScreenshot", { format: "webp", quality: 80 });
    writeFileSync(`${process.argv[2]}/${name}.webp`, Buffer.from(data, "base64"));
    await close(page);
  }
});
