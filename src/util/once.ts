/**
 * A value that is made at the first asking, once for all who ask until it is there. Trap that it is
 * for: a promise kept with `??=` keeps its failure, too.
 */
export class Once<T> {
  readonly #make: () => Promise<T>;
  #value: Promise<T> | undefined;

  constructor(make: () => Promise<T>) {
    this.#make = make;
  }

  /** The value, or what its making was refused with; the next one to ask makes it anew then. */
  get(): Promise<T> {
    if (this.#value !== undefined) return this.#value;
    const made = this.#make();
    this.#value = made;
    made.catch(() => {
      if (this.#value === made) this.#value = undefined;
    });
    return made;
  }

  /** What was made, or is being made; undefined where nobody asked, or it failed. */
  get known(): Promise<T> | undefined {
    return this.#value;
  }
}
