/**
 * Views of a lane's tensors over some slots, kept for the next binding of the same slots: the last
 * ones used, since every pair of a first slot and a count is possible. A binding holds the native
 * tensors that it was made with, so letting a view go never takes one from under it.
 */
import type { Tensor } from "../runtime/device.ts";

/** Ranges of slots whose views are kept: every decode's and as many prefills'. */
const KEPT_RANGES = 64;

export class SlotViews<T> {
  readonly #make: (first: number, count: number) => readonly T[];
  readonly #tensorsOf: (view: T) => readonly Tensor[];
  /** By range; the longest unused first. */
  readonly #kept = new Map<string, readonly T[]>();

  /** `tensorsOf` says what of a view is to be released with it. */
  constructor(
    make: (first: number, count: number) => readonly T[],
    tensorsOf: (view: T) => readonly Tensor[],
  ) {
    this.#make = make;
    this.#tensorsOf = tensorsOf;
  }

  /** Ranges that are kept. */
  get size(): number {
    return this.#kept.size;
  }

  /** Views over slots first … first + count - 1; asking again soon costs nothing. */
  of(first: number, count: number): readonly T[] {
    const key = `${first}+${count}`;
    const views = this.#kept.get(key) ?? this.#make(first, count);
    this.#kept.delete(key);
    this.#kept.set(key, views);
    const [oldest] = this.#kept;
    if (this.#kept.size > KEPT_RANGES && oldest !== undefined) {
      this.#kept.delete(oldest[0]);
      this.#drop(oldest[1]);
    }
    return views;
  }

  release(): void {
    for (const views of this.#kept.values()) this.#drop(views);
    this.#kept.clear();
  }

  /** @throws {Error} `internal: …` where more are kept than may be. */
  checkIntegrity(): void {
    if (this.size <= KEPT_RANGES) return;
    throw new Error(`internal: views of ${this.size} ranges are kept, at most ${KEPT_RANGES}`);
  }

  #drop(views: readonly T[]): void {
    for (const view of views) for (const tensor of this.#tensorsOf(view)) tensor.release();
  }
}
