/**
 * A batch model that answers at once: what is left when it stands in for the real one is everything
 * but ONNX Runtime. It keeps no keys and values; its tokens are ordinary ones of the vocabulary.
 */
import type { BatchModel, KvBlock, PrefillRow, Sampled, SampleRow } from "../src/executor/model.ts";

const NOTHING: KvBlock = { length: 0, byteLength: 0, release: () => {} };

export class InstantModel implements BatchModel {
  readonly maxContext = 2048;
  readonly kvBytesPerToken = 1;
  readonly prefillTokens = 1024;
  readonly scoredTokens = 32;
  readonly draftTokens = 0;
  #drawn = 0;

  /** `tokens`: ids to answer with, in turn. */
  constructor(
    readonly vocabSize: number,
    readonly maxBatch: number,
    readonly tokens: readonly number[],
  ) {}

  chunkTokens(): number {
    return this.prefillTokens;
  }

  prepare(): undefined {}

  setAdapter(): void {}

  prefill(_rows: readonly PrefillRow[]): Promise<void> {
    return Promise.resolve();
  }

  score(): Promise<readonly Sampled[]> {
    return Promise.reject(new TypeError("Cannot score: this model computes nothing"));
  }

  draft(): Promise<void> {
    return Promise.resolve();
  }

  sampleDraft(rows: readonly SampleRow[]): Promise<readonly Sampled[]> {
    return this.sample(rows);
  }

  decode(): Promise<void> {
    return Promise.resolve();
  }

  sample(rows: readonly SampleRow[]): Promise<readonly Sampled[]> {
    return Promise.resolve(rows.map(() => ({
      token: this.tokens[this.#drawn++ % this.tokens.length] ?? 0,
    })));
  }

  move(): void {}

  free(): void {}

  residentBytes(): number {
    return 0;
  }

  trim(): void {}

  checkIntegrity(): void {}

  save(): KvBlock {
    return NOTHING;
  }

  load(): void {}
}
