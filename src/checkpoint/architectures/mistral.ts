/** Mistral (arXiv 2310.06825): Llama with a sliding window. A GGUF of it says that it is a Llama. */
import type { Architecture } from "./architecture.ts";
import { everywhere, windowOf } from "./windows.ts";

export const MISTRAL: Architecture = {
  name: "mistral",
  defaults: { kvHeads: 8, headDim: undefined, maxPositions: 131_072, bos: 1, eos: 2 },
  fromConfig(fields, { maxPositions }) {
    const size = fields.has("sliding_window") ? fields.optionalCount("sliding_window") : 4096;
    return everywhere(windowOf(size, maxPositions));
  },
};
