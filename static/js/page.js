// Starts a page: its theme, its header and the feed of its numbers.

import { readJson } from "./api.js";
import { Feed } from "./feed.js";
import { connectControls, drawHeader, showState, showSummary } from "./header.js";
import { applyTheme } from "./theme.js";

const HEALTH_LASTS = 4_500; // in ms; the proxy asks its nodes every five seconds, unless it is told otherwise

// `create(refresh, more)` wires the page and returns `paths` of the API and `show(...answers)`; the last answer is that
// of api/health, which is shown for `healthLasts`. `refresh()` is for a page that has changed its `paths`, or something at
// the proxy; after `more()` answers that are on their way are shown all the same.
export function startPage(name, create, healthLasts = HEALTH_LASTS) {
  applyTheme();
  drawHeader(name);
  let feed;
  const page = create(() => feed.restart(), () => feed.more());
  let health;
  let due = 0;
  const read = async () => {
    const isDue = performance.now() >= due;
    const paths = isDue ? withHealth(page.paths) : page.paths;
    const answers = await Promise.all(paths.map((path) => readJson(path)));
    if (isDue) {
      health = answers.find((answer) => answer.health)?.health ?? answers.pop();
      due = performance.now() + healthLasts;
    }
    return answers;
  };
  const show = (...answers) => {
    page.show(...answers, health);
    showSummary(health);
  };
  feed = new Feed(read, show, showState);
  connectControls(feed);
  showState("connecting");
  feed.refresh();
}

// The statistics bring health along: a page that reads them asks once.
function withHealth(paths) {
  const isStats = (path) => path.startsWith("api/stats?");
  return paths.some(isStats) ? paths.map((path) => (isStats(path) ? `${path}&health=true` : path)) : [...paths, "api/health"];
}
