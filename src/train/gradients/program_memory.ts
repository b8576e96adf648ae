/**
 * The memory of what passes between a program's pieces. What callers write or read lies in host memory;
 * on a device with memory of its own the rest stays there from piece to piece. Trap: such memory is
 * viewed from its beginning alone, so what chunks of rows read lies in host memory, too.
 */
import type { Graph } from "../../graph/graph.ts";
import type { Value } from "../../graph/ops.ts";
import type { Device, Tensor } from "../../runtime/device.ts";
import { bytesPerElement } from "../../runtime/onnx/tensor.ts";

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

/** The rows that a run of a chunked piece takes. */
export interface RowPart {
  readonly start: number;
  readonly rows: number;
}

export interface ProgramMemoryOptions {
  readonly device: Device;
  /** What callers read after a run. */
  readonly results: readonly Value[];
  /** Rows that chunked pieces compute at once. */
  readonly chunk: number;
  /** Names of values that callers read as soon as a piece has made them. */
  readonly passing: ReadonlySet<string>;
  /** Called where memory was replaced by larger one: what is bound to the old is stale. */
  readonly onGrow: () => void;
}

/** Room for the next somewhat larger run. */
const GROWTH = 1.25;
/** Of device memory, views end at a multiple of so many bytes, or where it ends. */
const VIEWED_BYTES = 16;

export class ProgramMemory {
  readonly #options: ProgramMemoryOptions;
  readonly #tensors = new Map<string, Tensor>();
  /** Names of values that need no more than a chunk. */
  readonly #chunkLocal: ReadonlySet<string>;
  /** Whose memory a value has, where it has none of its own. */
  readonly #lodgings: ReadonlyMap<string, string>;
  /** Names of values in device memory. */
  readonly #onDevice: ReadonlySet<string>;

  constructor(graphs: readonly Graph[], options: ProgramMemoryOptions) {
    this.#options = options;
    this.#chunkLocal = localTo(graphs);
    this.#lodgings = lodgingsOf(graphs, options.passing);
    this.#onDevice = options.device.name === "cpu"
      ? new Set()
      : betweenPieces(graphs, options.results, this.#chunkLocal);
  }

  /** Host memory of a value of so many elements: to be written before a run, or read after it. */
  data<T extends Tensor["data"]>(value: Value, sizes: Sizes): NonNullable<T> {
    const count = countOf(value, sizes);
    const { data } = this.#hostTensor(value, count);
    return data?.subarray(0, count) as NonNullable<T>;
  }

  /** A view of each value by its name, as a piece takes them; disposed with `made`. */
  async views(
    values: readonly Value[],
    sizes: Sizes,
    part: RowPart,
    made: DisposableStack,
  ): Promise<Readonly<Record<string, Tensor>>> {
    // All room is made before any view: growing makes views stale.
    const tensors: Tensor[] = [];
    for (const value of values) tensors.push(await this.#tensor(value, this.#room(value, sizes)));
    return Object.fromEntries(values.map((value, i) => {
      const shape = shapeOf(value, { ...sizes, rows: part.rows });
      const offset = this.#chunkLocal.has(value.name) ? 0 : offsetOf(value, part.start);
      return [value.name, made.use(this.#options.device.view(tensors[i], offset, shape))];
    }));
  }

  release(): void {
    for (const tensor of this.#tensors.values()) tensor.release();
    this.#tensors.clear();
  }

  /** Elements that a value needs in a run of these sizes. */
  #room(value: Value, sizes: Sizes): number {
    const rows = this.#chunkLocal.has(value.name)
      ? Math.min(sizes.rows, this.#options.chunk)
      : sizes.rows;
    return countOf(value, { ...sizes, rows });
  }

  async #tensor(value: Value, count: number): Promise<Tensor> {
    if (!this.#onDevice.has(value.name)) return this.#hostTensor(value, count);
    const bytes = count * bytesPerElement(value.dtype);
    const aligned = bytes % VIEWED_BYTES === 0;
    const known = this.#tensors.get(value.name);
    const held = known?.byteLength ?? 0;
    if (known !== undefined && (held === bytes || aligned && held > bytes)) return known;
    this.#replace(value.name, known);
    const room = aligned ? Math.ceil(GROWTH * count) : count;
    const tensor = await this.#options.device.allocate(value.dtype, [room]);
    this.#tensors.set(value.name, tensor);
    return tensor;
  }

  /** A value's memory, of at least `count` elements; what it held is lost where it grows. */
  #hostTensor(value: Value, count: number): Tensor {
    const name = this.#lodgings.get(value.name) ?? value.name;
    const known = this.#tensors.get(name);
    if (known !== undefined && Number(known.data?.length) >= count) return known;
    this.#replace(name, known);
    const tensor = this.#options.device.tensor(value.dtype, [Math.ceil(GROWTH * count)]);
    this.#tensors.set(name, tensor);
    return tensor;
  }

  #replace(name: string, known: Tensor | undefined): void {
    if (known === undefined) return;
    known.release();
    this.#tensors.delete(name);
    this.#options.onGrow();
  }
}

/** Names of what one piece makes for another, and nobody else reads. */
function betweenPieces(
  graphs: readonly Graph[],
  results: readonly Value[],
  chunkLocal: ReadonlySet<string>,
): ReadonlySet<string> {
  const asked = new Set(results.map(({ name }) => name));
  const made = graphs.flatMap(({ outputs }) => outputs);
  const stays = ({ name, shape }: Value) =>
    !asked.has(name) && (shape[0] !== "rows" || chunkLocal.has(name));
  return new Set(made.filter(stays).map(({ name }) => name));
}

/** Names of large values that pass between chunked pieces only, and need no more than a chunk. */
function localTo(graphs: readonly Graph[]): ReadonlySet<string> {
  const chunked = graphs.filter(isChunked);
  const others = graphs.filter((graph) => !isChunked(graph));
  const outside = new Set(
    others.flatMap(({ inputs, outputs }) => [...inputs, ...outputs]).map(({ name }) => name),
  );
  const read = new Set(chunked.flatMap(({ inputs }) => inputs).map(({ name }) => name));
  const made = chunked.flatMap(({ outputs }) => outputs).map(({ name }) => name);
  return new Set(made.filter((name) => read.has(name) && !outside.has(name)));
}

/** Whether a piece works on `rows` alone, so that it may take them in chunks. */
export function isChunked({ inputs, outputs }: Graph): boolean {
  return [...inputs, ...outputs].every(({ shape }) => shape[0] === "rows");
}

/** The n-th value that a piece passes on lies where that of any other piece does. */
function lodgingsOf(
  graphs: readonly Graph[],
  passing: ReadonlySet<string>,
): ReadonlyMap<string, string> {
  return new Map(graphs.flatMap(({ outputs }) =>
    outputs.filter(({ name }) => passing.has(name))
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
