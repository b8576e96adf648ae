/**
 * SmoothQuant (arXiv 2211.10438): channel scales that move the spread of activations into weights
 * before both are rounded to int8. For channel j of a site, c_j = max|x_j|^α / max|w_j|^(1-α), over
 * calibration text and over all linears that read the site.
 */
import type { DecoderConfig } from "../checkpoint/checkpoint.ts";
import { inputsOf } from "./decoder.ts";
import { SITES } from "./hook.ts";
import type { Smoothing } from "./parameters.ts";

/** How much of the spread moves (0 = none, 1 = all): best for SmolLM2 among 0.3 to 0.6. */
const ALPHA = 0.4;

/** The largest size of each channel, by `LAYER.SITE`, and of the head's input, by `head`. */
export type Maxima = (name: string) => Float32Array;

/**
 * Channel scales from the maxima of what each site reads, and of the columns of all weights that
 * read it.
 */
export function smoothing(config: DecoderConfig, inputs: Maxima, weights: Maxima): Smoothing {
  const layers = Array.from({ length: config.numLayers }, (_, layer) => {
    const entries = SITES.map((site) => {
      const of = (maxima: Maxima) => {
        const values = maxima(`${layer}.${site}`);
        return site === "attn_out" ? sharedByHeads(values, config) : values;
      };
      return [site, scales(of(inputs), of(weights))];
    });
    return Object.fromEntries(entries) as Smoothing["layers"][number];
  });
  return { layers, head: scales(inputs("head"), weights("head")) };
}

function scales(inputs: Float32Array, weights: Float32Array): Float32Array {
  return inputs.map((x, j) => scaleOf(x, weights[j]));
}

function scaleOf(x: number, weight: number): number {
  // A channel that is never active, or that nobody reads, stays as it is.
  if (x === 0 || weight === 0) return 1;
  return x ** ALPHA / weight ** (1 - ALPHA);
}

/** Query heads of one key-value head share their channels' maxima: v has one output for all of them. */
function sharedByHeads(
  maxima: Float32Array,
  { headDim, numHeads, numKvHeads }: DecoderConfig,
): Float32Array {
  const values = maxima.slice();
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
