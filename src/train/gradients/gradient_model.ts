/**
 * A decoder's `GradientModel` by cores alone: A and B frozen, G of many trainables side by side in
 * one micro-batch. Of the frozen base no gradient is computed, and nothing below the first adapted
 * layer.
 */
import type { DecoderConfig } from "../../checkpoint/checkpoint.ts";
import type { Value } from "../../graph/ops.ts";
import { buildTraining, type TrainingDecoder } from "../../models/decoder.ts";
import { inputs } from "../../models/inputs.ts";
import { type LinearHook, SITE_OF, type SiteName } from "../../models/hook.ts";
import { CoreLayout } from "./core_layout.ts";
import {
  inputOf,
  longestRow,
  LossProgram,
  type LossProgramOptions,
  tokensAtOnce,
} from "./loss_program.ts";
import type { GradientModel, Gradients, MicroBatch, RowLoss, TrainableState } from "./model.ts";
import { pack, type Packed } from "./packed.ts";

export interface DecoderGradientsOptions extends LossProgramOptions {
  readonly config: DecoderConfig;
  readonly hook: LinearHook;
  /** s of the branch. */
  readonly scale: number;
  /** Rows of the RoPE tables that `parameters` were made with. */
  readonly positions: number;
  /** How many of a teacher's tokens each position is compared by; undefined = there is no teacher. */
  readonly taught?: number | undefined;
  /** Tokens of a micro-batch; default: what is fastest within bounded memory. */
  readonly maxTokens?: number;
}

/** A decoder with G under training. */
export class DecoderGradients implements GradientModel {
  readonly maxTokens: number;
  readonly maxContext: number;
  readonly #program: LossProgram;
  readonly #cores: CoreInputs;

  private constructor(options: DecoderGradientsOptions, program: LossProgram, cores: CoreInputs) {
    this.maxTokens = options.maxTokens ?? tokensAtOnce(options.config);
    this.maxContext = longestRow(options.config, options.positions, options.device);
    this.#program = program;
    this.#cores = cores;
  }

  static async compile(options: DecoderGradientsOptions): Promise<DecoderGradients> {
    const { config, hook, scale, positions, taught } = options;
    const { modules, rank } = hook;
    const layout = new CoreLayout({ layers: config.numLayers, rank, modules, scale });
    const decoder = buildTraining(config, positions, hook, { taught });
    const cores = new CoreInputs(decoder, layout);
    const program = await LossProgram.compile(decoder, cores.values, options);
    return new DecoderGradients(options, program, cores);
  }

  async gradients(batch: MicroBatch, signal?: AbortSignal): Promise<Gradients> {
    const packed = this.#load(batch);
    await this.#program.run("gradients", packed.sizes, signal);
    return {
      rows: this.#program.losses(packed, batch.rows.length),
      gradients: this.#cores.collect(this.#program, packed, batch.trainables),
    };
  }

  async losses(batch: MicroBatch, signal?: AbortSignal): Promise<readonly RowLoss[]> {
    const packed = this.#load(batch);
    await this.#program.run("losses", packed.sizes, signal);
    return this.#program.losses(packed, batch.rows.length);
  }

  release(): void {
    this.#program.release();
  }

  #load({ rows, trainables }: MicroBatch): Packed {
    const packed = pack(rows);
    this.#program.load(packed);
    this.#cores.load(this.#program, packed, trainables);
    return packed;
  }
}

/** A site's cores in one layer, as the graph reads them. */
interface CoreInput {
  readonly value: Value;
  readonly layer: number;
  readonly site: SiteName;
  /** Numbers of one row. */
  readonly size: number;
}

/** The cores of a micro-batch's rows, in and out of a program. */
export class CoreInputs {
  readonly #layout: CoreLayout;
  readonly #inputs: readonly CoreInput[];

  constructor({ graph }: TrainingDecoder, layout: CoreLayout) {
    const { layers, rank, modules } = layout.shape;
    this.#layout = layout;
    this.#inputs = Array.from({ length: layers }, (_, layer) =>
      layout.sites.map((site) => ({
        value: inputOf(graph.inputs, inputs.cores(layer, site)),
        layer,
        site,
        size: modules.filter((module) => SITE_OF[module] === site).length * rank ** 2,
      }))).flat();
  }

  get values(): Value[] {
    return this.#inputs.map(({ value }) => value);
  }

  /** Each trainable's matrices are laid out once and copied to its other rows. */
  load(program: LossProgram, packed: Packed, trainables: readonly TrainableState[]): void {
    const rows = rowsOf(packed, trainables.length);
    for (const { value, layer, site, size } of this.#inputs) {
      const data = program.data(value, packed.sizes);
      rows.forEach(([first, ...others], i) => {
        if (first === undefined) return;
        const { parameters, rank } = trainables[i];
        const matrices = data.subarray(first * size, (first + 1) * size);
        this.#layout.write(parameters, rank, layer, site, matrices);
        for (const row of others) data.copyWithin(row * size, first * size, (first + 1) * size);
      });
    }
  }

  /** Each trainable's gradient: the sum over its rows. What the program made is written over. */
  collect(
    program: LossProgram,
    packed: Packed,
    trainables: readonly Pick<TrainableState, "rank">[],
  ): Float32Array[] {
    const sums = trainables.map(({ rank }) => new Float32Array(this.#layout.count(rank)));
    const rows = rowsOf(packed, trainables.length);
    for (const { value, layer, site, size } of this.#inputs) {
      const data = program.gradient(value, packed.sizes);
      rows.forEach(([first, ...others], i) => {
        if (first === undefined) return;
        const sum = data.subarray(first * size, (first + 1) * size);
        for (const row of others) addTo(sum, data.subarray(row * size, (row + 1) * size));
        this.#layout.accumulate(sums[i], trainables[i].rank, layer, site, sum);
      });
    }
    return sums;
  }
}

/** The grid's rows of each trainable. */
function rowsOf({ trainables }: Packed, count: number): readonly (readonly number[])[] {
  const rows: number[][] = Array.from({ length: count }, () => []);
  trainables.forEach((trainable, row) => rows[trainable].push(row));
  return rows;
}

function addTo(sum: Float32Array, part: Float32Array): void {
  for (let i = 0; i < sum.length; i++) sum[i] += part[i];
}
