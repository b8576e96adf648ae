/**
 * Views of a lane's tensors over ranges of slots. The last ones used are kept, not all: every pair
 * of a first slot and a count is possible. Releasing a view is safe at any time, because a binding
 * keeps the native tensors that it was made with.
 */

import { Lru } from "../util/memo.ts";

/** Ranges of slots whose views are kept: enough for every decode batch and as many prefills. */
const KEPT_RANGES = 64;

interface Range<T> {
  readonly views: readonly T[];
  /** The tensors that the views are made of. */
  readonly made: DisposableStack;
}

export class SlotViews<T> {
  readonly #make: (first: number, count: number, made: DisposableStack) => readonly T[];
  /** By range. */
  readonly #kept = new Lru<string, Range<T>>(KEPT_RANGES, ({ made }) => made.dispose());

  /** @param make adds to `made` what is released with the views */
  constructor(make: (first: number, count: number, made: DisposableStack) => readonly T[]) {
    this.#make = make;
  }

  /** Ranges that are kept. */
  get size(): number {
    return this.#kept.size;
  }

  /** Views over slots first … first + count - 1; asking again soon costs nothing. */
  of(first: number, count: number): readonly T[] {
    const key = `${first}+${count}`;
    const known = this.#kept.get(key);
    if (known !== undefined) return known.views;
    const range = this.#makeRange(first, count);
    this.#kept.set(key, range);
    return range.views;
  }

  release(): void {
    for (const { made } of this.#kept.values()) made.dispose();
    this.#kept.clear();
  }

  /** @throws {Error} `internal: …` where more are kept than may be. */
  checkIntegrity(): void {
    if (this.size <= KEPT_RANGES) return;
    throw new Error(`internal: views of ${this.size} ranges are kept, at most ${KEPT_RANGES}`);
  }

  #makeRange(first: number, count: number): Range<T> {
    using made = new DisposableStack();
    const views = this.#make(first, count, made);
    return { views, made: made.move() };
  }
}
