/**
 * The sampler's runs on the device, and the memory that they share: one call of the sampler at a time.
 */
import type { Binding, Device, Session, Tensor } from "../../runtime/device.ts";
import { Once } from "../../util/memo.ts";
import { type FewTokens, pack } from "./few.ts";
import {
  BOUND_BLOCK,
  buildSampler,
  type SamplerGraph,
  SUM_BLOCK,
  type Temperature,
} from "./graphs.ts";

/** A uniform number is kept below 1 after rounding to float32. */
const BELOW_ONE = 1 - 2 ** -24;
/** Up to so many logits their bounds are found on the calling thread, in some 10 µs. */
const SYNCHRONOUS_LOGITS = 2 ** 19;

/** Bounds of the blocks of a buffer's first rows. */
interface Bounds {
  readonly binding: Binding;
  readonly blocks: Tensor;
}

/** What a row is drawn with. */
export interface Draw {
  readonly uniform: number;
  readonly inverse: number;
}

export class DeviceRuns {
  readonly #device: Device;
  readonly #vocabSize: number;
  readonly #sessions = new Map<string, Once<Session>>();
  /** By logits buffer, then by number of rows. */
  readonly #bounds = new Map<Tensor, Bounds[]>();

  constructor(device: Device, vocabSize: number) {
    this.#device = device;
    this.#vocabSize = vocabSize;
  }

  /** The largest logit of each whole block of 128 over the first `rows` rows. */
  async bounds(logits: Tensor, rows: number): Promise<Float32Array> {
    const count = Math.floor(rows * this.#vocabSize / BOUND_BLOCK);
    if (count === 0) return new Float32Array();
    const { binding, blocks } = await this.#boundsOf(logits, rows, count);
    if (rows * this.#vocabSize <= SYNCHRONOUS_LOGITS) binding.runSync();
    else await binding.run();
    return float32(blocks);
  }

  /**
   * exp(logit · inverse - most) of whole rows [n, V] into `exps`.
   * @returns each row's sum
   */
  async mass(
    logits: Tensor,
    rows: readonly { readonly inverse: number; readonly most: number }[],
    exps: Float32Array,
  ): Promise<Float32Array> {
    const sums = new Float32Array(rows.length);
    using room = new DisposableStack();
    const most = Float32Array.from(rows, ({ most }) => most);
    const shape = [rows.length, this.#vocabSize];
    const { temperature, inputs } = this.#inverses(room, rows);
    await this.#run({ kind: "mass", width: this.#vocabSize, temperature }, {
      logits,
      ...inputs,
      most: this.#column(room, most),
    }, {
      exps: room.use(this.#device.tensor("float32", shape, exps)),
      sum: this.#column(room, sums),
    });
    return sums;
  }

  /** A token of each whole row [n, width]. */
  async drawWhole(logits: Tensor, rows: readonly Draw[]): Promise<number[]> {
    using room = new DisposableStack();
    const { temperature, inputs } = this.#inverses(room, rows);
    const graph = { kind: "whole", width: logits.shape[1], temperature } as const;
    const places = await this.#draw(graph, rows, { logits, ...inputs });
    return places.map(({ block, offset }) => block * SUM_BLOCK + offset);
  }

  /** A token of each row of few, whose logits are over the temperature. */
  async drawFew(rows: readonly (FewTokens & Pick<Draw, "uniform">)[]): Promise<number[]> {
    const { logits, places, width, room, blocks } = pack(rows);
    const shape = [rows.length, width];
    using made = new DisposableStack();
    const size = BigInt64Array.of(BigInt(rows.length), BigInt(room));
    const drawn = await this.#draw({ kind: "few" }, rows, {
      logits: made.use(this.#device.tensor("float32", shape, logits)),
      places: made.use(this.#device.tensor("int32", shape, places)),
      shape: made.use(this.#device.tensor("int64", [2], size)),
    });
    return drawn.map(({ block, offset }, i) => blocks[i][block] * SUM_BLOCK + offset);
  }

  /** Drops what is bound to a logits buffer, before the buffer is released. */
  forget(logits: Tensor): void {
    for (const { binding, blocks } of Object.values(this.#bounds.get(logits) ?? [])) {
      binding.release();
      blocks.release();
    }
    this.#bounds.delete(logits);
  }

  release(): void {
    for (const buffer of this.#bounds.keys()) this.forget(buffer);
    for (const session of this.#sessions.values()) {
      session.known?.then((made) => made.release(), () => {});
    }
  }

  async #boundsOf(logits: Tensor, rows: number, count: number): Promise<Bounds> {
    const session = await this.#session({ kind: "bounds" });
    const made = this.#bounds.get(logits) ?? [];
    this.#bounds.set(logits, made);
    const known = made[rows];
    if (known !== undefined) return known;
    // the binding holds it
    using view = this.#device.view(logits, 0, [count, BOUND_BLOCK]);
    using room = new DisposableStack();
    const blocks = room.use(this.#device.tensor("float32", [count]));
    const binding = session.bind({ blocks: view }, { bounds: blocks });
    room.move();
    return made[rows] = { binding, blocks };
  }

  #inverses(
    room: DisposableStack,
    rows: readonly { readonly inverse: number }[],
  ): { readonly temperature: Temperature; readonly inputs: Readonly<Record<string, Tensor>> } {
    if (rows.every(({ inverse }) => inverse === 1)) return { temperature: "one", inputs: {} };
    const inverse = this.#column(room, Float32Array.from(rows, ({ inverse }) => inverse));
    return { temperature: "any", inputs: { inverse } };
  }

  #column(room: DisposableStack, values: Float32Array): Tensor {
    return room.use(this.#device.tensor("float32", [values.length, 1], values));
  }

  async #draw(
    graph: SamplerGraph,
    rows: readonly Pick<Draw, "uniform">[],
    inputs: Readonly<Record<string, Tensor>>,
  ): Promise<{ readonly block: number; readonly offset: number }[]> {
    using room = new DisposableStack();
    const shape = [rows.length, 1];
    const uniforms = Float32Array.from(rows, ({ uniform }) => Math.min(uniform, BELOW_ONE));
    const uniform = this.#column(room, uniforms);
    const [blocks, offsets] = [new BigInt64Array(rows.length), new BigInt64Array(rows.length)];
    await this.#run(graph, { ...inputs, uniform }, {
      block: room.use(this.#device.tensor("int64", shape, blocks)),
      offset: room.use(this.#device.tensor("int64", shape, offsets)),
    });
    return rows.map((_, i) => ({ block: Number(blocks[i]), offset: Number(offsets[i]) }));
  }

  async #run(
    graph: SamplerGraph,
    inputs: Readonly<Record<string, Tensor>>,
    outputs: Readonly<Record<string, Tensor>>,
  ): Promise<void> {
    const session = await this.#session(graph);
    using binding = session.bind(inputs, outputs);
    await binding.run();
  }

  #session(graph: SamplerGraph): Promise<Session> {
    const key = JSON.stringify(graph);
    let session = this.#sessions.get(key);
    if (session === undefined) {
      session = new Once(() => this.#device.session(buildSampler(graph)));
      this.#sessions.set(key, session);
    }
    return session.get();
  }
}

function float32({ data }: Tensor): Float32Array {
  if (data instanceof Float32Array) return data;
  throw new TypeError("internal: the sampler's numbers are not float32 in host memory");
}
