/**
 * Factor sets of one base: their shapes are known for good, their numbers are in memory within a
 * bound, and a store, where there is one, keeps them for all processes. Trap: a set without a way back
 * stays in memory; one that can be had again leaves it when others need the room, the least recently
 * used first. (So it is no `Lru`: bytes are counted, and some never go.)
 */
import type { LaneSource, OpenedLane } from "../../src/engine/lane_pool.ts";
import type { ServedCore } from "../../src/engine/request/request.ts";
import type { Base } from "../../src/executor/base.ts";
import { FieldRangeError, isFieldError, readField } from "../../src/util/errors.ts";
import type { FactorSet, FactorShape } from "../lotr/factors.ts";
import { readFactors, writeFactors } from "../lotr/format.ts";
import type { Stack } from "../lotr/stack.ts";
import type { FactorStore } from "../store/store.ts";

/** A core of the store that cannot be served now. */
export class UnservableError extends Error {
  override readonly name = "UnservableError";
  constructor(
    /** "damaged": its content is; "factors": its factor set is not here. */
    readonly reason: "damaged" | "factors",
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

interface Held {
  readonly shape: FactorShape;
  readonly bytes: number;
  /** Reads its numbers again; undefined = they stay in memory. */
  readonly reload: (() => Promise<FactorSet>) | undefined;
  set: FactorSet | undefined;
  usedAt: number;
  loading: Promise<FactorSet> | undefined;
}

type Kept = Pick<FactorStore, "add" | "get" | "list">;

export class FactorSets {
  readonly #stack: Stack;
  readonly #maxBytes: number;
  /** In order of addition. */
  readonly #sets = new Map<string, Held>();
  /** Sets that are being read from the store, by digest. */
  readonly #reading = new Map<string, Promise<void>>();
  /** Digests that the store has. */
  readonly #kept = new Set<string>();
  #store: Kept | undefined;
  #uses = 0;

  /** @param maxBytes bound on the numbers of sets that can be had again; default 64 MiB */
  constructor(stack: Stack, maxBytes: number = 64 * 2 ** 20) {
    this.#stack = stack;
    this.#maxBytes = maxBytes;
  }

  /** Bytes in memory of the sets that can be read again. */
  get bytes(): number {
    let bytes = 0;
    for (const held of this.#sets.values()) if (isPassing(held)) bytes += held.bytes;
    return bytes;
  }

  /**
   * Uses a store from now on: reads sets from it, and keeps sets in it, first of all the loaded
   * ones.
   */
  async keepIn(store: Kept): Promise<void> {
    this.#store = store;
    for (const { digest } of await store.list()) this.#kept.add(digest);
    for (const set of this.inMemory()) await this.keep(set);
  }

  /**
   * Makes a set known. With `reload` its numbers may leave memory, without it they stay.
   * @throws {FieldError} naming both digests or widths where the set is not of this base
   */
  add(set: FactorSet, reload?: () => Promise<FactorSet>): void {
    set.checkStack(this.#stack);
    const known = this.#sets.get(set.digest);
    if (known !== undefined && (known.reload === undefined || reload !== undefined)) return;
    const { shape, byteLength: bytes } = set;
    const usedAt = ++this.#uses;
    this.#sets.set(set.digest, { shape, bytes, reload, set, usedAt, loading: undefined });
    this.#makeRoom();
  }

  has(digest: string): boolean {
    return this.#sets.has(digest);
  }

  /** Those whose numbers are in memory, in order of addition. */
  inMemory(): readonly FactorSet[] {
    return [...this.#sets.values()].flatMap(({ set }) => set ?? []);
  }

  /** A set without its numbers. @throws {FieldRangeError} naming the sets there are */
  shapeOf(digest: string): FactorShape {
    return this.#held(digest).shape;
  }

  /** A set with its numbers. @throws as `ensure` does; what reading it again throws */
  async get(digest: string): Promise<FactorSet> {
    await this.ensure(digest);
    const held = this.#held(digest);
    held.usedAt = ++this.#uses;
    if (held.set !== undefined || held.reload === undefined) return held.set ?? unreachable(digest);
    held.loading ??= held.reload();
    try {
      held.set = await held.loading;
    } finally {
      held.loading = undefined;
    }
    const { set } = held;
    this.#makeRoom();
    return set;
  }

  /** Keeps a set in the store, and makes it known here. @throws as `add` does */
  async keep(set: FactorSet): Promise<void> {
    const { digest } = set;
    if (this.#store !== undefined && !this.#kept.has(digest)) {
      await this.#store.add(digest, writeFactors(set));
      this.#kept.add(digest);
    }
    if (!this.has(digest)) this.add(set, () => this.#read(digest));
  }

  /** That the store's copy of a set has come or gone: who keeps it asks again. */
  recheck(digest: string): void {
    this.#kept.delete(digest);
  }

  /**
   * Reads a set from the store, once for all who ask; does nothing for a set that is known.
   * @throws {FieldRangeError} for an unknown digest; {FieldError} where it is of another base
   */
  async ensure(digest: string): Promise<void> {
    if (this.has(digest)) return;
    const again = () => this.#read(digest);
    const reading = this.#reading.get(digest) ?? again().then((set) => this.add(set, again));
    this.#reading.set(digest, reading);
    try {
      await reading;
    } finally {
      this.#reading.delete(digest);
    }
  }

  /** As `ensure`, for a core that a request names; a LoRA has none. @throws {UnservableError} where that cannot be */
  async ensureFor({ name, factors }: ServedCore): Promise<void> {
    if (factors === undefined) return;
    try {
      await this.ensure(factors);
    } catch (cause) {
      if (!isFieldError(cause)) throw cause;
      throw new UnservableError("factors", `Cannot serve '${name}': ${cause.message}`, { cause });
    }
  }

  async #read(digest: string): Promise<FactorSet> {
    const file = await this.#store?.get(digest);
    if (file !== undefined) return readField("factors", () => readFactors(file));
    // whoever brings it again mends it
    this.#kept.delete(digest);
    this.#held(digest);
    throw new FieldRangeError(
      "factors",
      `Cannot use factor set ${digest}: it is not in the store any more`,
    );
  }

  #held(digest: string): Held {
    const held = this.#sets.get(digest);
    if (held !== undefined) return held;
    throw new FieldRangeError(
      "factors",
      `Cannot use factor set ${digest}: loaded are [${[...this.#sets.keys()].join(", ")}]`,
    );
  }

  #makeRoom(): void {
    let excess = this.bytes - this.#maxBytes;
    if (excess <= 0) return;
    const passing = [...this.#sets.values()].filter(isPassing).sort((a, b) => a.usedAt - b.usedAt);
    for (const held of passing) {
      if (excess <= 0) return;
      held.set = undefined;
      excess -= held.bytes;
    }
  }
}

function isPassing({ set, reload }: Held): boolean {
  return set !== undefined && reload !== undefined;
}

function unreachable(digest: string): never {
  throw new Error(`internal: factor set ${digest} left memory without a way back`);
}

/** Opens lanes of a base for factor sets when the engine asks for them. */
export class BaseLanes implements LaneSource {
  readonly #base: Base;
  readonly #sets: FactorSets;

  constructor(base: Base, sets: FactorSets) {
    this.#base = base;
    this.#sets = sets;
  }

  bytes(factors: string): number | undefined {
    const known = this.#sets.has(factors);
    return known ? this.#base.laneBytes(this.#sets.shapeOf(factors)) : undefined;
  }

  async open(factors: string): Promise<OpenedLane> {
    const model = await this.#base.lane(await this.#sets.get(factors));
    return { model, close: () => this.#base.drop(model) };
  }
}
