/**
 * What a busy lane takes beside the base and its keys and values, by its shape: its numbers, its two
 * sessions, and the bindings that it keeps for the shapes of its steps, which are a fifth of it.
 */
import type { DecoderConfig } from "../checkpoint/checkpoint.ts";
import { type HookShape, modulesOf } from "../models/decoder.ts";
import { type SiteName, SITES } from "../models/hook.ts";
import { KEPT_PREFILLS } from "./executor.ts";

/** A session's graph, kernels and bindings, for each layer. Measured: 11 MiB for 2 × 30 layers. */
const SESSION_BYTES_PER_LAYER = 192 * 2 ** 10;
/** One for prompts and one for decode steps. */
const SESSIONS = 2;
/** Each session packs the lane's factors for itself; making them leaves about as much once more. */
const FACTOR_COPIES = 3;
const FLOAT_BYTES = 4;
/**
 * A tensor that a binding holds, with its share of the names: a native value and the objects around
 * it. Measured: 240 KiB a binding of 96 tensors.
 */
const BOUND_TENSOR_BYTES = 2.5 * 2 ** 10;
/** Of a step beside its caches and cores: five inputs and the logits. */
const STEP_TENSORS = 6;

/** Bytes of a lane of `slots` rows over these factors (or none). */
export function laneBytes(
  config: DecoderConfig,
  slots: number,
  hook: HookShape | undefined,
): number {
  const { numLayers, vocabSize } = config;
  const factors = hook === undefined ? 0 : numLayers * factorsOfLayer(config, hook);
  const cores = hook === undefined ? 0 : slots * numLayers * hook.modules.length * hook.rank ** 2;
  const logits = slots * vocabSize;
  const numbers = FACTOR_COPIES * factors + cores + logits;
  const bindings = (slots + KEPT_PREFILLS) * tensorsOfStep(numLayers, hook);
  return numbers * FLOAT_BYTES + SESSIONS * numLayers * SESSION_BYTES_PER_LAYER +
    bindings * BOUND_TENSOR_BYTES;
}

/** Keys, values and each adapted site's cores of every layer are tensors of a binding's own. */
function tensorsOfStep(layers: number, hook: HookShape | undefined): number {
  const sites = hook === undefined
    ? 0
    : SITES.filter((site) => modulesOf(hook, site).length > 0).length;
  return STEP_TENSORS + layers * (2 + sites);
}

/** Numbers of A, and of B as one block matrix, at each site that is adapted. */
function factorsOfLayer(
  config: DecoderConfig,
  hook: HookShape,
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
