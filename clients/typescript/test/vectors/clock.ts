import { setImmediate as turn } from "node:timers/promises";

interface Timer {
  readonly at: number;
  readonly run: () => void;
}

/** A steady clock and a wall clock that move only when told to, with the timers of the platform on the steady one. */
export class Clock {
  /** Both in milliseconds. The service's clock is the steady one. */
  steady = 0;
  wall = Date.UTC(2026, 0, 1);
  readonly #start = this.wall;
  readonly #timers = new Map<number, Timer>();
  #last = 0;

  /** The time of the service. */
  get service(): number {
    return this.#start + this.steady;
  }

  /** Replaces the timers of the platform until the function that it returns is called. */
  install(): () => void {
    const { setTimeout, clearTimeout } = globalThis;
    globalThis.setTimeout = ((run: () => void, delay = 0) => {
      this.#timers.set(++this.#last, { at: this.steady + delay, run });
      return this.#last;
    }) as typeof globalThis.setTimeout;
    globalThis.clearTimeout = ((id: number) => void this.#timers.delete(id)) as typeof globalThis.clearTimeout;
    return () => Object.assign(globalThis, { setTimeout, clearTimeout });
  }

  /** Lets both clocks go on, and runs the timers that come due, each at its time. */
  async advance(milliseconds: number): Promise<void> {
    const end = this.steady + milliseconds;
    for (;;) {
      await settle();
      const next = [...this.#timers].filter(([, timer]) => timer.at <= end).sort(([, a], [, b]) => a.at - b.at)[0];
      if (next === undefined) {
        break;
      }
      this.#timers.delete(next[0]);
      this.#move(Math.max(next[1].at, this.steady));
      next[1].run();
    }
    this.#move(end);
    await settle();
  }

  #move(to: number): void {
    this.wall += to - this.steady;
    this.steady = to;
  }
}

/** Lets everything run that waits for no timer and no answer. */
export async function settle(): Promise<void> {
  for (let i = 0; i < 30; i++) {
    await turn();
  }
}
