/**
 * Native calls one after the other: for devices on which two calls at once, whichever they are, end
 * the process.
 */
export class CallQueue {
  #last: Promise<unknown> = Promise.resolve();

  /** Makes the call when all those before it have returned; rejects as it does, which stops no other. */
  run<T>(call: () => T | Promise<T>): Promise<T> {
    const result = this.#last.then(call);
    this.#last = result.catch(() => {});
    return result;
  }
}

/** Calls of one kind that run side by side. */
interface Turn<K> {
  readonly kind: K;
  readonly began: Promise<void>;
  readonly calls: Promise<unknown>[];
}

/**
 * Native calls by what they need of the process: calls of one kind overlap, and kinds take turns, in
 * the order in which they came.
 */
export class Turns<K> {
  readonly #enter: (kind: K) => () => void;
  readonly #queue = new CallQueue();
  #latest: Turn<K> | undefined;

  /** `enter` makes the process as a kind needs it, and returns what makes it as it was. */
  constructor(enter: (kind: K) => () => void) {
    this.#enter = enter;
  }

  /** Rejects as the call does, which stops no other, or as `enter` did. */
  run<T>(kind: K, call: () => Promise<T>): Promise<T> {
    const turn = this.#latest?.kind === kind ? this.#latest : this.#begin(kind);
    const result = turn.began.then(call);
    turn.calls.push(result.catch(() => {}));
    return result;
  }

  #begin(kind: K): Turn<K> {
    const { promise: began, resolve, reject } = Promise.withResolvers<void>();
    const turn: Turn<K> = { kind, began, calls: [] };
    this.#latest = turn;
    this.#queue.run(async () => {
      try {
        const leave = this.#enter(kind);
        resolve();
        // calls join while others run
        for (const call of turn.calls) await call;
        leave();
      } catch (error) {
        reject(error);
      } finally {
        if (this.#latest === turn) this.#latest = undefined;
      }
    });
    return turn;
  }
}
