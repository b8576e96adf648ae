/** How many tokens a micro-batch takes, by the size of the base. */
import { assertEquals } from "@std/assert";
import type { DecoderConfig } from "../../../src/checkpoint/checkpoint.ts";
import { openCheckpoint } from "../../../src/checkpoint/open.ts";
import { tokensAtOnce } from "../../../src/train/gradients/loss_program.ts";

/** Of SmolLM2 135M, Qwen2.5 0.5B, 1.5B and 7B. */
const SHAPES: readonly (readonly [Partial<DecoderConfig>, number])[] = [
  [{ hiddenSize: 576, intermediateSize: 1536, numLayers: 30, numHeads: 9, numKvHeads: 3 }, 1024],
  [{ hiddenSize: 896, intermediateSize: 4864, numLayers: 24, numHeads: 14, numKvHeads: 2 }, 768],
  [{ hiddenSize: 1536, intermediateSize: 8960, numLayers: 28, numHeads: 24, numKvHeads: 4 }, 256],
  [{ hiddenSize: 3584, intermediateSize: 18944, numLayers: 28, numHeads: 56, numKvHeads: 8 }, 256],
];

Deno.test("a micro-batch has fewer tokens the more a base keeps of each, and 256 at least", async () => {
  const path = new URL("../../fixtures/models/llama", import.meta.url).pathname;
  using checkpoint = await openCheckpoint(path);
  for (const [shape, tokens] of SHAPES) {
    assertEquals(tokensAtOnce({ ...checkpoint.config, headDim: 64, ...shape }), tokens);
  }
});
