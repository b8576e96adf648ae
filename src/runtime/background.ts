/**
 * How background work (training) takes the device beside foreground work (serving): all of it while
 * nothing else runs, and at most a share of it under traffic. It owns that account; who is served or
 * trained it does not know.
 */
import type { DeviceLease, Turn } from "./lease.ts";

/** Foreground work that ended longer ago than this, in milliseconds, is no traffic. */
const QUIET_MS = 40;
/** Background's number in the lease: after all foreground work. */
const PRIORITY = 1;

export interface BackgroundOptions {
  /** 0 < share ≤ 1: how much of the device's time background work may take under traffic. */
  readonly share: number;
  /** Milliseconds of some clock. */
  readonly now?: () => number;
}

export class BackgroundTurns {
  readonly #lease: DeviceLease;
  readonly #now: () => number;
  /** Background milliseconds for each of the foreground. */
  readonly #ratio: number;
  /** Background milliseconds that the foreground's have not paid for yet. */
  #debt = 0;
  #paidUntil = 0;

  /** @throws {RangeError} for a share outside 0 … 1. */
  constructor(lease: DeviceLease, { share, now = () => performance.now() }: BackgroundOptions) {
    if (!(share > 0 && share <= 1)) {
      throw new RangeError(
        `Cannot train in the background: share is ${share}, above 0 to 1 is wanted`,
      );
    }
    this.#lease = lease;
    this.#now = now;
    this.#ratio = share / (1 - share);
  }

  /** One turn of the device; under traffic only once the share allows it. */
  async take(): Promise<Turn> {
    while (this.#mustWait()) await this.#lease.foregroundEnds(QUIET_MS);
    const turn = await this.#lease.take(PRIORITY);
    const began = this.#now();
    const release = () => {
      this.#debt += this.#now() - began;
      turn.release();
    };
    return { release, [Symbol.dispose]: release };
  }

  #mustWait(): boolean {
    const { foreground } = this.#lease;
    const quiet = !foreground.held && this.#now() - foreground.ended > QUIET_MS;
    // What was not used is not saved up: it would come back as one long gap.
    this.#debt = quiet
      ? 0
      : Math.max(0, this.#debt - (foreground.total - this.#paidUntil) * this.#ratio);
    this.#paidUntil = foreground.total;
    return this.#debt > 0;
  }
}
