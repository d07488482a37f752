// Reads what the page shows again and again, one round at a time, unless paused or out of sight.

import { ApiError } from "./api.js";
import { preferences } from "./preferences.js";

const LATE = 4_000; // an answer that takes longer is called late, in ms
const RETRY = 3_000; // the longest pause between attempts while lavaproxy does not answer, in ms

export class Feed {
  paused = false;
  #busy = false;
  #timer = 0;
  #round = 0;
  #isDue = false;

  // `read()` gives a promise of the answers, `show(...answers)` gets them, `showState(state)` gets each state of the feed.
  constructor(read, show, showState) {
    Object.assign(this, { read, show, showState });
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
      const answers = await this.read();
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
