/**
 * A decoder's `GradientModel` on a device: builds the differentiated graph for one factor set, runs
 * micro-batches through it piece by piece, and carries cores in and gradients out. Of the frozen
 * base no gradient is computed, and nothing below the first adapted layer. It knows no optimizer.
 */
import type { DecoderConfig } from "../checkpoint/checkpoint.ts";
import { differentiate } from "../graph/autodiff.ts";
import type { Graph, Value } from "../graph/graph.ts";
import { segments } from "../graph/segments.ts";
import { buildTraining, inputs, type TrainingDecoder } from "../models/decoder.ts";
import { type LinearHook, SITE_OF, type SiteName } from "../models/hook.ts";
import { CoreLayout } from "./core_layout.ts";
import type { GradientModel, Gradients, MicroBatch, RowLoss } from "./model.ts";
import { lossesOf, pack, type Packed } from "./packed.ts";
import { Program, type ProgramOptions } from "./program.ts";

/** Tokens of a micro-batch: enough for the kernels' best speed, little enough for the caches. */
const MAX_TOKENS = 512;

export interface DecoderGradientsOptions extends Omit<ProgramOptions, "owner" | "chunk"> {
  readonly config: DecoderConfig;
  readonly hook: LinearHook;
  /** s of the branch. */
  readonly scale: number;
  /** Rows of the RoPE tables that `parameters` were made with. */
  readonly positions: number;
  readonly maxTokens?: number;
}

/** Where the pieces of a program begin and end. */
export interface Cuts {
  readonly graphs: readonly Graph[];
  /** Pieces of the forward pass, those of the loss included. */
  readonly forward: number;
}

/** Rows of logits at once: the vocabulary is wide. */
export const LOSS_CHUNK = 64;

/** A decoder with G under training; A and B frozen. */
export class DecoderGradients implements GradientModel {
  readonly maxTokens: number;
  readonly maxContext: number;
  readonly #layout: CoreLayout;
  readonly #program: Program;
  readonly #forward: number;
  readonly #values: CoreValues;

  private constructor(
    options: DecoderGradientsOptions,
    layout: CoreLayout,
    program: Program,
    forward: number,
    values: CoreValues,
  ) {
    this.maxTokens = options.maxTokens ?? MAX_TOKENS;
    this.maxContext = options.positions;
    this.#layout = layout;
    this.#program = program;
    this.#forward = forward;
    this.#values = values;
  }

  static async compile(options: DecoderGradientsOptions): Promise<DecoderGradients> {
    const { config, hook, scale, positions } = options;
    const { modules, rank } = hook;
    const layout = new CoreLayout({ layers: config.numLayers, rank, modules, scale });
    const decoder = buildTraining(config, positions, hook);
    const cores = coreInputs(decoder, layout);
    const { cuts, gradients } = derive(decoder, cores.map(({ value }) => value));
    const program = await Program.compile(cuts.graphs, {
      ...options,
      owner: hook.digest,
      chunk: LOSS_CHUNK,
    });
    const sites = cores.map((core, i) => ({ ...core, gradient: gradients[i] }));
    const values = { decoder: lossValues(decoder), sites };
    return new DecoderGradients(options, layout, program, cuts.forward, values);
  }

  async gradients(batch: MicroBatch, signal?: AbortSignal): Promise<Gradients> {
    const packed = this.#load(batch);
    await this.#program.run(packed.sizes, 0, this.#program.length, signal);
    return { rows: this.#losses(batch, packed), gradients: this.#collect(batch, packed) };
  }

  async losses(batch: MicroBatch, signal?: AbortSignal): Promise<readonly RowLoss[]> {
    const packed = this.#load(batch);
    await this.#program.run(packed.sizes, 0, this.#forward, signal);
    return this.#losses(batch, packed);
  }

  release(): void {
    this.#program.release();
  }

  #load(batch: MicroBatch): Packed {
    const packed = pack(batch.rows);
    const { sizes } = packed;
    this.#program.reserve({
      ...sizes,
      tokens: Math.max(sizes.tokens, this.maxTokens),
      rows: Math.max(sizes.rows, LOSS_CHUNK),
    });
    loadTokens(this.#program, this.#values.decoder, packed);
    const size = matrixSize(this.#layout);
    for (const { value, layer, site } of this.#values.sites) {
      const width = size(site);
      const data = this.#program.data<Float32Array>(value, sizes);
      packed.trainables.forEach((trainable, row) => {
        const { parameters, rank } = batch.trainables[trainable];
        const to = data.subarray(row * width, (row + 1) * width);
        this.#layout.write(parameters, rank, layer, site, to);
      });
    }
    return packed;
  }

  #losses({ rows }: MicroBatch, packed: Packed): RowLoss[] {
    const { nll, hits } = this.#values.decoder;
    const read = (value: Value) => this.#program.data<Float32Array>(value, packed.sizes);
    return lossesOf(packed, rows.length, read(nll), read(hits));
  }

  #collect({ trainables }: MicroBatch, packed: Packed): Float32Array[] {
    const sums = trainables.map(({ rank }) => new Float32Array(this.#layout.count(rank)));
    const size = matrixSize(this.#layout);
    for (const { gradient, layer, site } of this.#values.sites) {
      const width = size(site);
      const data = this.#program.data<Float32Array>(gradient, packed.sizes);
      packed.trainables.forEach((trainable, row) => {
        const from = data.subarray(row * width, (row + 1) * width);
        const { rank } = trainables[trainable];
        this.#layout.accumulate(sums[trainable], rank, layer, site, from);
      });
    }
    return sums;
  }
}

/** Inputs and outputs of the loss, whatever is trained. */
export interface LossValues {
  readonly ids: Value;
  readonly grid: Value;
  readonly context: Value;
  readonly offsets: Value;
  readonly rows: Value;
  readonly targets: Value;
  readonly seeds: Value;
  readonly nll: Value;
  readonly hits: Value;
}

interface CoreInput {
  readonly value: Value;
  readonly layer: number;
  readonly site: SiteName;
}

interface CoreValues {
  readonly decoder: LossValues;
  readonly sites: readonly (CoreInput & { readonly gradient: Value })[];
}

/** Differentiates a decoder by what is wanted and cuts it: a piece a layer, forth and back. */
export function derive(
  { graph, entries, normed, logits, nll, hits, seeds }: TrainingDecoder,
  wanted: readonly Value[],
): { readonly cuts: Cuts; readonly gradients: readonly Value[] } {
  const after = (value: Value) => graph.nodes.findIndex(({ out }) => out === value) + 1;
  const later = entries.slice(1);
  const forward = [...later.map(after), after(normed)];
  const made = graph.nodes.length;
  const { gradient, boundary } = differentiate(graph, new Map([[nll, seeds]]), wanted);
  const backward = [boundary(logits), ...later.map(boundary).reverse()]
    .filter((cut) => cut > made && cut < graph.nodes.length);
  const gradients = wanted.map((value) => {
    const found = gradient(value);
    if (found === undefined) throw new TypeError(`internal: the loss does not see ${value.name}`);
    return found;
  });
  const finished = graph.finish([nll, hits, ...gradients]);
  const cuts = [...new Set([...forward, made, ...backward])];
  return { cuts: { graphs: segments(finished, cuts), forward: forward.length + 1 }, gradients };
}

export function lossValues({ graph, seeds, nll, hits }: TrainingDecoder): LossValues {
  const find = (name: string) => inputOf(graph.inputs, name);
  return {
    ids: find(inputs.ids),
    grid: find(inputs.grid),
    context: find(inputs.context),
    offsets: find(inputs.offsets),
    rows: find(inputs.rows),
    targets: find(inputs.targets),
    seeds,
    nll,
    hits,
  };
}

/** Writes a micro-batch's tokens and loss positions where the program reads them. */
export function loadTokens(program: Program, values: LossValues, packed: Packed): void {
  const { sizes, time, ids, context, offsets, positions, targets, weights } = packed;
  program.data<Int32Array>(values.ids, sizes).set(ids);
  program.data<BigInt64Array>(values.grid, sizes).set([BigInt(sizes.batch), BigInt(time)]);
  program.data<Int32Array>(values.context, sizes).set(context);
  program.data<Int32Array>(values.offsets, sizes).set(offsets);
  program.data<Int32Array>(values.rows, sizes).set(positions);
  program.data<Int32Array>(values.targets, sizes).set(targets);
  program.data<Float32Array>(values.seeds, sizes).set(weights);
}

function coreInputs({ graph }: TrainingDecoder, layout: CoreLayout): CoreInput[] {
  return Array.from({ length: layout.shape.layers }, (_, layer) =>
    layout.sites.map((site) => ({
      value: inputOf(graph.inputs, inputs.cores(layer, site)),
      layer,
      site,
    }))).flat();
}

function inputOf(values: readonly Value[], name: string): Value {
  const found = values.find((value) => value.name === name);
  if (found === undefined) throw new TypeError(`internal: the graph has no input ${name}`);
  return found;
}

function matrixSize({ shape, sites }: CoreLayout): (site: SiteName) => number {
  const counts = new Map(
    sites.map((site) => [site, shape.modules.filter((m) => SITE_OF[m] === site).length]),
  );
  return (site) => (counts.get(site) ?? 0) * shape.rank ** 2;
}
