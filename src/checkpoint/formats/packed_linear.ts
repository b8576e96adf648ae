/**
 * A linear that AWQ or GPTQ packs eight 4-bit steps to a word: w = scale · (step - zero), scale and
 * zero by group of inputs (AutoAWQ's `WQLinear_GEMM`, AutoGPTQ's `QuantLinear`). Trap: both pack
 * weights [in, out], AWQ along the outputs and in an order of its own, GPTQ along the inputs. What was
 * read of the file stays while the linear does: it is asked for some rows at a time.
 */
import type { Blocks, StoredBlocks } from "../../util/blocks.ts";
import type { Rows } from "../checkpoint.ts";
import type { Quantisation } from "../quantisation.ts";
import { dequantise } from "./dequantise.ts";
import type { SafetensorsTensor } from "./safetensors.ts";

/** The tensors of a linear; of GPTQ's, g_idx may be absent. */
export const PARTS = ["qweight", "qzeros", "scales", "g_idx"] as const;

/** Reads one of them; undefined where there is none. */
export type ReadPart = (part: typeof PARTS[number]) => SafetensorsTensor | undefined;

type Packing = Exclude<Quantisation, { method: "fp8" }>;

/** Where AWQ puts the outputs of a word, from its lowest bits on. */
const AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7];
const PLAIN_ORDER = [0, 1, 2, 3, 4, 5, 6, 7];

export class PackedLinear {
  readonly #packing: Packing;
  readonly #part: ReadPart;
  readonly #qweight = once(() => this.#words("qweight", this.shape[0] * this.shape[1] / 8));
  readonly #groups = once(() => this.#readGroups());
  /** [out, in]. */
  readonly shape: readonly [number, number];

  constructor(packing: Packing, qweight: readonly number[], part: ReadPart) {
    const [rows = 0, columns = 0] = qweight;
    this.#packing = packing;
    this.#part = part;
    this.shape = packing.method === "awq" ? [columns * 8, rows] : [columns, rows * 8];
  }

  /** float32 [count, in] of the outputs from `first` on. */
  read({ first, count }: Rows): Float32Array {
    const [outputs, inputs] = this.shape;
    const { scales, zeros, groupOf } = this.#groups();
    const groups = scales.length / outputs;
    const steps = this.#steps(first, count);
    const values = new Float32Array(steps.length);
    for (let o = 0; o < count; o++) {
      const at = o * inputs;
      for (let i = 0; i < inputs; i++) {
        const group = (first + o) * groups + groupOf[i];
        values[at + i] = scales[group] * (steps[at + i] - zeros[group]);
      }
    }
    return values;
  }

  /** The steps as they are; undefined where inputs of a group do not lie together (`desc_act`). */
  blocks(): StoredBlocks | undefined {
    const [outputs, inputs] = this.shape;
    const { scales, zeros, groupOf } = this.#groups();
    const groups = scales.length / outputs;
    const length = inputs / groups;
    const size = Math.min(256, length & -length);
    if (size < 16 || groupOf.some((group, i) => group !== Math.floor(i / length))) return undefined;
    const offsets = zeros.some((zero) => zero !== 8);
    return { bits: 4, size, offsets, read: () => this.#blocks(size, offsets) };
  }

  #blocks(size: number, offsets: boolean): Blocks {
    const { scales, zeros } = this.#groups();
    const steps = this.#steps(0, this.shape[0]);
    const q = new Uint8Array(steps.length / 2);
    for (let i = 0; i < q.length; i++) q[i] = steps[2 * i] | steps[2 * i + 1] << 4;
    const times = steps.length / scales.length / size;
    const spread = (of: (group: number) => number) =>
      Float32Array.from({ length: steps.length / size }, (_, b) => of(Math.floor(b / times)));
    return {
      q,
      scales: spread((group) => scales[group]),
      offsets: offsets ? spread((group) => scales[group] * (8 - zeros[group])) : undefined,
    };
  }

  /** Steps [count, in] of the outputs from `first` on. */
  #steps(first: number, count: number): Uint8Array {
    const inputs = this.shape[1];
    const words = this.#qweight();
    const steps = new Uint8Array(count * inputs);
    for (let o = 0; o < count; o++) {
      if (this.#packing.method === "awq") this.#takeAcross(words, first + o, steps, o * inputs);
      else this.#takeDown(words, first + o, steps, o * inputs);
    }
    return steps;
  }

  /** AWQ: an output's steps lie in one column of words, at one place in each. */
  #takeAcross(words: Int32Array, output: number, steps: Uint8Array, at: number): void {
    const [outputs, inputs] = this.shape;
    const shift = 4 * AWQ_ORDER.indexOf(output % 8);
    const [column, width] = [output >> 3, outputs / 8];
    for (let i = 0; i < inputs; i++) steps[at + i] = words[i * width + column] >>> shift & 15;
  }

  /** GPTQ: an output's steps lie in one column of words, eight in each. */
  #takeDown(words: Int32Array, output: number, steps: Uint8Array, at: number): void {
    const [outputs, inputs] = this.shape;
    for (let i = 0; i < inputs; i++) {
      steps[at + i] = words[(i >> 3) * outputs + output] >>> 4 * (i & 7) & 15;
    }
  }

  /** Scales and zero points [out, groups], and the group of each input. */
  #readGroups() {
    const [outputs, inputs] = this.shape;
    const { dtype, data, shape: [groups = 0, width] } = this.#present("scales");
    const plain = dtype === "F16" || dtype === "BF16" || dtype === "F32";
    if (!plain || width !== outputs || inputs % groups !== 0) {
      throw new TypeError(
        `Cannot read scales of a packed linear: they are ${dtype} [${groups}, ${width}] for ` +
          `weights [${inputs}, ${outputs}]`,
      );
    }
    const scales = turned(dequantise(dtype, data), groups, outputs);
    const zeros = turned(this.#zeros(groups * outputs), groups, outputs);
    return { scales, zeros, groupOf: this.#groupOf(inputs, groups) };
  }

  /** [groups, out]. */
  #zeros(count: number): Uint8Array {
    const words = this.#words("qzeros", count / 8);
    const order = this.#packing.method === "awq" ? AWQ_ORDER : PLAIN_ORDER;
    const shift = this.#packing.method === "awq" ? 0 : this.#packing.zeroShift;
    const zeros = new Uint8Array(count);
    words.forEach((word, w) => {
      for (let n = 0; n < 8; n++) zeros[w * 8 + order[n]] = (word >>> 4 * n) + shift & 15;
    });
    return zeros;
  }

  #groupOf(inputs: number, groups: number): Int32Array {
    if (this.#packing.method === "gptq" && this.#part("g_idx") !== undefined) {
      const groupOf = this.#words("g_idx", inputs);
      const wrong = groupOf.find((group) => group < 0 || group >= groups);
      if (wrong === undefined) return groupOf;
      throw new TypeError(`Cannot read g_idx of a packed linear: ${wrong} of ${groups} groups`);
    }
    return Int32Array.from({ length: inputs }, (_, i) => Math.floor(i * groups / inputs));
  }

  #words(part: typeof PARTS[number], count: number): Int32Array {
    const { dtype, data } = this.#present(part);
    if (dtype === "I32" && data.length === 4 * count) return new Int32Array(data.slice().buffer);
    throw new TypeError(
      `Cannot read ${part} of a packed linear: it is ${dtype} of ${data.length} bytes, ` +
        `wanted are ${count} of I32`,
    );
  }

  #present(part: typeof PARTS[number]): SafetensorsTensor {
    const tensor = this.#part(part);
    if (tensor === undefined) throw new TypeError(`Cannot read a packed linear: no ${part}`);
    return tensor;
  }
}

/** [rows, columns] → [columns, rows]. */
function turned<T extends Float32Array | Uint8Array>(data: T, rows: number, columns: number): T {
  const out = data.slice() as T;
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < columns; c++) out[c * rows + r] = data[r * columns + c];
  }
  return out;
}

function once<T>(make: () => T): () => T {
  let made: { readonly value: T } | undefined;
  return () => (made ??= { value: make() }).value;
}
