/**
 * SmoothQuant (arXiv 2211.10438): channel scales that move the spread of activations into weights
 * before both are rounded to int8. For channel j of a site, c_j = max|x_j|^α / max|w_j|^(1-α), over
 * calibration text and over all linears that read the site.
 */
import type { Checkpoint, DecoderConfig } from "../checkpoint/checkpoint.ts";
import { inputsOf } from "./decoder.ts";
import { MODULES, SITE_OF, type SiteName, SITES } from "./hook.ts";
import { names, type Smoothing } from "./parameters.ts";

/** How much of the spread moves (0 = none, 1 = all): best for SmolLM2 among 0.3 to 0.6. */
const ALPHA = 0.4;

/** The largest |activation| of each channel, by `LAYER.SITE`, and of the head's input, by `head`. */
export type Maxima = (name: string) => Float32Array;

export function smoothing(checkpoint: Checkpoint, maxima: Maxima): Smoothing {
  const { config } = checkpoint;
  const layers = Array.from({ length: config.numLayers }, (_, layer) => {
    const entries = SITES.map((site) => [site, siteScales(checkpoint, layer, site, maxima)]);
    return Object.fromEntries(entries) as Smoothing["layers"][number];
  });
  return { layers, head: headScales(checkpoint, maxima("head")) };
}

function headScales({ config, weights }: Checkpoint, inputs: Float32Array): Float32Array {
  const columns = new Float32Array(config.hiddenSize);
  columnMaxima(weights.read(config.tieEmbeddings ? names.embedding : names.head), columns);
  return inputs.map((x, j) => scaleOf(x, columns[j]));
}

function siteScales(
  checkpoint: Checkpoint,
  layer: number,
  site: SiteName,
  maxima: Maxima,
): Float32Array {
  const { config } = checkpoint;
  const width = inputsOf(config, site);
  const weights = new Float32Array(width);
  for (const module of MODULES) {
    if (SITE_OF[module] !== site) continue;
    columnMaxima(checkpoint.weights.read(names.linear(layer, module)), weights);
  }
  const inputs = Float32Array.from(maxima(`${layer}.${site}`));
  if (site === "attn_out") { for (const values of [inputs, weights]) shareHeads(values, config); }
  return inputs.map((x, j) => scaleOf(x, weights[j]));
}

function scaleOf(x: number, weight: number): number {
  // A channel that is never active, or that nobody reads, stays as it is.
  if (x === 0 || weight === 0) return 1;
  return x ** ALPHA / weight ** (1 - ALPHA);
}

function columnMaxima(data: Float32Array, maxima: Float32Array): void {
  const width = maxima.length;
  for (let i = 0; i < data.length; i++) {
    const size = Math.abs(data[i]);
    if (size > maxima[i % width]) maxima[i % width] = size;
  }
}

/** Query heads of one key-value head share their channels' maxima: v has one output for all of them. */
function shareHeads(values: Float32Array, { headDim, numHeads, numKvHeads }: DecoderConfig): void {
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
