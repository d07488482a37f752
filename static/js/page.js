// Starts a page: its theme, its header and the feed of its numbers.

import { Feed } from "./feed.js";
import { connectControls, drawHeader, showState, showSummary } from "./header.js";
import { applyTheme } from "./theme.js";

// `create(refresh, more)` wires the page and returns `paths` of the API, the last of which is api/health, and
// `show(...answers)`. `refresh()` is for a page that has changed its `paths`, or something at the proxy; after `more()`
// answers that are on their way are shown all the same.
export function startPage(name, create) {
  applyTheme();
  drawHeader(name);
  let feed;
  const page = create(() => feed.restart(), () => feed.more());
  const show = (...answers) => {
    page.show(...answers);
    showSummary(answers.at(-1));
  };
  feed = new Feed(() => page.paths, show, showState);
  connectControls(feed);
  showState("connecting");
  feed.refresh();
}
