/** The sampler as its tests use it; no test. */
import type { Sampled, SampleRow } from "../../src/executor/model.ts";
import { Sampler } from "../../src/executor/sampler.ts";
import type { Tensor } from "../../src/runtime/device.ts";
import { DEVICE } from "../graph/device.ts";

/** A sampler over rows of logits. */
export class Bench implements Disposable {
  readonly #sampler: Sampler;
  readonly #logits: Tensor;
  readonly #data: Float32Array;

  constructor(readonly vocab: number, data: Float32Array) {
    this.#data = data;
    this.#sampler = new Sampler(DEVICE, vocab);
    this.#logits = DEVICE.tensor("float32", [data.length / vocab, vocab], data);
  }

  row(index: number): Float32Array {
    return this.#data.subarray(index * this.vocab, (index + 1) * this.vocab);
  }

  sample(rows: readonly SampleRow[]): Promise<readonly Sampled[]> {
    return this.#sampler.sample(this.#logits, rows);
  }

  /** Tokens drawn from one row of logits, one for each uniform number. */
  async draws(
    uniforms: ArrayLike<number>,
    row: Omit<SampleRow, "row" | "uniform"> = { temperature: 1 },
  ): Promise<number[]> {
    const rows = Array.from(uniforms, (uniform) => ({ ...row, row: 0, uniform }));
    return (await this.sample(rows)).map(({ token }) => token);
  }

  [Symbol.dispose](): void {
    this.#sampler.forget(this.#logits);
    this.#sampler.release();
    this.#logits.release();
  }
}
