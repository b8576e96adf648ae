/**
 * The factor sets that a process knows: their shapes for good, their numbers within a bound. A set
 * that can be had again leaves memory when others need the room, the least recently used first; one
 * that was handed in without a way back stays.
 */
import { FieldRangeError } from "../../src/util/errors.ts";
import type { FactorSet, FactorShape } from "../lotr/factors.ts";

interface Held {
  readonly shape: FactorShape;
  readonly bytes: number;
  /** Undefined = it stays in memory. */
  readonly reload: (() => Promise<FactorSet>) | undefined;
  set: FactorSet | undefined;
  usedAt: number;
  loading: Promise<FactorSet> | undefined;
}

export class HeldFactors {
  readonly #maxBytes: number;
  /** In order of addition. */
  readonly #sets = new Map<string, Held>();
  #uses = 0;

  /** @param maxBytes bound on the sets that can be had again */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Bytes of the sets in memory that can be had again. */
  get bytes(): number {
    let bytes = 0;
    for (const held of this.#sets.values()) if (isPassing(held)) bytes += held.bytes;
    return bytes;
  }

  add(set: FactorSet, reload?: () => Promise<FactorSet>): void {
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

  /** Those in memory, in order of addition. */
  inMemory(): readonly FactorSet[] {
    return [...this.#sets.values()].flatMap(({ set }) => set ?? []);
  }

  /** @throws {FieldRangeError} naming the sets there are */
  shapeOf(digest: string): FactorShape {
    return this.#held(digest).shape;
  }

  /**
   * The set itself, had again where it has left memory.
   * @throws {FieldRangeError} naming the sets there are; what its way back throws
   */
  async get(digest: string): Promise<FactorSet> {
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
