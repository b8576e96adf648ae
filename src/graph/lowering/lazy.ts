/** One result for several that are read of it, made when it is asked for and not kept. */

/**
 * What `make` gives. It is not kept: whoever asks within one turn of the event loop gets the same, later
 * it is made again.
 */
export function lazy<T extends object>(make: () => T): () => T {
  let made: WeakRef<T> | undefined;
  return () => {
    const known = made?.deref();
    if (known !== undefined) return known;
    const value = make();
    made = new WeakRef(value);
    return value;
  };
}

/**
 * The same for what takes many turns: whoever asks while it is made, or in the turn in which it is done,
 * gets the same.
 */
export function together<T extends object>(make: () => T | Promise<T>): () => Promise<T> {
  let making: Promise<T> | undefined;
  let made: WeakRef<T> | undefined;
  const begin = async () => {
    try {
      const value = await make();
      made = new WeakRef(value);
      return value;
    } finally {
      making = undefined;
    }
  };
  return () => {
    const known = made?.deref();
    return known === undefined ? making ??= begin() : Promise.resolve(known);
  };
}
