/**
 * A decoder's gradients by its own frozen weights, on a device: what factors are made of. The
 * differentiated graph and its pieces are those of training (`loss_program.ts`). Over weights that
 * are rounded they are straight-through: as if the rounded weights were the ones to move (arXiv
 * 1308.3432).
 *
 * Trap: all gradients together are as large as the weights in float32, so there are as many passes
 * over the text as keep those of a pass within two layers.
 */
import type { DecoderConfig } from "../../checkpoint/checkpoint.ts";
import type { Value } from "../../graph/ops.ts";
import { buildTraining } from "../../models/decoder.ts";
import { inputsOf, outputsOf } from "../../models/widths.ts";
import { type ModuleName, MODULES, SITE_OF } from "../../models/hook.ts";
import { type DecoderParameters, names } from "../../models/parameters.ts";
import type { GradientSource, LinearMatrix, WeightGradientRequest } from "./gradient_source.ts";
import { microBatches } from "../micro_batches.ts";
import { computedLength, type Example } from "./model.ts";
import { LossProgram, type LossProgramOptions, tokensAtOnce } from "./loss_program.ts";
import { pack } from "./packed.ts";

export interface WeightGradientsOptions extends Omit<LossProgramOptions, "onGradient"> {
  readonly config: DecoderConfig;
  readonly parameters: DecoderParameters;
  /** Rows of the RoPE tables that `parameters` were made with. */
  readonly positions: number;
  /** Numbers that the gradients of one pass may have; default: two layers' weights, 512 MB at least. */
  readonly most?: number;
  /** Called at release. */
  readonly onRelease?: () => void;
}

/** Numbers of gradients that are always held together: 512 MB. */
const LEAST = 2 ** 27;

/** One linear's weight as the graph has it, [d_out, d_in], and its gradient so far. */
interface Wanted {
  readonly layer: number;
  readonly module: ModuleName;
  readonly weight: Value;
  readonly sum: Float32Array;
}

/** Weight gradients of a decoder; a program is compiled for each pass. */
export class WeightGradients implements GradientSource {
  readonly #options: WeightGradientsOptions;

  constructor(options: WeightGradientsOptions) {
    this.#options = options;
  }

  /** @throws {RangeError} for a row longer than the RoPE tables */
  async *weightGradients(request: WeightGradientRequest): AsyncGenerator<LinearMatrix> {
    const { config, positions, parameters, most } = this.#options;
    const { examples, modules, onProgress = () => {} } = request;
    checkLengths(examples, positions);
    const passes = passesOf(config, modules, most);
    const total = examples.reduce((sum, { tokens }) => sum + tokens.length, 0);
    for (const [i, layers] of passes.entries()) {
      const pass = { ...request, onProgress: (done: number) => tell(i * total + done) };
      const tell = (done: number) => onProgress(done, passes.length * total);
      for (const one of await this.#pass(layers, pass)) yield matrixOf(parameters, one);
    }
  }

  release(): void {
    this.#options.onRelease?.();
  }

  /** Gradients of some layers, summed over all examples. */
  async #pass(
    layers: readonly number[],
    { examples, modules, onProgress, signal }: WeightGradientRequest & {
      readonly onProgress: (done: number) => void;
    },
  ): Promise<readonly Wanted[]> {
    const { config, positions } = this.#options;
    const decoder = buildTraining(config, positions, undefined);
    const wanted = wantedOf(
      config,
      layers,
      modules,
      (name, shape) => decoder.graph.parameter(name, shape),
    );
    const sums = new Map(wanted.map(({ weight, sum }) => [weight, sum]));
    const onGradient = (weight: Value, gradient: Float32Array) => addTo(sums.get(weight), gradient);
    const options = { ...this.#options, onGradient };
    const program = await LossProgram.compile(decoder, [...sums.keys()], options);
    let done = 0;
    try {
      for (const indices of batchesOf(config, examples)) {
        const batch = indices.map((index) => examples[index]);
        const packed = pack(batch.map((example) => ({ example, trainable: 0 })));
        program.load(packed);
        await program.run("gradients", packed.sizes, signal);
        done += batch.reduce((sum, { tokens }) => sum + tokens.length, 0);
        onProgress(done);
      }
    } finally {
      program.release();
    }
    return wanted;
  }
}

/** Layers whose gradients fit together, one at least. */
function passesOf(
  config: DecoderConfig,
  modules: readonly ModuleName[],
  most: number | undefined,
): readonly (readonly number[])[] {
  const sizeOf = (some: readonly ModuleName[]) =>
    some.reduce((sum, one) => sum + outputsOf(config, one) * inputsOf(config, SITE_OF[one]), 0);
  // a piece's gradients are there twice: just made, and summed
  const room = (most ?? Math.max(LEAST, 2 * sizeOf(MODULES))) - sizeOf(modules);
  const count = Math.max(1, Math.floor(room / sizeOf(modules)));
  const layers = Array.from({ length: config.numLayers }, (_, layer) => layer);
  return Array.from(
    { length: Math.ceil(layers.length / count) },
    (_, i) => layers.slice(i * count, (i + 1) * count),
  );
}

function wantedOf(
  config: DecoderConfig,
  layers: readonly number[],
  modules: readonly ModuleName[],
  parameter: (name: string, shape: readonly number[]) => Value,
): Wanted[] {
  return layers.flatMap((layer) =>
    modules.map((module) => {
      const [rows, columns] = [outputsOf(config, module), inputsOf(config, SITE_OF[module])];
      const weight = parameter(names.linear(layer, module), [rows, columns]);
      return { layer, module, weight, sum: new Float32Array(rows * columns) };
    })
  );
}

function batchesOf(
  config: DecoderConfig,
  examples: readonly Example[],
): readonly (readonly number[])[] {
  return microBatches(examples.map(computedLength), { budget: tokensAtOnce(config) });
}

function checkLengths(examples: readonly Example[], positions: number): void {
  const long = examples.find(({ tokens }) => tokens.length > positions);
  if (long === undefined) return;
  throw new RangeError(
    `Cannot compute gradients: the row of line ${long.line} has ${long.tokens.length} tokens, ` +
      `at most ${positions} fit`,
  );
}

/**
 * The sum transposed to [d_in, d_out], by the weight as the checkpoint has it: with W' = diag(r) · W ·
 * diag(c) in the graph, dW = diag(r) · dW' · diag(c).
 */
function matrixOf(
  parameters: DecoderParameters,
  { layer, module, weight, sum }: Wanted,
): LinearMatrix {
  const [rows = 0, columns = 0] = weight.shape.map(Number);
  const outputs = parameters.factorScale(layer, module);
  const inputs = parameters.factorScale(layer, SITE_OF[module]);
  const values = new Float32Array(sum.length);
  for (let row = 0; row < rows; row++) {
    const scale = outputs?.[row] ?? 1;
    for (let column = 0; column < columns; column++) {
      values[column * rows + row] = sum[row * columns + column] * scale * (inputs?.[column] ?? 1);
    }
  }
  return { layer, module, values };
}

function addTo(sum: Float32Array | undefined, part: Float32Array): void {
  if (sum === undefined) throw new TypeError("internal: a gradient that nobody wanted");
  for (let i = 0; i < sum.length; i++) sum[i] += part[i];
}
