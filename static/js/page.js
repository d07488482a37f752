// Starts a page: its theme, its header and the feed of its numbers.

import { Feed } from "./feed.js";
import { connectControls, drawHeader, showState, showSummary } from "./header.js";
import { applyTheme } from "./theme.js";

// `create()` wires the page and returns `paths` of the API, the last of which is api/health, and `show(...answers)`.
export function startPage(name, create) {
  applyTheme();
  drawHeader(name);
  const page = create();
  const show = (...answers) => {
    showSummary(answers.at(-1));
    page.show(...answers);
  };
  const feed = new Feed(page.paths, show, showState);
  connectControls(feed);
  showState("connecting");
  feed.refresh();
}
