/**
 * Calibration, one layer at a time, against scales by definition, of what the naive evaluator finds
 * in the whole decoder: every architecture, windows of odd lengths, tied heads and untied ones.
 */
import { assertEquals, assertLess } from "@std/assert";
import type { Checkpoint } from "../../src/checkpoint/checkpoint.ts";
import { openCheckpoint } from "../../src/checkpoint/open.ts";
import { calibrate } from "../../src/executor/calibrate.ts";
import { runLayers } from "../../src/executor/layerwise.ts";
import type { Graph } from "../../src/graph/graph.ts";
import { evaluate } from "../../src/graph/reference/evaluate.ts";
import { buildDecoder } from "../../src/models/decoder.ts";
import { inputs } from "../../src/models/inputs.ts";
import { MODULES, SITE_OF, type SiteName } from "../../src/models/hook.ts";
import { isScalable } from "../../src/models/smooth.ts";
import { DecoderParameters, names } from "../../src/models/parameters.ts";
import { DEVICE } from "../graph/device.ts";
import { distance } from "../graph/run.ts";

const MODELS = new URL("../fixtures/models/", import.meta.url);
const NAMES = [
  "llama",
  "llama-bias",
  "mistral",
  "qwen2",
  "qwen2-yarn",
  "qwen3",
  "gemma2",
  "gemma3",
  "glm4",
  "granite",
  "olmo2",
  "phi3",
  "smollm3",
];

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

/**
 * x and w of (x / w)^α by definition: w is the norm of a column, x the 3-norm of a channel over sampled
 * tokens, each of outputs of energy 1.
 */
function scaleOf(tokens: readonly number[][], weights: readonly number[][]): [number, number][] {
  const channels = tokens[0].map((_, j) => j);
  const energies = channels.map((j) => weights.reduce((sum, row) => sum + row[j] ** 2, 0));
  const normed = tokens.map((token) => {
    const outputs = token.reduce((sum, x, j) => sum + x ** 2 * energies[j], 0);
    return token.map((x) => x / Math.sqrt(outputs));
  });
  return channels.map((j) => [
    normed.reduce((sum, token) => sum + Math.abs(token[j]) ** 3, 0) ** (1 / 3),
    Math.sqrt(energies[j]),
  ]);
}

function rowsOf(data: ArrayLike<number>, width: number): number[][] {
  const all = Array.from(data);
  return Array.from(
    { length: all.length / width },
    (_, i) => all.slice(i * width, (i + 1) * width),
  );
}

/** Scales of the whole model at once, by name of the site. */
function expected(checkpoint: Checkpoint, windows: readonly (readonly number[])[]) {
  const { config, weights } = checkpoint;
  const tokens = new Map<string, number[][]>();
  for (const window of windows) {
    for (const [name, data] of sitesOf(checkpoint, window)) {
      const rows = rowsOf(data, data.length / window.length);
      const some = rows.filter((_, i) => i === 0 || i % 8 === 7);
      tokens.set(name, [...tokens.get(name) ?? [], ...some]);
    }
  }
  return new Map([...tokens].map(([name, some]) => {
    const [layer, site] = name.split(".");
    const readers = name === "head"
      ? [config.tieEmbeddings ? names.embedding : names.head]
      : MODULES.filter((module) => SITE_OF[module] === site)
        .map((module) => names.linear(Number(layer), module));
    const rows = readers.flatMap((reader) => rowsOf(weights.read(reader), some[0].length));
    const pairs = scaleOf(some, rows);
    const { headDim, numHeads, numKvHeads } = config;
    const group = numHeads / numKvHeads;
    const shared = pairs.map((pair, i) => {
      if (site !== "attn_out") return pair;
      const [d, first] = [i % headDim, Math.floor(i / headDim / group) * group];
      const heads = Array.from({ length: group }, (_, h) => pairs[(first + h) * headDim + d]);
      return [0, 1].map((part) => Math.max(...heads.map((one) => one[part])));
    });
    const alpha = site === "mlp_mid" ? 0.3 : 0.5;
    const isDivided = name === "head" || isScalable(config, site as SiteName);
    const scales = shared.map(([x, w]) => isDivided ? (x / w) ** alpha : 1);
    const mean = scales.reduce((product, scale) => product * scale ** (1 / scales.length), 1);
    return [name, Float32Array.from(scales, (scale) => scale / mean)];
  }));
}

for (const name of NAMES) {
  Deno.test(`calibration of ${name}, layer by layer, finds the whole model's scales`, async () => {
    using checkpoint = await openCheckpoint(new URL(`${name}/`, MODELS).pathname);
    const { maxPositions, vocabSize } = checkpoint.config;
    const window = Math.min(512, maxPositions);
    const tokens = Array.from({ length: window + 5 }, (_, i) => (i * i * 7 + 3 * i) % vocabSize);
    const found = await calibrate(DEVICE, checkpoint, tokens);
    const wanted = expected(checkpoint, [tokens.slice(0, window), tokens.slice(window)]);
    const seen = found.layers.flatMap((sites, layer) =>
      Object.entries(sites).map(([site, scales]) => [`${layer}.${site}`, scales] as const)
    );
    assertEquals(seen.length + 1, wanted.size);
    for (const [name, scales] of [...seen, ["head", found.head] as const]) {
      assertLess(distance(scales, wanted.get(name) ?? new Float32Array()), 1e-3, name);
    }
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
