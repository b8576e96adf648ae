/**
 * One model and the rows it runs: which sequence sits in which slot. Slots in use are always
 * 0 … count-1; when a sequence leaves, the last one moves into its place. It knows no policy. Trap:
 * a lane that is not open yet has no model.
 */
import { tokensWithin } from "../executor/kv_cache.ts";
import type { BatchModel } from "../executor/model.ts";
import type { Sequence } from "./sequence.ts";

export interface LaneShape {
  readonly slots: number;
  /** What its model takes, keys and values aside. */
  readonly bytes: number;
}

export class Lane {
  /** Digest of the factor set whose cores run here; undefined = base rows only. */
  readonly factors: string | undefined;
  readonly bytes: number;
  /** Takes no new sequences: it is being removed. */
  closing = false;
  /** Counts up with each request that names it, over all lanes. */
  usedAt = 0;
  /** Whether the last prefill continued a long prompt: the next one lets first prompts pass. */
  continued = false;
  readonly #slots: number;
  readonly #rows: Sequence[] = [];
  readonly #tokens: Int32Array;
  readonly #lengths: Int32Array;
  #model: BatchModel | undefined;

  constructor(factors: string | undefined, { slots, bytes }: LaneShape) {
    this.factors = factors;
    this.bytes = bytes;
    this.#slots = slots;
    this.#tokens = new Int32Array(slots);
    this.#lengths = new Int32Array(slots);
  }

  /** Gives it its model. @throws {RangeError} where that has another number of slots. */
  open(model: BatchModel): this {
    if (model.maxBatch !== this.#slots) {
      throw new RangeError(`internal: a lane of ${this.#slots} slots got ${model.maxBatch}`);
    }
    this.#model = model;
    return this;
  }

  get isOpen(): boolean {
    return this.#model !== undefined;
  }

  get model(): BatchModel {
    if (this.#model === undefined) throw new Error("internal: a lane without a model is used");
    return this.#model;
  }

  /** The sequence of each slot in use. */
  get rows(): readonly Sequence[] {
    return this.#rows;
  }

  get freeSlots(): number {
    return this.#slots - this.#rows.length;
  }

  /** Bytes of a slot in memory that its row, if it has one, has not reserved. */
  spareBytes(slot: number): number {
    return Math.max(0, this.model.residentBytes(slot) - (this.#rows[slot]?.reserved ?? 0));
  }

  /** Gives spare pages of a slot back, if possible `wanted` bytes; returns how many. */
  trimSpare(slot: number, wanted: number): number {
    const spare = this.spareBytes(slot);
    if (spare === 0) return 0;
    const kept = this.model.residentBytes(slot) - Math.min(spare, wanted);
    this.model.trim(slot, tokensWithin(kept, this.model.kvBytesPerToken));
    return spare - this.spareBytes(slot);
  }

  /** Gives a sequence the next slot and its core; without keys and values yet. */
  admit(sequence: Sequence): number {
    if (this.freeSlots <= 0) throw new Error(`internal: no slot for ${sequence.label}`);
    const slot = this.#rows.length;
    this.#rows.push(sequence);
    sequence.slot = slot;
    sequence.computed = 0;
    this.model.setCore(slot, sequence.lease?.core);
    return slot;
  }

  /** Takes sequences out, highest slot first, so that none of them is moved on the way. */
  remove(sequences: readonly Sequence[]): void {
    const slots = sequences.map((sequence) => this.#slotOf(sequence)).sort((a, b) => b - a);
    for (const slot of slots) this.#vacate(slot);
  }

  /**
   * Input of one decode run: all rows up to the last running one. A row that is still in prefill
   * below it takes part with a token whose keys and values its next chunk overwrites.
   */
  decodeInput(): { readonly tokens: Int32Array; readonly lengths: Int32Array } {
    let count = 0;
    for (const [slot, row] of this.#rows.entries()) {
      if (row.state === "running") count = slot + 1;
      this.#tokens[slot] = row.lastToken;
      this.#lengths[slot] = row.computed;
    }
    return { tokens: this.#tokens.subarray(0, count), lengths: this.#lengths.subarray(0, count) };
  }

  #slotOf(sequence: Sequence): number {
    const { slot } = sequence;
    if (slot === undefined || this.#rows[slot] !== sequence) {
      throw new Error(`internal: ${sequence.label} is not in slot ${slot} of its lane`);
    }
    return slot;
  }

  #vacate(slot: number): void {
    const last = this.#rows.pop();
    const lastSlot = this.#rows.length;
    if (last !== undefined && slot !== lastSlot) {
      const leaving = this.#rows[slot];
      if (leaving !== undefined) leaving.slot = undefined;
      this.#rows[slot] = last;
      last.slot = slot;
      this.model.move(lastSlot, slot, last.computed);
    } else if (last !== undefined) {
      last.slot = undefined;
    }
    this.model.free(lastSlot);
  }
}
