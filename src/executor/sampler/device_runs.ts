/**
 * The sampler's runs on the device, and the memory that they share: one call of the sampler at a time.
 */
import type { Binding, Device, Session, Tensor } from "../../runtime/device.ts";
import { Once } from "../../util/memo.ts";
import { passedBlock, passedIndex } from "./draw.ts";
import { type FewTokens, PackedTokens } from "./few.ts";
import {
  BOUND_BLOCK,
  buildSampler,
  type SamplerGraph,
  SUM_BLOCK,
  type Temperature,
} from "./graphs.ts";

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
  readonly #memory = new Map<string, Float32Array>();
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

  /** A token of each whole row [n, width], of those that are 1 in `allowed`. */
  async drawWhole(
    logits: Tensor,
    rows: readonly Draw[],
    allowed?: Float32Array,
  ): Promise<number[]> {
    using made = new DisposableStack();
    const { temperature, inputs } = this.#inverses(made, rows);
    const width = logits.shape[1];
    const blocks = Math.ceil(width / SUM_BLOCK);
    const probabilities = this.room("numbers", rows.length * width);
    const sums = new Float32Array(rows.length * blocks);
    const shape = [rows.length, width];
    const graph = { kind: "whole", width, temperature, mask: allowed ? "some" : "none" } as const;
    await this.#run(graph, {
      logits,
      ...inputs,
      ...(allowed && { allowed: made.use(this.#device.tensor("float32", shape, allowed)) }),
    }, {
      probabilities: made.use(this.#device.tensor("float32", shape, probabilities)),
      sums: made.use(this.#device.tensor("float32", [rows.length, blocks], sums)),
    });
    return rows.map(({ uniform }, i) => {
      const own = sums.subarray(i * blocks, (i + 1) * blocks);
      const { block, past } = passedBlock(own, uniform);
      const [start, end] = [block * SUM_BLOCK, Math.min(width, (block + 1) * SUM_BLOCK)];
      const inside = probabilities.subarray(i * width + start, i * width + end);
      return start + passedIndex(inside, past);
    });
  }

  /** A token of each row of few, whose logits are over the temperature. */
  async drawFew(rows: readonly (FewTokens & Pick<Draw, "uniform">)[]): Promise<number[]> {
    const packed = new PackedTokens(rows);
    const { width, room } = packed;
    const shape = [rows.length, width];
    const blocks = room / SUM_BLOCK;
    const probabilities = new Float32Array(rows.length * width);
    const sums = new Float32Array(rows.length * blocks);
    const size = BigInt64Array.of(BigInt(rows.length), BigInt(room));
    using made = new DisposableStack();
    await this.#run({ kind: "few" }, {
      logits: made.use(this.#device.tensor("float32", shape, packed.logits)),
      places: made.use(this.#device.tensor("int32", shape, packed.places)),
      shape: made.use(this.#device.tensor("int64", [2], size)),
    }, {
      probabilities: made.use(this.#device.tensor("float32", shape, probabilities)),
      sums: made.use(this.#device.tensor("float32", [rows.length, blocks], sums)),
    });
    return rows.map(({ uniform }, i) => packed.draw(i, uniform, probabilities, sums));
  }

  /** Memory that is used again, by this name and by threads. */
  room(name: string, length: number): Float32Array {
    let memory = this.#memory.get(name);
    if (memory === undefined || memory.length < length) {
      memory = new Float32Array(new SharedArrayBuffer(4 * length));
      this.#memory.set(name, memory);
    }
    return memory.subarray(0, length);
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
