/**
 * A run read to its end, for answers that are not streamed. It owns the gathering of each sample's
 * text, log probabilities and end; it knows no response shape.
 */
import type {
  FinishReason,
  GenerationDelta,
  TokenLogprob,
} from "../../src/engine/request/request.ts";

/** One sample, complete. */
export interface Sample {
  readonly index: number;
  readonly text: string;
  readonly logprobs: readonly TokenLogprob[] | undefined;
  readonly finishReason: FinishReason;
  readonly stopReason: string | number | undefined;
}

interface Gathering {
  text: string;
  logprobs: TokenLogprob[] | undefined;
  finishReason: FinishReason;
  stopReason: string | number | undefined;
}

/** Samples 0 … count-1, in order. */
export async function collect(
  deltas: AsyncIterable<GenerationDelta>,
  count: number,
): Promise<Sample[]> {
  const samples = Array.from({ length: count }, (): Gathering => ({
    text: "",
    logprobs: undefined,
    finishReason: "error",
    stopReason: undefined,
  }));
  for await (const delta of deltas) {
    const sample = samples[delta.index];
    if (sample === undefined) {
      throw new RangeError(`internal: a delta of sample ${delta.index}, of ${count} asked for`);
    }
    add(sample, delta);
  }
  return samples.map((sample, index) => ({ index, ...sample }));
}

function add(sample: Gathering, delta: GenerationDelta): void {
  sample.text += delta.text;
  if (delta.logprobs !== undefined) (sample.logprobs ??= []).push(...delta.logprobs);
  if (delta.finishReason === undefined) return;
  sample.finishReason = delta.finishReason;
  sample.stopReason = delta.stopReason;
}
