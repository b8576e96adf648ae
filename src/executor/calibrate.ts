/**
 * Channel scales for int8, from what the float32 model reads and multiplies on some text, one layer
 * at a time: two layers' weights are in memory at most, and each tensor is read once.
 */
import type { Checkpoint } from "../checkpoint/checkpoint.ts";
import { MODULES, SITE_OF, type SiteName, SITES } from "../models/hook.ts";
import { inputsOf } from "../models/widths.ts";
import { names, type Smoothing } from "../models/parameters.ts";
import { isScalable, sharedByHeads, siteScales } from "../models/smooth.ts";
import type { Device } from "../runtime/device.ts";
import { floats, joinFloats, runLayers, sampled, type VisitedLayer } from "./layerwise.ts";

/** Names how scales are found: those that were found otherwise are not the same. */
export const CALIBRATION_METHOD = "centred 3-norms over 1024 tokens, less for mlp_mid";

/** Tokens of the text that are looked at: more do not change perplexity. */
const TOKENS = 1024;
/** Tokens that are computed together, from position 0. */
const WINDOW = 512;
/** Rows of all weights of a site that are looked at, and of the head. */
const ROWS = 256;
const HEAD_ROWS = 2048;

/** Makes channel scales from the text that int8 is to be best on. */
export async function calibrate(
  device: Device,
  checkpoint: Checkpoint,
  tokens: readonly number[],
): Promise<Smoothing> {
  const { config } = checkpoint;
  const layers: Smoothing["layers"][number][] = [];
  const windows = split(tokens.slice(0, TOKENS), Math.min(WINDOW, config.maxPositions));
  const hidden = await runLayers(device, checkpoint, windows, (visited) => {
    const scales = SITES.map((site) => [site, scalesOf(checkpoint, visited, site)]);
    layers.push(Object.fromEntries(scales));
  });
  const inputs = hidden.map((rows) => sampled(rows, rows.length / config.hiddenSize));
  const head = {
    width: config.hiddenSize,
    inputs: joinFloats(inputs),
    weights: headRows(checkpoint),
  };
  return { layers, head: siteScales("head", head) };
}

function split(tokens: readonly number[], size: number): readonly (readonly number[])[] {
  const count = Math.ceil(tokens.length / size);
  return Array.from({ length: count }, (_, i) => tokens.slice(i * size, (i + 1) * size));
}

function scalesOf({ config }: Checkpoint, visited: VisitedLayer, site: SiteName): Float32Array {
  const width = inputsOf(config, site);
  if (!isScalable(config, site)) return new Float32Array(width).fill(1);
  const readers = MODULES.filter((module) => SITE_OF[module] === site)
    .map((module) => floats(visited.weight(module)));
  const count = readers.reduce((sum, { length }) => sum + length / width, 0);
  const step = Math.max(1, count / ROWS);
  const weights = joinFloats(readers.flatMap((weight) => everyRow(weight, width, step)));
  const sample = { width, inputs: visited.activations(site), weights };
  if (site !== "attn_out") return siteScales(site, sample);
  return siteScales(site, sample, (norms) => sharedByHeads(norms, config));
}

/** Rows of a weight, `step` apart. */
function everyRow(weight: Float32Array, width: number, step: number): Float32Array[] {
  return Array.from({ length: Math.ceil(weight.length / width / step) }, (_, i) => {
    const row = Math.floor(i * step);
    return weight.subarray(row * width, (row + 1) * width);
  });
}

function headRows({ config, weights }: Checkpoint): Float32Array {
  const { tieEmbeddings, vocabSize } = config;
  const name = tieEmbeddings ? names.embedding : names.head;
  const count = Math.min(vocabSize, HEAD_ROWS);
  const rows = Array.from({ length: count }, (_, i) => {
    const first = Math.floor(i * vocabSize / count);
    return weights.read(name, { rows: { first, count: 1 } });
  });
  return joinFloats(rows);
}
