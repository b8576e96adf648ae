/**
 * How training takes the device beside serving: all of it while nothing is served, and at most a
 * share of its time under traffic.
 */
import type { DeviceLock, Turn } from "./device_lock.ts";

/** Milliseconds without foreground work after which there is no traffic. */
const QUIET_MS = 40;
/** Background work's priority in the device lock: after all foreground work (0). */
const PRIORITY = 1;

export interface BackgroundOptions {
  /** 0 < share ≤ 1: how much of the device's time background work may take under traffic. */
  readonly share: number;
  /** Milliseconds of some clock. */
  readonly now?: () => number;
}

export class BackgroundTurns {
  readonly #lock: DeviceLock;
  readonly #now: () => number;
  /** Milliseconds of background work allowed for each millisecond of foreground work. */
  readonly #ratio: number;
  /** Milliseconds of background work beyond what foreground work has allowed so far. */
  #debt = 0;
  /** `foreground.total` that `#debt` takes into account. */
  #paidUntil = 0;

  /** @throws {RangeError} for a share outside 0 … 1. */
  constructor(lock: DeviceLock, { share, now = () => performance.now() }: BackgroundOptions) {
    if (!(share > 0 && share <= 1)) {
      throw new RangeError(
        `Cannot train in the background: share is ${share}, above 0 to 1 is wanted`,
      );
    }
    this.#lock = lock;
    this.#now = now;
    this.#ratio = share / (1 - share);
  }

  /** One turn of the device; under traffic only once the share allows it. */
  async take(): Promise<Turn> {
    while (this.#mustWait()) await this.#lock.foregroundEnds(QUIET_MS);
    const turn = await this.#lock.take(PRIORITY);
    const began = this.#now();
    const release = () => {
      this.#debt += this.#now() - began;
      turn.release();
    };
    return { release, [Symbol.dispose]: release };
  }

  #mustWait(): boolean {
    const { foreground } = this.#lock;
    const quiet = !foreground.held && this.#now() - foreground.ended > QUIET_MS;
    // time not used is not saved up: it would come back as one long pause of serving
    this.#debt = quiet
      ? 0
      : Math.max(0, this.#debt - (foreground.total - this.#paidUntil) * this.#ratio);
    this.#paidUntil = foreground.total;
    return this.#debt > 0;
  }
}
