/**
 * SmoothQuant (arXiv 2211.10438): channel scales that move the spread of activations into weights
 * before both are rounded to int8. For channel j of a site, c_j = (x_j / w_j)^α, over calibration
 * text and over all linears that read the site: x_j is the channel's 3-norm over tokens, each
 * divided by the size of its outputs, and w_j the norm of its column of weights.
 *
 * Trap: maxima instead of norms, as in the paper, are those of a prompt's first token, whose
 * activations are hundreds where others have one; the KL divergence from float32 is twice as large.
 */
import type { DecoderConfig } from "../checkpoint/checkpoint.ts";
import { inputsOf } from "./widths.ts";
import { type SiteName, SITES } from "./hook.ts";
import type { Smoothing } from "./parameters.ts";

/** The norm over tokens: large inputs count more than often. */
const NORM = 3;
/**
 * α by site. The inputs of `down_proj` are products of two, with rare large ones all over: channels
 * that were large on some text are not those of another.
 */
const EXPONENTS: Readonly<Record<SiteName | "head", number>> = {
  "attn_in": 0.5,
  "attn_out": 0.5,
  "mlp_in": 0.5,
  "mlp_mid": 0.3,
  head: 0.5,
};

/** What calibration saw of a site, or of the head's input. */
export interface SiteSample {
  /** Channels. */
  readonly width: number;
  /** Some tokens' activations, [tokens, width]. */
  readonly inputs: Float32Array;
  /** Some rows of the weights that read them, [rows, width]. */
  readonly weights: Float32Array;
}

/** Whether something before a site can divide its channels: a norm, or a linear. */
export function isScalable({ norms }: DecoderConfig, site: SiteName): boolean {
  if (site === "attn_in") return norms.beforeAttention !== undefined;
  return site !== "mlp_in" || norms.beforeMlp !== undefined;
}

/** The channel scales of a site; `shared` makes norms equal where channels must have one scale. */
export function siteScales(
  site: SiteName | "head",
  sample: SiteSample,
  shared: (norms: Float32Array) => Float32Array = (norms) => norms,
): Float32Array {
  const energies = columnEnergies(sample);
  const weights = shared(Float32Array.from(energies, Math.sqrt));
  const inputs = shared(inputNorms(sample, energies));
  return centred(inputs.map((x, j) => (x / weights[j]) ** EXPONENTS[site]));
}

/**
 * Scales with a geometric mean of 1. Products do not ask for it, but gradients do: those of v, scaled,
 * are rounded side by side with those of q and k, which are not.
 */
function centred(scales: Float32Array): Float32Array {
  // A channel that is never active, or that nobody reads, stays as it is.
  const used = scales.filter((scale) => scale > 0 && scale < Infinity);
  const mean = Math.exp(used.reduce((sum, scale) => sum + Math.log(scale), 0) / used.length);
  return scales.map((scale) => scale > 0 && scale < Infinity ? scale / mean : 1);
}

/** Σ w² of each column. */
function columnEnergies({ weights, width }: SiteSample): Float64Array {
  const energies = new Float64Array(width);
  for (let start = 0; start < weights.length; start += width) {
    for (let j = 0; j < width; j++) energies[j] += weights[start + j] ** 2;
  }
  return energies;
}

/** The norm of each channel over tokens whose outputs have energy 1, were channels independent. */
function inputNorms({ inputs, width }: SiteSample, energies: Float64Array): Float32Array {
  const sums = new Float64Array(width);
  for (let start = 0; start < inputs.length; start += width) {
    let outputs = 0;
    for (let j = 0; j < width; j++) outputs += inputs[start + j] ** 2 * energies[j];
    if (outputs === 0) continue;
    for (let j = 0; j < width; j++) sums[j] += (inputs[start + j] ** 2 / outputs) ** (NORM / 2);
  }
  return Float32Array.from(sums, (sum) => sum ** (1 / NORM));
}

/** Query heads of one key-value head share their channels' norms: v has one output for all of them. */
export function sharedByHeads(
  norms: Float32Array,
  { headDim, numHeads, numKvHeads }: DecoderConfig,
): Float32Array {
  const values = norms.slice();
  const group = numHeads / numKvHeads * headDim;
  for (let start = 0; start < values.length; start += group) {
    for (let d = 0; d < headDim; d++) {
      let largest = 0;
      for (let i = start + d; i < start + group; i += headDim) {
        largest = Math.max(largest, values[i]);
      }
      for (let i = start + d; i < start + group; i += headDim) values[i] = largest;
    }
  }
  return values;
}

/** Channel scales as JSON-ready arrays, to be kept beside the model's digest. */
export function writeSmoothing({ layers, head }: Smoothing): string {
  const plain = layers.map((sites) => SITES.map((site) => Array.from(sites[site])));
  return JSON.stringify({ layers: plain, head: Array.from(head) });
}

/**
 * What `writeSmoothing` wrote; undefined where it is damaged or of another shape.
 */
export function readSmoothing(text: string, config: DecoderConfig): Smoothing | undefined {
  try {
    const { layers, head } = JSON.parse(text);
    const fits = layers.length === config.numLayers && head.length === config.hiddenSize &&
      layers.every((sites: number[][]) =>
        SITES.every((site, i) => sites[i].length === inputsOf(config, site))
      );
    if (!fits) return undefined;
    return {
      layers: layers.map((sites: number[][]) =>
        Object.fromEntries(SITES.map((site, i) => [site, Float32Array.from(sites[i])]))
      ),
      head: Float32Array.from(head),
    };
  } catch {
    return undefined;
  }
}
