/**
 * Calibration, one layer at a time, against maxima that the naive evaluator finds in the whole
 * decoder: every architecture, windows of odd lengths, tied heads and untied ones.
 */
import { assertEquals, assertLess } from "@std/assert";
import type { Checkpoint } from "../../src/checkpoint/checkpoint.ts";
import { openCheckpoint } from "../../src/checkpoint/open.ts";
import { calibrate } from "../../src/executor/calibrate.ts";
import { runLayers } from "../../src/executor/layerwise.ts";
import type { Graph } from "../../src/graph/graph.ts";
import { evaluate } from "../../src/graph/reference/evaluate.ts";
import { buildDecoder, inputs } from "../../src/models/decoder.ts";
import { MODULES, SITE_OF } from "../../src/models/hook.ts";
import { DecoderParameters, names, type Smoothing } from "../../src/models/parameters.ts";
import { smoothing } from "../../src/models/smooth.ts";
import { DEVICE } from "../graph/device.ts";
import { distance } from "../graph/run.ts";

const MODELS = new URL("../fixtures/models/", import.meta.url);
const NAMES = ["llama", "llama-bias", "mistral", "qwen2", "qwen2-yarn", "qwen3"];

/** What each linear of a decoder reads, [tokens, d] by `LAYER.SITE` or `head`, by float64 loops. */
function sitesOf(checkpoint: Checkpoint, ids: readonly number[]): Map<string, ArrayLike<number>> {
  const { config } = checkpoint;
  const graph = buildDecoder(config, ids.length);
  const sites = graph.nodes.flatMap((node) => {
    if (node.op !== "linear") return [];
    const match = /layers\.(\d+)\.\w+\.(\w+)\.weight/.exec(node.args.weights[0].name);
    const site = SITE_OF[(match?.[2] ?? "") as keyof typeof SITE_OF];
    return [{ name: match === null ? "head" : `${match[1]}.${site}`, value: node.args.x }];
  });
  const ints = (values: readonly number[]) => ({
    shape: [values.length],
    data: Int32Array.from(values),
  });
  const given: Record<string, Parameters<typeof evaluate>[1][string]> = {
    [inputs.ids]: ints(ids),
    [inputs.grid]: ints([1, ids.length]),
    [inputs.lengths]: ints([ids.length - 1]),
    [inputs.total]: ints([ids.length]),
    [inputs.rows]: ints(ids.map((_, i) => i)),
  };
  const shape = [1, config.numKvHeads, ids.length, config.headDim];
  for (let layer = 0; layer < config.numLayers; layer++) {
    for (const name of [inputs.keys(layer), inputs.values(layer)]) {
      given[name] = { shape, data: new Float64Array(shape.reduce((n, dim) => n * dim, 1)) };
    }
  }
  const wanted: Graph = { ...graph, outputs: sites.map(({ value }) => value) };
  const found = evaluate(wanted, given, new DecoderParameters(checkpoint, ids.length));
  return new Map(sites.map(({ name }, i) => [name, found[i].data]));
}

function largest(
  data: ArrayLike<number>,
  width: number,
  maxima: Float32Array = new Float32Array(width),
): Float32Array {
  for (let i = 0; i < data.length; i++) {
    maxima[i % width] = Math.max(maxima[i % width], Math.abs(data[i]));
  }
  return maxima;
}

/** Scales of the whole model at once, as SmoothQuant defines them. */
function expected(checkpoint: Checkpoint, windows: readonly (readonly number[])[]): Smoothing {
  const { config, weights } = checkpoint;
  const all = new Map<string, Float32Array>();
  for (const window of windows) {
    for (const [name, data] of sitesOf(checkpoint, window)) {
      const width = data.length / window.length;
      // The head reads the last token of a prompt.
      const read = name === "head" ? Array.from(data).slice(-width) : data;
      all.set(name, largest(read, width, all.get(name)));
    }
  }
  const columns = (name: string) => {
    const maxima = new Float32Array(all.get(name)?.length ?? 0);
    const [layer, site] = name.split(".");
    const readers = MODULES.filter((module) => SITE_OF[module] === site)
      .map((module) => names.linear(Number(layer), module));
    const head = config.tieEmbeddings ? names.embedding : names.head;
    for (const reader of name === "head" ? [head] : readers) {
      largest(weights.read(reader), maxima.length, maxima);
    }
    return maxima;
  };
  return smoothing(config, (name) => all.get(name) ?? new Float32Array(), columns);
}

for (const name of NAMES) {
  Deno.test(`calibration of ${name}, layer by layer, finds the whole model's scales`, async () => {
    using checkpoint = await openCheckpoint(new URL(`${name}/`, MODELS).pathname);
    const { maxPositions, vocabSize } = checkpoint.config;
    const window = Math.min(512, maxPositions);
    const tokens = Array.from({ length: window + 5 }, (_, i) => (i * i * 7 + 3 * i) % vocabSize);
    const found = await calibrate(DEVICE, checkpoint, tokens);
    const wanted = expected(checkpoint, [tokens.slice(0, window), tokens.slice(window)]);
    assertLess(distance(found.head, wanted.head), 1e-3, "head");
    assertEquals(found.layers.length, wanted.layers.length);
    found.layers.forEach((sites, layer) => {
      for (const [site, scales] of Object.entries(sites)) {
        const other = wanted.layers[layer][site as keyof typeof sites];
        assertLess(distance(scales, other), 1e-3, `${layer}.${site}`);
      }
    });
  });
}

Deno.test("a pass leaves nothing behind on the device", async () => {
  using checkpoint = await openCheckpoint(new URL("llama/", MODELS).pathname);
  const before = DEVICE.liveObjects;
  const visited: number[] = [];
  await runLayers(DEVICE, checkpoint, [[1, 2, 3], [4]], ({ layer }) => void visited.push(layer));
  assertEquals(visited, Array.from({ length: checkpoint.config.numLayers }, (_, i) => i));
  assertEquals(DEVICE.liveObjects, before);
});
