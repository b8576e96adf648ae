/**
 * Whose turn the device is: a mutex with priorities, shared by the engine and a trainer so that
 * neither knows the other. It knows no device; holding a turn is a promise between its users.
 */

/** Holds the device until released. Releasing twice is harmless. */
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
 * import { DeviceLease } from "./lease.ts";
 * const lease = new DeviceLease();
 * using _turn = await lease.take(0);
 * ```
 */
export class DeviceLease {
  #held: Turn | undefined;
  readonly #waiters: Waiter[] = [];

  get held(): boolean {
    return this.#held !== undefined;
  }

  /** Whether someone waits with a number below `priority`: a holder of that priority should yield. */
  wanted(priority: number): boolean {
    const first = this.#waiters[0];
    return first !== undefined && first.priority < priority;
  }

  /** A turn at once where the device is free, a promise of one otherwise. */
  take(priority: number): Turn | Promise<Turn> {
    if (this.#held === undefined) return this.#grant();
    return new Promise((grant) => {
      const after = this.#waiters.findIndex((waiter) => waiter.priority > priority);
      const at = after === -1 ? this.#waiters.length : after;
      this.#waiters.splice(at, 0, { priority, grant });
    });
  }

  #grant(): Turn {
    const release = () => {
      if (this.#held !== turn) return;
      const next = this.#waiters.shift();
      this.#held = undefined;
      if (next !== undefined) next.grant(this.#grant());
    };
    const turn: Turn = { release, [Symbol.dispose]: release };
    this.#held = turn;
    return turn;
  }
}
