/**
 * A decoder's gradients by its own frozen weights, on a device: what factors are made of. The
 * differentiated graph and its pieces are those of training (`loss_program.ts`).
 */
import type { DecoderConfig } from "../../checkpoint/checkpoint.ts";
import type { Value } from "../../graph/ops.ts";
import { buildTraining, inputsOf, outputsOf } from "../../models/decoder.ts";
import { type ModuleName, SITE_OF } from "../../models/hook.ts";
import { names, queryScale } from "../../models/parameters.ts";
import type { GradientSource, LinearMatrix, WeightGradientRequest } from "./gradient_source.ts";
import { microBatches } from "../micro_batches.ts";
import { computedLength, type Example } from "./model.ts";
import { LossProgram, MAX_TOKENS } from "./loss_program.ts";
import { pack } from "./packed.ts";
import type { ProgramOptions } from "./program.ts";

/** `parameters` must be unfolded but for the attention scale: made without smoothing. */
export interface WeightGradientsOptions extends Omit<ProgramOptions, "chunk"> {
  readonly config: DecoderConfig;
  /** Rows of the RoPE tables that `parameters` were made with. */
  readonly positions: number;
  /** Called at release. */
  readonly onRelease?: () => void;
}

/** One linear's weight as the graph has it, [d_out, d_in], and its gradient. */
interface Wanted {
  readonly layer: number;
  readonly module: ModuleName;
  readonly weight: Value;
}

/** Weight gradients of a decoder; a program is compiled for each request. */
export class WeightGradients implements GradientSource {
  readonly #options: WeightGradientsOptions;

  constructor(options: WeightGradientsOptions) {
    this.#options = options;
  }

  /** @throws {RangeError} for a row longer than the RoPE tables */
  async weightGradients(request: WeightGradientRequest): Promise<readonly LinearMatrix[]> {
    const { config, positions } = this.#options;
    const { examples, modules, onProgress = () => {}, signal } = request;
    checkLengths(examples, positions);
    const decoder = buildTraining(config, positions, undefined);
    const wanted = wantedOf(config, modules, (name, shape) => decoder.graph.parameter(name, shape));
    const weights = wanted.map(({ weight }) => weight);
    const program = await LossProgram.compile(decoder, weights, this.#options);
    const sums = wanted.map(({ weight }) => new Float32Array(sizeOf(weight)));
    const total = examples.reduce((sum, { tokens }) => sum + tokens.length, 0);
    let done = 0;
    try {
      for (const indices of batchesOf(examples)) {
        const batch = indices.map((index) => examples[index]);
        const packed = pack(batch.map((example) => ({ example, trainable: 0 })));
        program.load(packed);
        await program.run("gradients", packed.sizes, signal);
        weights.forEach((weight, i) => addTo(sums[i], program.gradient(weight, packed.sizes)));
        done += batch.reduce((sum, { tokens }) => sum + tokens.length, 0);
        onProgress(done, total);
      }
    } finally {
      program.release();
    }
    return wanted.map((one, i) => matrixOf(config, one, sums[i]));
  }

  release(): void {
    this.#options.onRelease?.();
  }
}

function wantedOf(
  config: DecoderConfig,
  modules: readonly ModuleName[],
  parameter: (name: string, shape: readonly number[]) => Value,
): Wanted[] {
  return Array.from({ length: config.numLayers }, (_, layer) =>
    modules.map((module) => {
      const shape = [outputsOf(config, module), inputsOf(config, SITE_OF[module])];
      return { layer, module, weight: parameter(names.linear(layer, module), shape) };
    })).flat();
}

function batchesOf(examples: readonly Example[]): readonly (readonly number[])[] {
  return microBatches(examples.map(computedLength), { budget: MAX_TOKENS });
}

function checkLengths(examples: readonly Example[], positions: number): void {
  const long = examples.find(({ tokens }) => tokens.length > positions);
  if (long === undefined) return;
  throw new RangeError(
    `Cannot compute gradients: the row of line ${long.line} has ${long.tokens.length} tokens, ` +
      `at most ${positions} fit`,
  );
}

/** The sum transposed to [d_in, d_out], and the attention scale, folded into q, taken out again. */
function matrixOf(config: DecoderConfig, { layer, module, weight }: Wanted, sum: Float32Array) {
  const [rows = 0, columns = 0] = weight.shape.map(Number);
  const scale = module === "q_proj" && !config.qkNorm ? queryScale(config) : 1;
  const values = new Float32Array(sum.length);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      values[column * rows + row] = sum[row * columns + column] * scale;
    }
  }
  return { layer, module, values };
}

function addTo(sum: Float32Array, part: Float32Array): void {
  for (let i = 0; i < sum.length; i++) sum[i] += part[i];
}

function sizeOf({ shape }: Value): number {
  return shape.reduce<number>((product, dim) => product * Number(dim), 1);
}
