/**
 * An estimate of a busy lane's bytes, without the base and without keys and values: its factors,
 * cores and logits, its two sessions, and the bindings that it keeps (about a fifth of all).
 */
import type { DecoderConfig } from "../checkpoint/checkpoint.ts";
import { type HookShape, modulesOf } from "../models/widths.ts";
import { type SiteName, SITES } from "../models/hook.ts";
import { KEPT_PREFILLS } from "./executor.ts";

/** A session's graph and kernels, for each layer. Measured: 11 MiB for 2 sessions of 30 layers. */
const SESSION_BYTES_PER_LAYER = 192 * 2 ** 10;
/** One for prompts and one for decode steps. */
const SESSIONS = 2;
/** Each of the two sessions packs the factors for itself; compiling leaves about one copy more. */
const FACTOR_COPIES = 3;
const FLOAT_BYTES = 4;
/**
 * One bound tensor: a native value, the objects around it, and its share of the binding's names.
 * Measured: 240 KiB for a binding of 96 tensors.
 */
const BOUND_TENSOR_BYTES = 2.5 * 2 ** 10;
/** Bound tensors of a step besides keys, values and cores: five inputs and the logits. */
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

/**
 * Bound tensors of a step: besides `STEP_TENSORS`, each layer's keys, values and adapted sites'
 * cores.
 */
function tensorsOfStep(layers: number, hook: HookShape | undefined): number {
  const sites = hook === undefined
    ? 0
    : SITES.filter((site) => modulesOf(hook, site).length > 0).length;
  return STEP_TENSORS + layers * (2 + sites);
}

/** Numbers of A, and of B as one block matrix, at each adapted site of one layer. */
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

/** Widths of a site's input, and of its linears' outputs together. */
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
