/**
 * A decoder's `GradientModel` by A, B and G together: the paper's own method (LoTR, arXiv
 * 2402.01376), one trainable at a time since its factors are shared by all rows.
 */
import type { Value } from "../../graph/ops.ts";
import { buildTraining } from "../../models/decoder.ts";
import { inputsOf, outputsOf } from "../../models/widths.ts";
import type { ModuleName, SiteName } from "../../models/hook.ts";
import { type DecoderParameters, names } from "../../models/parameters.ts";
import { CoreLayout } from "./core_layout.ts";
import { CoreInputs, type DecoderGradientsOptions } from "./gradient_model.ts";
import { inputOf, longestRow, LossProgram, type Pass, tokensAtOnce } from "./loss_program.ts";
import type {
  BatchRow,
  GradientModel,
  Gradients,
  MicroBatch,
  RowLoss,
  TrainableState,
} from "./model.ts";
import { pack, type Packed } from "./packed.ts";

export interface LotrGradientsOptions extends DecoderGradientsOptions {
  readonly parameters: DecoderParameters;
}

/** One factor of one layer: an input of the graph, and what is folded into it there. */
interface FactorInput {
  readonly value: Value;
  /** A's rows or B's columns are multiplied by these; undefined = all ones. */
  readonly scale: ArrayLike<number> | undefined;
}

/** A of a site or B of a module, and its place in the vector. */
interface Factor {
  readonly kind: "a" | "b";
  /** d_in of A, d_out of B. */
  readonly width: number;
  readonly layers: readonly FactorInput[];
}

/** A decoder with A, B and G under training. */
export class LotrGradients implements GradientModel {
  readonly maxTokens: number;
  readonly maxContext: number;
  readonly #rank: number;
  readonly #program: LossProgram;
  readonly #factors: readonly Factor[];
  readonly #cores: CoreInputs;

  private constructor(
    { config, positions, hook, device, maxTokens = tokensAtOnce(config) }: LotrGradientsOptions,
    program: LossProgram,
    factors: readonly Factor[],
    cores: CoreInputs,
  ) {
    this.maxTokens = maxTokens;
    this.maxContext = longestRow(config, positions, device);
    this.#rank = hook.rank;
    this.#program = program;
    this.#factors = factors;
    this.#cores = cores;
  }

  static async compile(options: LotrGradientsOptions): Promise<LotrGradients> {
    const { config, hook, scale, positions, taught } = options;
    const { modules, rank } = hook;
    const layout = new CoreLayout({ layers: config.numLayers, rank, modules, scale });
    const decoder = buildTraining(config, positions, hook, { factors: "inputs", taught });
    const factors = factorInputs(options, layout, decoder.graph.inputs);
    const cores = new CoreInputs(decoder, layout);
    const values = factors.flatMap(({ layers }) => layers.map(({ value }) => value));
    const wanted = [...values, ...cores.values];
    const program = await LossProgram.compile(decoder, wanted, options);
    return new LotrGradients(options, program, factors, cores);
  }

  async gradients({ rows, trainables }: MicroBatch, signal?: AbortSignal): Promise<Gradients> {
    const losses = new Array<RowLoss>(rows.length);
    const gradients: Float32Array[] = [];
    for (const [i, trainable] of trainables.entries()) {
      const packed = await this.#runOne("gradients", rows, trainable, i, losses, signal);
      gradients.push(
        packed === undefined
          ? new Float32Array(trainable.parameters.length)
          : this.#collect(trainable, packed),
      );
    }
    return { rows: losses, gradients };
  }

  async losses({ rows, trainables }: MicroBatch, signal?: AbortSignal): Promise<RowLoss[]> {
    const losses = new Array<RowLoss>(rows.length);
    for (const [i, trainable] of trainables.entries()) {
      await this.#runOne("losses", rows, trainable, i, losses, signal);
    }
    return losses;
  }

  release(): void {
    this.#program.release();
  }

  /** Runs the rows of one trainable and puts their losses in their places; undefined for no row. */
  async #runOne(
    pass: Pass,
    rows: readonly BatchRow[],
    trainable: TrainableState,
    index: number,
    losses: RowLoss[],
    signal: AbortSignal | undefined,
  ): Promise<Packed | undefined> {
    const places = rows.flatMap((row, i) => row.trainable === index ? [i] : []);
    if (places.length === 0) return undefined;
    const packed = pack(places.map((i) => ({ example: rows[i].example, trainable: 0 })));
    this.#program.load(packed);
    const { factors, cores } = this.#parts(trainable);
    this.#factors.forEach((factor, i) => {
      for (const { value, scale } of factor.layers) {
        const to = this.#program.data(value, packed.sizes);
        writeFactor(factor, factors[i], trainable.rank, this.#rank, scale, to);
      }
    });
    this.#cores.load(this.#program, packed, [{ rank: trainable.rank, parameters: cores }]);
    await this.#program.run(pass, packed.sizes, signal);
    const made = this.#program.losses(packed, places.length);
    places.forEach((place, i) => losses[place] = made[i]);
    return packed;
  }

  #collect(trainable: TrainableState, packed: Packed): Float32Array {
    const gradient = new Float32Array(trainable.parameters.length);
    const { factors, cores } = this.#parts({ ...trainable, parameters: gradient });
    this.#factors.forEach((factor, i) => {
      for (const { value, scale } of factor.layers) {
        const from = this.#program.gradient(value, packed.sizes);
        addFactor(factor, factors[i], trainable.rank, this.#rank, scale, from);
      }
    });
    const [sum] = this.#cores.collect(this.#program, packed, [trainable]);
    cores.set(sum);
    return gradient;
  }

  /** Views of the vector: each factor, then the cores. */
  #parts({ parameters, rank }: TrainableState) {
    let at = 0;
    const factors = this.#factors.map(({ width }) => {
      const part = parameters.subarray(at, at + width * rank);
      at += width * rank;
      return part;
    });
    return { factors, cores: parameters.subarray(at) };
  }
}

function factorInputs(
  { config, parameters }: LotrGradientsOptions,
  { shape, sites }: CoreLayout,
  values: readonly Value[],
): Factor[] {
  const layersOf = (name: (layer: number) => string, what: SiteName | ModuleName) =>
    Array.from({ length: shape.layers }, (_, layer) => ({
      value: inputOf(values, name(layer)),
      scale: parameters.factorScale(layer, what),
    }));
  const a = sites.map((site): Factor => ({
    kind: "a",
    width: inputsOf(config, site),
    layers: layersOf((layer) => names.a(layer, site), site),
  }));
  const b = shape.modules.map((module): Factor => ({
    kind: "b",
    width: outputsOf(config, module),
    layers: layersOf((layer) => names.b(layer, module), module),
  }));
  return [...a, ...b];
}

/** A [d_in, k] to [d_in, R], or B [k, d_out] to [R, d_out], scaled, zeros beyond k. */
function writeFactor(
  { kind, width }: Factor,
  from: Float32Array,
  k: number,
  rank: number,
  scale: ArrayLike<number> | undefined,
  to: Float32Array,
): void {
  to.fill(0);
  visit(kind, width, k, rank, (own, padded, at) => to[padded] = from[own] * (scale?.[at] ?? 1));
}

/** The pullback of that, added up over layers. */
function addFactor(
  { kind, width }: Factor,
  sum: Float32Array,
  k: number,
  rank: number,
  scale: ArrayLike<number> | undefined,
  from: Float32Array,
): void {
  visit(kind, width, k, rank, (own, padded, at) => sum[own] += from[padded] * (scale?.[at] ?? 1));
}

/** Each element's place in the vector and in the padded matrix, and its row of A or column of B. */
function visit(
  kind: Factor["kind"],
  width: number,
  k: number,
  rank: number,
  element: (own: number, padded: number, at: number) => void,
): void {
  for (let at = 0; at < width; at++) {
    for (let r = 0; r < k; r++) {
      if (kind === "a") element(at * k + r, at * rank + r, at);
      else element(r * width + at, r * width + at, at);
    }
  }
}
