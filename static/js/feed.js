// Reads the page's paths of the API again and again, one round at a time, unless paused or out of sight.

import { ApiError, readJson } from "./api.js";
import { preferences } from "./preferences.js";

const LATE = 4_000; // an answer that takes longer is called late, in ms
const RETRY = 3_000; // the longest pause between attempts while lavaproxy does not answer, in ms

export class Feed {
  paused = false;
  #busy = false;
  #timer = 0;
  #round = 0;
  #isDue = false;

  // `paths()` are to be read, `show(...answers)` gets one answer per path, `showState(state)` each state of the feed.
  constructor(paths, show, showState) {
    Object.assign(this, { paths, show, showState });
    document.addEventListener("visibilitychange", () => this.resume());
  }

  get #waits() {
    return this.paused || document.hidden;
  }

  resume() {
    if (this.#waits) clearTimeout(this.#timer);
    else this.refresh();
  }

  pause(paused) {
    this.paused = paused;
    this.showState(paused ? "paused" : "connecting");
    this.resume();
  }

  // Reads at once; answers that are on their way are out of date.
  restart() {
    this.#round++;
    this.refresh();
  }

  // Reads at once, or after the answers that are on their way.
  more() {
    this.#isDue = true;
    this.refresh();
  }

  async refresh() {
    clearTimeout(this.#timer);
    if (this.#busy) return;
    this.#busy = true;
    this.#isDue = false;
    const round = this.#round;
    const late = setTimeout(() => this.#waits || this.showState("late"), LATE);
    let state = "live";
    try {
      const answers = await Promise.all(this.paths().map((path) => readJson(path)));
      if (round === this.#round) this.show(...answers);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      ({ state } = error);
    } finally {
      clearTimeout(late);
      this.#busy = false;
      if (round === this.#round && !this.#isDue) this.#schedule(state);
      else this.refresh();
    }
    this.showState(this.paused ? "paused" : state);
  }

  #schedule(state) {
    if (this.#waits) return;
    const interval = preferences.refresh * 1000;
    this.#timer = setTimeout(() => this.refresh(), state === "live" ? interval : Math.min(interval, RETRY));
  }
}
