/**
 * A decoder with its loss, differentiated by some of its values, cut into pieces and compiled: one
 * or two a layer, forth and back. It takes packed micro-batches in and gives losses by row and
 * gradients out; what the wanted values stand for its users know (`gradient_model.ts`,
 * `lotr_model.ts`, `weight_gradients.ts`).
 */
import type { DecoderConfig } from "../../checkpoint/checkpoint.ts";
import { differentiate } from "../../graph/autodiff.ts";
import type { Graph } from "../../graph/graph.ts";
import type { Value } from "../../graph/ops.ts";
import { segments } from "../../graph/segments.ts";
import type { TrainingDecoder } from "../../models/decoder.ts";
import { inputs } from "../../models/inputs.ts";
import type { Device } from "../../runtime/device.ts";
import type { RowLoss } from "./model.ts";
import { lossesOf, type Packed } from "./packed.ts";
import { Program, type ProgramOptions } from "./program.ts";
import type { Sizes } from "./program_memory.ts";

/** Tokens of a micro-batch at most: more are no faster, and hold the device longer. */
const MOST_TOKENS = 1024;
/** And at least: fewer are slower. */
const LEAST_TOKENS = 256;
/** Bytes of what a micro-batch keeps for its pullbacks. */
const KEPT_BYTES = 1.5 * 2 ** 30;

/**
 * Tokens of a micro-batch: as many as are fastest, fewer where a base is so wide and deep that what its
 * layers keep for the way back would take more than 1.5 GiB.
 */
export function tokensAtOnce(config: DecoderConfig): number {
  const { hiddenSize, intermediateSize, numLayers, numHeads, numKvHeads, headDim } = config;
  const qkv = (numHeads + 2 * numKvHeads) * headDim;
  const kept = 4 * numLayers * (3 * intermediateSize + 6 * hiddenSize + qkv);
  const fitting = Math.floor(KEPT_BYTES / kept / LEAST_TOKENS) * LEAST_TOKENS;
  return Math.min(MOST_TOKENS, Math.max(LEAST_TOKENS, fitting));
}

/**
 * Tokens of the longest row that is trained on: as many as there are positions, fewer where attention's
 * scores, all heads' at once, would be half of the largest tensor of the device.
 */
export function longestRow(
  { numHeads }: Pick<DecoderConfig, "numHeads">,
  positions: number,
  { largestTensor }: Pick<Device, "largestTensor">,
): number {
  const scores = largestTensor / 2 / (numHeads * Float32Array.BYTES_PER_ELEMENT);
  return Math.min(positions, Math.floor(Math.sqrt(scores)));
}

/** Rows of logits at once: the vocabulary is wide. */
const LOSS_CHUNK = 32;
/** Bytes of logits at once on other devices, for which few rows are little work. */
const DEVICE_LOGITS = 64 * 2 ** 20;

/** Forward only, or gradients as well. */
export type Pass = "losses" | "gradients";

/**
 * How long the device is taken at a time: half a layer, shorter than a decode step, or a layer, a
 * twentieth faster where nobody else waits.
 */
export type Pieces = "layers" | "half layers";

export interface LossProgramOptions extends Omit<ProgramOptions, "chunk" | "passing" | "results"> {
  /** Default "half layers". */
  readonly pieces?: Pieces;
  /**
   * Hears of the gradient by each wanted value as soon as a run has it. Without, all of them are
   * there when the run has ended.
   */
  readonly onGradient?: (wanted: Value, gradient: Float32Array) => void;
}

export class LossProgram {
  readonly #program: Program;
  readonly #forward: number;
  readonly #values: LossValues;
  readonly #gradients: ReadonlyMap<Value, Value>;

  private constructor(program: Program, derived: Derived, values: LossValues) {
    this.#program = program;
    this.#forward = derived.forward;
    this.#gradients = derived.gradients;
    this.#values = values;
  }

  /** @throws {TypeError} where the loss does not depend on a wanted value. */
  static async compile(
    decoder: TrainingDecoder,
    wanted: readonly Value[],
    options: LossProgramOptions,
  ): Promise<LossProgram> {
    const derived = derive(decoder, wanted, options.pieces ?? "half layers");
    const { onGradient } = options;
    const passing = onGradient && new Map(
      [...derived.gradients].map(([wanted, { name }]) =>
        [name, (data: Float32Array) => onGradient(wanted, data)] as const
      ),
    );
    const program = await Program.compile(derived.graphs, {
      ...options,
      chunk: chunkOf(decoder.logits, options.device),
      results: [decoder.loss, decoder.hits, ...derived.gradients.values()],
      ...(passing === undefined ? {} : { passing }),
    });
    return new LossProgram(program, derived, lossValues(decoder));
  }

  /** Writes tokens and loss positions where the program reads them. */
  load({ sizes, ...packed }: Packed): void {
    const write = (value: Value, data: Int32Array) =>
      this.#program.data<Int32Array>(value, sizes).set(data);
    const values = this.#values;
    write(values.ids, packed.ids);
    write(values.context, packed.context);
    write(values.offsets, packed.offsets);
    write(values.cells, packed.cells);
    write(values.places, packed.places);
    write(values.rows, packed.positions);
    write(values.targets, packed.targets);
    this.data(values.seeds, sizes).set(packed.weights);
    if (values.taught !== undefined) write(values.taught, packed.taught);
    if (values.shares !== undefined) this.data(values.shares, sizes).set(packed.shares);
    const grid = [BigInt(sizes.batch), BigInt(sizes.time)];
    this.#program.data<BigInt64Array>(values.grid, sizes).set(grid);
  }

  /** @throws {DOMException} AbortError where `signal` fires between two pieces. */
  async run(pass: Pass, sizes: Sizes, signal?: AbortSignal): Promise<void> {
    const end = pass === "losses" ? this.#forward : this.#program.length;
    await this.#program.run(sizes, 0, end, signal);
  }

  /** A float32 value's memory: an input to write, or an output to read. */
  data(value: Value, sizes: Sizes): Float32Array {
    return this.#program.data<Float32Array>(value, sizes);
  }

  /** The gradient by a wanted value, after a run. */
  gradient(wanted: Value, sizes: Sizes): Float32Array {
    const gradient = this.#gradients.get(wanted);
    if (gradient === undefined) throw new TypeError(`internal: ${wanted.name} was not wanted`);
    return this.data(gradient, sizes);
  }

  /** Losses of a micro-batch of so many rows, after a run. */
  losses(packed: Packed, rows: number): RowLoss[] {
    const { loss, hits } = this.#values;
    return lossesOf(packed, rows, this.data(loss, packed.sizes), this.data(hits, packed.sizes));
  }

  release(): void {
    this.#program.release();
  }
}

function chunkOf({ shape }: Value, { name }: Device): number {
  if (name === "cpu") return LOSS_CHUNK;
  const bytes = Number(shape[1]) * Float32Array.BYTES_PER_ELEMENT;
  return Math.max(LOSS_CHUNK, Math.floor(DEVICE_LOGITS / bytes / LOSS_CHUNK) * LOSS_CHUNK);
}

/** What goes in and comes out, whatever is trained. */
interface LossValues {
  readonly ids: Value;
  readonly grid: Value;
  readonly context: Value;
  readonly offsets: Value;
  readonly cells: Value;
  readonly places: Value;
  readonly rows: Value;
  readonly targets: Value;
  readonly seeds: Value;
  /** Where there is a teacher. */
  readonly taught: Value | undefined;
  readonly shares: Value | undefined;
  readonly loss: Value;
  readonly hits: Value;
}

interface Derived {
  readonly graphs: readonly Graph[];
  /** Pieces of the forward pass, the loss included. */
  readonly forward: number;
  readonly gradients: ReadonlyMap<Value, Value>;
}

function derive(
  { graph, entries, normed, logits, loss, hits, seeds }: TrainingDecoder,
  wanted: readonly Value[],
  pieces: Pieces,
): Derived {
  const after = (value: Value) => graph.nodes.findIndex(({ out }) => out === value) + 1;
  const later = cutsOf(entries, pieces);
  const forward = [...later.map(after), after(normed)];
  const lost = graph.nodes.length;
  const { gradient, boundary } = differentiate(graph, new Map([[loss, seeds]]), wanted);
  const end = graph.nodes.length;
  const backward = [boundary(logits), ...later.map(boundary).reverse()];
  const gradients = new Map(wanted.map((value) => {
    const found = gradient(value);
    if (found === undefined) throw new TypeError(`internal: the loss does not see ${value.name}`);
    return [value, found];
  }));
  const finished = graph.finish([loss, hits, ...gradients.values()]);
  const cuts = [...forward, lost, ...backward.filter((cut) => cut > lost && cut < end)];
  const graphs = segments(finished, [...new Set(cuts)]);
  return { graphs, forward: forward.length + 1, gradients };
}

/** Where to cut: before each layer but the first, and between its attention and its MLP. */
function cutsOf(entries: readonly Value[], pieces: Pieces): readonly Value[] {
  return pieces === "layers" ? entries.filter((_, i) => i > 0 && i % 2 === 0) : entries.slice(1);
}

function lossValues({ graph, seeds, loss, hits }: TrainingDecoder): LossValues {
  const find = (name: string) => inputOf(graph.inputs, name);
  const known = (name: string) => graph.inputs.find((value) => value.name === name);
  return {
    ids: find(inputs.ids),
    grid: find(inputs.grid),
    context: find(inputs.context),
    offsets: find(inputs.offsets),
    cells: find(inputs.cells),
    places: find(inputs.places),
    rows: find(inputs.rows),
    targets: find(inputs.targets),
    seeds,
    taught: known(inputs.taught),
    shares: known(inputs.shares),
    loss,
    hits,
  };
}

/** An input of a graph. */
export function inputOf(values: readonly Value[], name: string): Value {
  const found = values.find((value) => value.name === name);
  if (found === undefined) throw new TypeError(`internal: the graph has no input ${name}`);
  return found;
}
