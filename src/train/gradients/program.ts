/**
 * A differentiated graph ready to run: compiled pieces, the memory of what passes between them, and
 * bindings that are kept for shapes that come again. Each piece takes the device for itself, so
 * that serving goes on in between.
 */
import { lower, type LoweringPlan } from "../../graph/lowering/lowering.ts";
import type { Graph, ParameterSource } from "../../graph/graph.ts";
import type { Value } from "../../graph/ops.ts";
import type { BlockSource } from "../../graph/quantise.ts";
import type { DeviceWeights } from "../../models/device_weights.ts";
import type { Binding, Device, Session, SessionOptions, Tensor } from "../../runtime/device.ts";
import type { Turn } from "../../runtime/device_lock.ts";

/** What the named dimensions of a graph are in one run. */
export interface Sizes {
  readonly tokens: number;
  /** batch × time. */
  readonly cells: number;
  readonly batch: number;
  readonly rows: number;
  /** Tokens of a row. */
  readonly time: number;
  /** Rows that a row may share, at most. */
  readonly contexts: number;
  /** Tokens that a row sees at most: (contexts + 1) × time. */
  readonly keys: number;
}

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

/** The rows that a run of a chunked piece takes. */
interface RowPart {
  readonly start: number;
  readonly rows: number;
}

/** Room for the next somewhat larger run. */
const GROWTH = 1.25;
/** Shapes whose bindings a piece keeps. */
const KEPT_BINDINGS = 48;

export class Program {
  readonly #pieces: readonly Piece[];
  readonly #options: ProgramOptions;
  readonly #buffers = new Map<string, Tensor>();
  readonly #chunkLocal: ReadonlySet<string>;
  /** Whose memory a value has, where it has none of its own. */
  readonly #lodgings: ReadonlyMap<string, string>;

  private constructor(pieces: readonly Piece[], options: ProgramOptions) {
    this.#pieces = pieces;
    this.#options = options;
    this.#chunkLocal = localTo(pieces);
    this.#lodgings = lodgingsOf(pieces, options.passing);
  }

  static async compile(graphs: readonly Graph[], options: ProgramOptions): Promise<Program> {
    const { parameters, plan, weights, sessionConfig: config, progress } = options;
    const pieces: Piece[] = [];
    const lowered = graphs.map((graph) => lower(graph, parameters, plan));
    await weights.prepare(lowered);
    using made = new DisposableStack();
    for (const [i, graph] of graphs.entries()) {
      const options = config === undefined ? {} : { config };
      const session = made.use(await weights.session(lowered[i], options));
      const chunked = [...graph.inputs, ...graph.outputs].every(({ shape }) => shape[0] === "rows");
      pieces.push({ session, graph, chunked, bindings: new Map() });
      progress?.(pieces.length, graphs.length);
    }
    made.move();
    return new Program(pieces, options);
  }

  get length(): number {
    return this.#pieces.length;
  }

  /** A value's memory in a run of these sizes: to be written before it, or read after it. */
  data<T extends Tensor["data"]>(value: Value, sizes: Sizes): NonNullable<T> {
    const count = countOf(value, sizes);
    return this.#buffer(value, count).data?.subarray(0, count) as NonNullable<T>;
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
    this.#forget();
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
    const binding = this.#binding(index, sizes, part);
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

  #binding(index: number, sizes: Sizes, part: RowPart): Binding {
    const piece = this.#pieces[index];
    if (piece === undefined) throw new RangeError(`internal: no piece ${index}`);
    const key = `${Object.values(sizes).join(".")}.${part.start}`;
    const known = piece.bindings.get(key);
    if (known !== undefined) return known;
    if (piece.bindings.size >= KEPT_BINDINGS) dropBindings(piece);
    const binding = this.#bind(piece, sizes, part);
    piece.bindings.set(key, binding);
    return binding;
  }

  #bind({ session, graph }: Piece, sizes: Sizes, { start, rows }: RowPart): Binding {
    // All room is made before any view: growing drops bindings.
    const values = [...graph.inputs, ...graph.outputs];
    for (const value of values) this.#buffer(value, this.#room(value, sizes));
    // The binding holds what it needs.
    using views = new DisposableStack();
    const viewsOf = (values: readonly Value[]) =>
      Object.fromEntries(values.map((value) => {
        const shape = shapeOf(value, { ...sizes, rows });
        const offset = this.#chunkLocal.has(value.name) ? 0 : offsetOf(value, start);
        const buffer = this.#buffer(value, this.#room(value, sizes));
        return [value.name, views.use(this.#options.device.view(buffer, offset, shape))];
      }));
    return session.bind(viewsOf(graph.inputs), viewsOf(graph.outputs));
  }

  /** Elements that a value needs in a run of these sizes. */
  #room(value: Value, sizes: Sizes): number {
    const rows = this.#chunkLocal.has(value.name)
      ? Math.min(sizes.rows, this.#options.chunk)
      : sizes.rows;
    return countOf(value, { ...sizes, rows });
  }

  /** A value's memory, of at least `count` elements; what it held is lost where it grows. */
  #buffer(value: Value, count: number): Tensor {
    const name = this.#lodgings.get(value.name) ?? value.name;
    const known = this.#buffers.get(name);
    if (known !== undefined && Number(known.data?.length) >= count) return known;
    if (known !== undefined) {
      known.release();
      for (const piece of this.#pieces) dropBindings(piece);
    }
    const buffer = this.#options.device.tensor(value.dtype, [Math.ceil(GROWTH * count)]);
    this.#buffers.set(name, buffer);
    return buffer;
  }

  #forget(): void {
    for (const piece of this.#pieces) dropBindings(piece);
    for (const buffer of this.#buffers.values()) buffer.release();
    this.#buffers.clear();
  }
}

function dropBindings({ bindings }: Piece): void {
  for (const binding of bindings.values()) binding.release();
  bindings.clear();
}

/** Names of large values that pass between chunked pieces only, and need no more than a chunk. */
function localTo(pieces: readonly Piece[]): ReadonlySet<string> {
  const chunked = pieces.filter((piece) => piece.chunked);
  const others = pieces.filter((piece) => !piece.chunked);
  const outside = new Set(
    others.flatMap(({ graph }) => [...graph.inputs, ...graph.outputs]).map(({ name }) => name),
  );
  const read = new Set(chunked.flatMap(({ graph }) => graph.inputs).map(({ name }) => name));
  const made = chunked.flatMap(({ graph }) => graph.outputs).map(({ name }) => name);
  return new Set(made.filter((name) => read.has(name) && !outside.has(name)));
}

/** The n-th value that a piece passes on lies where that of any other piece does. */
function lodgingsOf(
  pieces: readonly Piece[],
  passing: ProgramOptions["passing"] = new Map(),
): ReadonlyMap<string, string> {
  return new Map(pieces.flatMap(({ graph }) =>
    graph.outputs.filter(({ name }) => passing.has(name))
      .map(({ name }, i) => [name, `passing.${i}`] as const)
  ));
}

function countOf(value: Value, sizes: Sizes): number {
  return shapeOf(value, sizes).reduce((product, size) => product * size, 1);
}

function shapeOf(value: Value, sizes: Sizes): number[] {
  return value.shape.map((dim) => {
    if (typeof dim === "number") return dim;
    const size = (sizes as unknown as Readonly<Record<string, number | undefined>>)[dim];
    if (size === undefined) throw new TypeError(`internal: ${value.name} has dimension ${dim}`);
    return size;
  });
}

/** Elements before row `start` of a value that leads with rows. */
function offsetOf(value: Value, start: number): number {
  if (value.shape[0] !== "rows") return 0;
  return start * value.shape.slice(1).reduce<number>((product, dim) => product * Number(dim), 1);
}
