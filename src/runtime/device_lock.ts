/**
 * A mutex with priorities that the engine and a trainer share, so that one of them at a time runs
 * the device. Trap: nothing enforces it; whoever runs the device must hold a turn.
 */

/** The right to run the device until released. Releasing twice is harmless. */
export interface Turn extends Disposable {
  release(): void;
}

interface Waiter {
  readonly priority: number;
  readonly grant: (turn: Turn) => void;
}

/**
 * One turn at a time, the lowest priority number first, first come first served inside one.
 *
 * @example
 * ```ts
 * import { DeviceLock } from "./device_lock.ts";
 * const lock = new DeviceLock();
 * using _turn = await lock.take(0);
 * ```
 */
export class DeviceLock {
  #held: Turn | undefined;
  readonly #waiters: Waiter[] = [];
  readonly #foreground = { held: false, total: 0, ended: -Infinity };
  #listeners: (() => void)[] = [];

  get held(): boolean {
    return this.#held !== undefined;
  }

  /**
   * Of turns of priority 0: whether one is held, how long all of them were held (milliseconds), and
   * when the last one ended (`performance.now()`; -Infinity where none has).
   */
  get foreground(): { readonly held: boolean; readonly total: number; readonly ended: number } {
    return this.#foreground;
  }

  /** Resolves when a turn of priority 0 ends, or after so many milliseconds. */
  foregroundEnds(milliseconds: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      this.#listeners.push(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }

  /**
   * Whether someone with a lower number than `priority` waits: a holder of that priority should
   * yield.
   */
  wanted(priority: number): boolean {
    const first = this.#waiters[0];
    return first !== undefined && first.priority < priority;
  }

  /** A turn at once where the device is free, a promise of one otherwise. */
  take(priority: number): Turn | Promise<Turn> {
    if (this.#held === undefined) return this.#grant(priority);
    return new Promise((grant) => {
      const after = this.#waiters.findIndex((waiter) => waiter.priority > priority);
      const at = after === -1 ? this.#waiters.length : after;
      this.#waiters.splice(at, 0, { priority, grant });
    });
  }

  #grant(priority: number): Turn {
    const began = performance.now();
    const release = () => {
      if (this.#held !== turn) return;
      const next = this.#waiters.shift();
      this.#held = undefined;
      if (priority === 0) this.#foregroundEnded(began);
      if (next !== undefined) next.grant(this.#grant(next.priority));
    };
    const turn: Turn = { release, [Symbol.dispose]: release };
    this.#held = turn;
    if (priority === 0) this.#foreground.held = true;
    return turn;
  }

  #foregroundEnded(began: number): void {
    const now = performance.now();
    this.#foreground.held = false;
    this.#foreground.total += now - began;
    this.#foreground.ended = now;
    const listeners = this.#listeners;
    this.#listeners = [];
    for (const tell of listeners) tell();
  }
}
