/**
 * A differentiated graph ready to run: compiled pieces, and bindings that are kept for shapes that
 * come again. Each piece takes the device for itself, so that serving goes on in between.
 */
import { lower, type LoweringPlan } from "../../graph/lowering/lowering.ts";
import type { Graph, ParameterSource } from "../../graph/graph.ts";
import type { Value } from "../../graph/ops.ts";
import type { BlockSource } from "../../graph/quantise.ts";
import type { DeviceWeights } from "../../models/device_weights.ts";
import type { Binding, Device, Session, SessionOptions, Tensor } from "../../runtime/device.ts";
import type { Turn } from "../../runtime/device_lock.ts";
import { isChunked, ProgramMemory, type RowPart, type Sizes } from "./program_memory.ts";

/** What a program is compiled with. */
export interface ProgramOptions {
  readonly device: Device;
  readonly weights: DeviceWeights;
  readonly parameters: ParameterSource & Partial<BlockSource>;
  readonly plan: LoweringPlan;
  /** Takes the device for one piece. */
  readonly turn: () => Turn | Promise<Turn>;
  /** Settings of the pieces' sessions. */
  readonly sessionConfig?: SessionOptions["config"];
  /** Rows of the loss that are computed at once. */
  readonly chunk: number;
  /** What is read after a run. */
  readonly results: readonly Value[];
  /**
   * Values by name that somebody reads as soon as a piece has made them: those of one piece share
   * their memory with those of the next.
   */
  readonly passing?: ReadonlyMap<string, (data: Float32Array) => void>;
  readonly progress?: (done: number, total: number) => void;
}

/** One compiled piece of the graph. */
interface Piece {
  readonly session: Session;
  readonly graph: Graph;
  /** Works on `rows` alone, so that it may take them in chunks. */
  readonly chunked: boolean;
  readonly bindings: Map<string, Binding>;
}

/** Shapes whose bindings a piece keeps. */
const KEPT_BINDINGS = 48;

export class Program {
  readonly #pieces: readonly Piece[];
  readonly #options: ProgramOptions;
  readonly #memory: ProgramMemory;

  private constructor(pieces: readonly Piece[], options: ProgramOptions) {
    const { device, results, chunk, passing } = options;
    this.#pieces = pieces;
    this.#options = options;
    this.#memory = new ProgramMemory(pieces.map(({ graph }) => graph), {
      ...{ device, results, chunk },
      passing: new Set(passing?.keys()),
      onGrow: () => pieces.forEach(dropBindings),
    });
  }

  static async compile(graphs: readonly Graph[], options: ProgramOptions): Promise<Program> {
    const { parameters, plan, weights, sessionConfig: config, progress } = options;
    const pieces: Piece[] = [];
    const lowered = graphs.map((graph) => lower(graph, parameters, plan));
    await weights.prepare(lowered);
    using made = new DisposableStack();
    for (const [i, graph] of graphs.entries()) {
      const shared = { resident: options.device.name !== "cpu" };
      const given = config === undefined ? shared : { ...shared, config };
      const session = made.use(await weights.session(lowered[i], given));
      pieces.push({ session, graph, chunked: isChunked(graph), bindings: new Map() });
      progress?.(pieces.length, graphs.length);
    }
    made.move();
    return new Program(pieces, options);
  }

  get length(): number {
    return this.#pieces.length;
  }

  /** Host memory of a value: to be written before a run of these sizes, or read after it. */
  data<T extends Tensor["data"]>(value: Value, sizes: Sizes): NonNullable<T> {
    return this.#memory.data<T>(value, sizes);
  }

  /**
   * Runs the pieces from `first` up to `end`, one turn of the device each.
   * @throws {DOMException} AbortError between two pieces.
   */
  async run(sizes: Sizes, first: number, end: number, signal?: AbortSignal): Promise<void> {
    let at = first;
    while (at < end) {
      const group = this.#group(at, end);
      const step = group.chunked ? this.#options.chunk : sizes.rows;
      for (let start = 0; start < sizes.rows; start += step) {
        const rows = Math.min(step, sizes.rows - start);
        for (let i = at; i < group.end; i++) {
          signal?.throwIfAborted();
          await this.#runPiece(i, sizes, { start, rows });
        }
      }
      at = group.end;
    }
  }

  release(): void {
    this.#pieces.forEach(dropBindings);
    this.#memory.release();
    for (const { session } of this.#pieces) session.release();
  }

  /** Neighbouring pieces that go through the rows together. */
  #group(at: number, end: number): { readonly chunked: boolean; readonly end: number } {
    const chunked = this.#pieces[at]?.chunked ?? false;
    if (!chunked) return { chunked, end: at + 1 };
    let last = at + 1;
    while (last < end && this.#pieces[last]?.chunked) last++;
    return { chunked, end: last };
  }

  async #runPiece(index: number, sizes: Sizes, part: RowPart): Promise<void> {
    const binding = await this.#binding(index, sizes, part);
    {
      using _turn = await this.#options.turn();
      await binding.run();
    }
    const { passing } = this.#options;
    if (passing === undefined) return;
    for (const value of this.#pieces[index].graph.outputs) {
      passing.get(value.name)?.(this.data<Float32Array>(value, sizes));
    }
  }

  async #binding(index: number, sizes: Sizes, part: RowPart): Promise<Binding> {
    const piece = this.#pieces[index];
    if (piece === undefined) throw new RangeError(`internal: no piece ${index}`);
    const key = `${Object.values(sizes).join(".")}.${part.start}`;
    const known = piece.bindings.get(key);
    if (known !== undefined) return known;
    if (piece.bindings.size >= KEPT_BINDINGS) dropBindings(piece);
    const binding = await this.#bind(piece, sizes, part);
    piece.bindings.set(key, binding);
    return binding;
  }

  async #bind({ session, graph }: Piece, sizes: Sizes, part: RowPart): Promise<Binding> {
    const { inputs, outputs } = graph;
    // the binding holds what it needs
    using made = new DisposableStack();
    const views = await this.#memory.views([...inputs, ...outputs], sizes, part, made);
    const viewsOf = (values: readonly Value[]) =>
      Object.fromEntries(values.map(({ name }) => [name, views[name]]));
    return session.bind(viewsOf(inputs), viewsOf(outputs));
  }
}

function dropBindings({ bindings }: Piece): void {
  for (const binding of bindings.values()) binding.release();
  bindings.clear();
}
