/** The open lanes of an encoder, by factor set: a few, the least recently used one goes first. */
import type { EncoderLane } from "../../executor/encoder/encoder_base.ts";

/** Lanes beside the base's. */
const MOST_LANES = 4;

export class EmbedLanes {
  readonly #open: (factors: string | undefined) => Promise<EncoderLane>;
  /** In the order of their last use. */
  readonly #lanes = new Map<string | undefined, Promise<EncoderLane>>();

  constructor(open: (factors: string | undefined) => Promise<EncoderLane>) {
    this.#open = open;
  }

  get count(): number {
    return this.#lanes.size;
  }

  /** Opens a lane where it is not there. @throws what opening it throws */
  async ready(factors: string | undefined): Promise<void> {
    await this.get(factors);
  }

  /** For the pass that is about to run: no other may run meanwhile, as it may close a lane. */
  async get(factors: string | undefined): Promise<EncoderLane> {
    const known = this.#lanes.get(factors);
    const opening = known ?? this.#open(factors);
    this.#lanes.delete(factors);
    this.#lanes.set(factors, opening);
    try {
      const lane = await opening;
      return lane;
    } catch (error) {
      if (this.#lanes.get(factors) === opening) this.#lanes.delete(factors);
      throw error;
    }
  }

  /** Closes what is too many; between passes. */
  async trim(): Promise<void> {
    while (this.#lanes.size > MOST_LANES) {
      const [oldest] = this.#lanes.keys();
      const lane = this.#lanes.get(oldest);
      this.#lanes.delete(oldest);
      (await lane)?.release();
    }
  }

  async release(): Promise<void> {
    for (const opening of this.#lanes.values()) {
      const lane = await opening.catch(() => undefined);
      lane?.release();
    }
    this.#lanes.clear();
  }
}
