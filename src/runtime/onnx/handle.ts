/**
 * Ownership of native objects by counting who needs them, so that `release()` may be called at any
 * time, even while a run is in flight.
 */

import type { Pointer } from "./ort_api.ts";

/**
 * A counted resource. The maker holds one count, given up by `release()`; everything that uses the
 * resource holds another from `retain()` to `drop()`. Freed once, when no count is left; then the
 * resources it needs are dropped.
 */
export class Counted {
  readonly #free: () => void;
  readonly #needs: readonly Counted[];
  #count = 1;
  #released = false;

  /** `needs` are retained until this one is freed. */
  constructor(free: () => void, needs: readonly Counted[]) {
    this.#free = free;
    this.#needs = needs;
    for (const need of needs) need.retain();
  }

  /** Whether its maker has released it, although it may live on while it is in use. */
  get released(): boolean {
    return this.#released;
  }

  /** Whether it still exists. */
  get alive(): boolean {
    return this.#count > 0;
  }

  retain(): void {
    if (this.#count === 0) throw new Error("internal: resource retained after it was freed");
    this.#count++;
  }

  drop(): void {
    if (this.#count === 0) throw new Error("internal: resource freed twice");
    if (--this.#count > 0) return;
    this.#free();
    for (const need of this.#needs) need.drop();
  }

  /** Gives the maker's count up. Idempotent. */
  release(): void {
    if (this.#released) return;
    this.#released = true;
    this.drop();
  }
}

/** A counted native object. */
export class Handle extends Counted {
  readonly #pointer: Pointer;

  /** Takes `pointer` over; `needs` are retained until it is freed. */
  constructor(
    pointer: Pointer,
    free: (pointer: Pointer) => void,
    needs: readonly Counted[] = [],
  ) {
    super(() => free(pointer), needs);
    this.#pointer = pointer;
  }

  /** The native address. */
  get pointer(): Pointer {
    if (!this.alive) throw new Error("internal: native object used after it was freed");
    return this.#pointer;
  }
}
