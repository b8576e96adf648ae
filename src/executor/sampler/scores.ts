/** Logits of a chunk's tokens, held at once to tell how likely each token was. */
import type { Device, Tensor } from "../../runtime/device.ts";
import type { Sampled, SampleRow } from "../model.ts";
import type { Sampler } from "../sampler.ts";

/** Room for so many tokens' logits, taken when the first are wanted. */
export class Scores {
  readonly tokens: number;
  readonly #device: Device;
  readonly #scorer: Pick<Sampler, "sample" | "forget">;
  readonly #vocabSize: number;
  #logits: Tensor | undefined;

  constructor(
    device: Device,
    scorer: Pick<Sampler, "sample" | "forget">,
    tokens: number,
    vocabSize: number,
  ) {
    this.#device = device;
    this.#scorer = scorer;
    this.tokens = tokens;
    this.#vocabSize = vocabSize;
  }

  /** Where the logits of `count` tokens go, [count, V]; the caller releases it. */
  view(count: number): Tensor {
    return this.#device.view(this.#all, 0, [count, this.#vocabSize]);
  }

  /** Draws from the logits that were written last. */
  sample(rows: readonly SampleRow[]): Promise<readonly Sampled[]> {
    return this.#scorer.sample(this.#all, rows);
  }

  /** How likely each token's next one was, and the `top` most likely ones. */
  ofNext(next: ArrayLike<number>, top: number): Promise<readonly Sampled[]> {
    return this.sample(Array.from(next, (token, row) => ({
      ...{ row, temperature: 0, uniform: 0, logprobs: top, given: [token] },
    })));
  }

  release(): void {
    if (this.#logits === undefined) return;
    this.#scorer.forget(this.#logits);
    // its garbage may be collected much later: the pages go now
    this.#device.discard(this.#logits, 0, this.tokens * this.#vocabSize);
    this.#logits.release();
  }

  get #all(): Tensor {
    return this.#logits ??= this.#device.tensor("float32", [this.tokens, this.#vocabSize]);
  }
}
