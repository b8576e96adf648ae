/**
 * Pages of keys and values that no row reserves: what left rows and padding touched, kept because the
 * next row in the slot would have the system bring them again. They count, and go first where room is
 * short: those of lanes without rows before others', and of each lane the last slots', which are used
 * again last.
 */
import type { Lane } from "../lane.ts";

export class SpareRoom {
  readonly #lanes: () => readonly Lane[];

  constructor(lanes: () => readonly Lane[]) {
    this.#lanes = lanes;
  }

  get bytes(): number {
    let bytes = 0;
    for (const lane of this.#lanes()) {
      for (let slot = 0; slot < lane.model.maxBatch; slot++) bytes += lane.spareBytes(slot);
    }
    return bytes;
  }

  /** Gives pages back until at most `bytes` are left. */
  shrinkTo(bytes: number): void {
    let excess = this.bytes - bytes;
    if (excess <= 0) return;
    const lanes = this.#lanes();
    const idleFirst = [
      ...lanes.filter(({ rows }) => rows.length === 0),
      ...lanes.filter(({ rows }) => rows.length > 0),
    ];
    for (const lane of idleFirst) {
      for (let slot = lane.model.maxBatch - 1; slot >= 0 && excess > 0; slot--) {
        excess -= lane.trimSpare(slot, excess);
      }
    }
  }
}
