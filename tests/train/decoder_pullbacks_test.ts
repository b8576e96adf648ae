/**
 * The differentiated decoder in the naive evaluator's float64 against PyTorch: gradients by A, B and G
 * and by the frozen linears, of every model of the family, before any lowering.
 */
import { assertLess } from "@std/assert";
import type { Checkpoint, DecoderConfig } from "../../src/checkpoint/checkpoint.ts";
import { openCheckpoint } from "../../src/checkpoint/open.ts";
import { differentiate } from "../../src/graph/autodiff.ts";
import { evaluate, type Evaluated } from "../../src/graph/reference/evaluate.ts";
import type { Value } from "../../src/graph/ops.ts";
import { buildTraining, type TrainingDecoder } from "../../src/models/decoder.ts";
import { inputs } from "../../src/models/inputs.ts";
import { inputsOf, outputsOf } from "../../src/models/widths.ts";
import { MODULES, SITE_OF, SITES } from "../../src/models/hook.ts";
import { DecoderParameters, names } from "../../src/models/parameters.ts";
import { CoreLayout } from "../../src/train/gradients/core_layout.ts";
import { lossesOf, pack, type Packed } from "../../src/train/gradients/packed.ts";
import { norm, Oracle, OWNERS, relativeError, thinned, tinyTrainable } from "./oracle.ts";

const NAMES = [
  "llama",
  "llama-bias",
  "llama-yarn",
  "mistral",
  "qwen2",
  "qwen3",
  "gemma2",
  "gemma3",
  "granite",
  "olmo2",
  "smollm3",
];
const POSITIONS = 32;
/** PyTorch's side is float32. */
const TOLERANCE = 2e-5;
/** Of the fixture: which numbers of a gradient are kept. */
const STRIDES = { factors: 7, linears: 97 };

type Given = Record<string, Evaluated>;

/** What a graph reads of packed rows. */
function tokensOf(packed: Packed): Given {
  const { ids, cells, places, context, offsets, positions, targets, weights, sizes } = packed;
  const { time } = sizes;
  const list = (data: Int32Array | Float32Array) => ({ shape: [data.length], data });
  return {
    [inputs.ids]: list(ids),
    [inputs.cells]: list(cells),
    [inputs.places]: list(places),
    [inputs.grid]: list(Int32Array.of(sizes.batch, time)),
    [inputs.context]: { shape: [sizes.batch, sizes.contexts], data: context },
    [inputs.offsets]: list(offsets),
    [inputs.rows]: list(positions),
    [inputs.targets]: list(targets),
    [inputs.seeds]: list(weights),
  };
}

/** Evaluates the losses of rows and gradients by values of the graph. */
function run(
  decoder: TrainingDecoder,
  wanted: readonly Value[],
  packed: Packed,
  factors: Given,
  parameters: DecoderParameters,
): { readonly losses: number[]; readonly made: readonly Evaluated[] } {
  const { graph, loss, hits, seeds } = decoder;
  const { gradient } = differentiate(graph, new Map([[loss, seeds]]), wanted);
  const gradients = wanted.map((value) => {
    const made = gradient(value);
    if (made === undefined) throw new TypeError(`the loss does not depend on ${value.name}`);
    return made;
  });
  const given = { ...tokensOf(packed), ...factors };
  const finished = graph.finish([loss, hits, ...gradients]);
  const [losses, hit, ...made] = evaluate(finished, given, parameters);
  const rows = Math.max(...packed.owners) + 1;
  return { losses: lossesOf(packed, rows, losses.data, hit.data).map(({ loss }) => loss), made };
}

function sum(parts: readonly Evaluated[]): Float32Array {
  return Float32Array.from(
    parts[0].data,
    (_, i) => parts.reduce((total, { data }) => total + data[i], 0),
  );
}

/** Compares with what is kept of a gradient, and with its length. */
function assertKept(found: Float32Array, oracle: Oracle, name: string, stride: number): void {
  assertLess(relativeError(thinned(found, stride), oracle.floats(name)), TOLERANCE, name);
  const [length] = oracle.floats(`${name}.norm`);
  assertLess(Math.abs(norm(found) / length - 1), TOLERANCE, name);
}

/** Of the rows of trainable n: gradients by its A, B and G against the oracle's. */
function checkTrainable(checkpoint: Checkpoint, oracle: Oracle, n: number): void {
  const { config } = checkpoint;
  const { hook, cores } = tinyTrainable(checkpoint, 100 * n);
  const decoder = buildTraining(config, POSITIONS, hook, { factors: "inputs" });
  const parameters = new DecoderParameters(checkpoint, POSITIONS, { hook });
  const own = oracle.batch([]).rows.filter((_, i) => OWNERS[i] === n);
  const packed = pack(own.map(({ example }) => ({ example, trainable: 0 })));
  const { batch } = packed.sizes;
  const layout = new CoreLayout({ layers: config.numLayers, rank: 4, modules: MODULES, scale: 1 });
  const given: Given = {};
  const wanted = decoder.graph.inputs.filter(({ name }) => /^(lotr|cores)\./.test(name));
  for (const { name, shape } of wanted) {
    const run = shape.map((dim) => dim === "batch" ? batch : Number(dim));
    given[name] = { shape: run, data: new Float32Array(run.reduce((a, b) => a * b)) };
    if (name.startsWith("lotr")) given[name].data.set(parameters.read(name));
  }
  forEachCore(config, batch, given, (layer, site, to) => {
    layout.write(cores, 4, layer, site, to);
  });
  const { losses, made } = run(decoder, wanted, packed, given, parameters);
  const expected = oracle.floats("loss").filter((_, i) => OWNERS[i] === n);
  assertLess(relativeError(losses, expected), TOLERANCE);
  const gradients = Object.fromEntries(wanted.map(({ name }, i) => [name, made[i]]));
  const core = new Float32Array(cores.length);
  forEachCore(config, batch, gradients, (layer, site, from) => {
    layout.accumulate(core, 4, layer, site, from);
  });
  assertLess(relativeError(core, oracle.floats(`cores.${n}`)), TOLERANCE);
  const layers = Array.from({ length: config.numLayers }, (_, layer) => layer);
  for (const site of SITES) {
    const whole = sum(layers.map((layer) => gradients[names.a(layer, site)]));
    assertKept(whole, oracle, `A.${site}.${n}`, STRIDES.factors);
  }
  for (const module of MODULES) {
    const whole = sum(layers.map((layer) => gradients[names.b(layer, module)]));
    const scale = foldedScale(config, module);
    assertKept(whole.map((x) => x * scale), oracle, `B.${module}.${n}`, STRIDES.factors);
  }
}

/** Visits the matrices of each layer, site and row. */
function forEachCore(
  config: DecoderConfig,
  batch: number,
  values: Given,
  visit: (layer: number, site: typeof SITES[number], data: Float32Array) => void,
): void {
  for (let layer = 0; layer < config.numLayers; layer++) {
    for (const site of SITES) {
      const data = values[inputs.cores(layer, site)].data;
      const size = data.length / batch;
      for (let row = 0; row < batch; row++) {
        const part = data.subarray(row * size, (row + 1) * size);
        visit(layer, site, part instanceof Float32Array ? part : Float32Array.from(part));
      }
    }
  }
}

/** What the graph's weights and factors of a module have folded in. */
function foldedScale(config: DecoderConfig, module: typeof MODULES[number]): number {
  if (module === "o_proj" || module === "down_proj") return config.residualScale;
  return module === "q_proj" && config.qkNorm === "none" ? config.attentionScale : 1;
}

/** Without a branch: gradients by every linear. */
function checkLinears(checkpoint: Checkpoint, oracle: Oracle): void {
  const { config } = checkpoint;
  const decoder = buildTraining(config, POSITIONS, undefined);
  const linears = Array.from({ length: config.numLayers }, (_, layer) =>
    MODULES.map((module) => {
      const shape = [outputsOf(config, module), inputsOf(config, SITE_OF[module])];
      return { layer, module, value: decoder.graph.parameter(names.linear(layer, module), shape) };
    })).flat();
  const packed = pack(oracle.examples.map((example) => ({ example, trainable: 0 })));
  const parameters = new DecoderParameters(checkpoint, POSITIONS);
  const { losses, made } = run(decoder, linears.map(({ value }) => value), packed, {}, parameters);
  assertLess(relativeError(losses, oracle.floats("base.loss")), TOLERANCE);
  linears.forEach(({ layer, module }, i) => {
    const { shape: [outs, ins], data } = made[i];
    const scale = foldedScale(config, module);
    const transposed = Float32Array.from(
      data,
      (_, at) => scale * data[at % outs * ins + Math.floor(at / outs)],
    );
    assertKept(transposed, oracle, `W.${layer}.${module}`, STRIDES.linears);
  });
}

for (const name of NAMES) {
  Deno.test(`${name} has PyTorch's gradients by A, B, G and every linear, by the evaluator`, async () => {
    const folder = new URL(`../fixtures/models/${name}/`, import.meta.url).pathname;
    const checkpoint = await openCheckpoint(folder);
    const oracle = new Oracle("tiny", name);
    for (const n of [0, 1]) checkTrainable(checkpoint, oracle, n);
    checkLinears(checkpoint, oracle);
    checkpoint.close();
  });
}
