/**
 * Native calls one after the other: for devices on which two calls at once, whichever they are, end
 * the process, and for those that depend on the state of the process.
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
