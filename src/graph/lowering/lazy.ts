/** One result for several weights that are made together. */

/**
 * What `make` gives. It is not kept: weights that are asked for within one turn of the event loop get
 * the same, later ones have it made again.
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
