/**
 * What a lane takes beside the base and its keys and values, by its shape. On the default base a lane
 * of rank 32 on q and v is 43 MiB by this sum; 41 were seen when it opened, 56 when it had run full
 * (`bench/LOG.md`).
 */
import type { DecoderConfig } from "../checkpoint/checkpoint.ts";
import { modulesOf } from "../models/decoder.ts";
import { type LinearHook, type SiteName, SITES } from "../models/hook.ts";

/** A session's graph, kernels and bindings, for each layer. Measured: 11 MiB for 2 × 30 layers. */
const SESSION_BYTES_PER_LAYER = 192 * 2 ** 10;
/** One for prompts and one for decode steps; each packs the lane's factors for itself. */
const SESSIONS = 2;
const FLOAT_BYTES = 4;

/** Bytes of a lane of `slots` rows over these factors (or none). */
export function laneBytes(
  config: DecoderConfig,
  slots: number,
  hook: Pick<LinearHook, "rank" | "modules"> | undefined,
): number {
  const { numLayers, vocabSize } = config;
  const factors = hook === undefined ? 0 : numLayers * factorsOfLayer(config, hook);
  const cores = hook === undefined ? 0 : slots * numLayers * hook.modules.length * hook.rank ** 2;
  const logits = slots * vocabSize;
  const numbers = SESSIONS * factors + cores + logits;
  return numbers * FLOAT_BYTES + SESSIONS * numLayers * SESSION_BYTES_PER_LAYER;
}

/** Numbers of A, and of B as one block matrix, at each site that is adapted. */
function factorsOfLayer(
  config: DecoderConfig,
  hook: Pick<LinearHook, "rank" | "modules">,
): number {
  let numbers = 0;
  for (const site of SITES) {
    const modules = modulesOf(hook, site).length;
    if (modules === 0) continue;
    const { input, output } = widthsOf(config, site);
    numbers += hook.rank * (input + modules * output);
  }
  return numbers;
}

/** A site's input, and its linears' outputs side by side. */
function widthsOf(config: DecoderConfig, site: SiteName) {
  const { hiddenSize, intermediateSize, numHeads, numKvHeads, headDim } = config;
  const widths: Readonly<Record<SiteName, { readonly input: number; readonly output: number }>> = {
    "attn_in": { input: hiddenSize, output: (numHeads + 2 * numKvHeads) * headDim },
    "attn_out": { input: numHeads * headDim, output: hiddenSize },
    "mlp_in": { input: hiddenSize, output: 2 * intermediateSize },
    "mlp_mid": { input: intermediateSize, output: hiddenSize },
  };
  return widths[site];
}
