/**
 * Writes a GGUF file of a large model's shape with random weights, for measuring memory and starts
 * where no such model can be had: Qwen2.5's 7B in Q4_K with a Q6_K head, 4.4 GB. Tokenizer and
 * chat template are another GGUF's of the same family.
 *
 *     deno run -A bench/random_gguf.ts SOURCE.gguf OUT.gguf
 */
// deno-lint-ignore-file no-console -- a program: its output is the console
import { BLOCK_LAYOUTS, storedBytes } from "../src/checkpoint/formats/dequantise.ts";

import type { GgmlType } from "../src/checkpoint/checkpoint.ts";
import { SCALAR_BYTES } from "../src/checkpoint/formats/gguf_reader.ts";

/** Qwen2.5-7B, by GGUF's names behind the architecture. */
const SHAPE: Readonly<Record<string, number>> = {
  "block_count": 28,
  "embedding_length": 3584,
  "feed_forward_length": 18944,
  "attention.head_count": 28,
  "attention.head_count_kv": 4,
};
const [LAYERS, WIDTH, INNER] = [28, 3584, 18944];
const KV_WIDTH = WIDTH / 28 * 4;

const [TYPE_U32, TYPE_STRING, TYPE_ARRAY] = [4, 8, 9];
const CODES: Readonly<Partial<Record<GgmlType, number>>> = { F32: 0, Q4_K: 12, Q6_K: 14 };
const ALIGNMENT = 32;

interface Tensor {
  readonly name: string;
  /** Rows last, as GGUF has it. */
  readonly shape: readonly number[];
  readonly type: GgmlType;
}

/** A header's fields, walked byte by byte and written over where a shape is. */
class Fields {
  readonly #bytes: Uint8Array<ArrayBuffer>;
  readonly #view: DataView;
  #at = 24;

  constructor(bytes: Uint8Array<ArrayBuffer>) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer);
  }

  /** The bytes of all fields, with the shape's numbers in them; how many, and the vocabulary's size. */
  reshape(): { readonly fields: Uint8Array; readonly count: number; readonly vocabulary: number } {
    const count = Number(this.#view.getBigUint64(16, true));
    let vocabulary = 0;
    for (let i = 0; i < count; i++) {
      const key = this.#string();
      const type = this.#u32();
      const [, size] = Object.entries(SHAPE).find(([name]) => key.endsWith(`.${name}`)) ?? [];
      if (size !== undefined && type === TYPE_U32) this.#view.setUint32(this.#at, size, true);
      if (key === "tokenizer.ggml.tokens") {
        vocabulary = Number(this.#view.getBigUint64(this.#at + 4, true));
      }
      this.#skip(type);
    }
    return { fields: this.#bytes.subarray(24, this.#at), count, vocabulary };
  }

  #u32(): number {
    return this.#view.getUint32((this.#at += 4) - 4, true);
  }

  #u64(): number {
    return Number(this.#view.getBigUint64((this.#at += 8) - 8, true));
  }

  #string(): string {
    const length = this.#u64();
    return new TextDecoder().decode(this.#bytes.subarray(this.#at, this.#at += length));
  }

  #skip(type: number): void {
    if (type === TYPE_STRING) this.#string();
    else if (type === TYPE_ARRAY) {
      const inner = this.#u32();
      const length = this.#u64();
      for (let i = 0; i < length; i++) this.#skip(inner);
    } else this.#at += SCALAR_BYTES.get(type) ?? 0;
  }
}

function tensors(vocabulary: number): readonly Tensor[] {
  const layers = Array.from({ length: LAYERS }, (_, i): readonly Tensor[] => [
    { name: `blk.${i}.attn_norm.weight`, shape: [WIDTH], type: "F32" },
    { name: `blk.${i}.ffn_norm.weight`, shape: [WIDTH], type: "F32" },
    { name: `blk.${i}.attn_q.weight`, shape: [WIDTH, WIDTH], type: "Q4_K" },
    { name: `blk.${i}.attn_k.weight`, shape: [WIDTH, KV_WIDTH], type: "Q4_K" },
    { name: `blk.${i}.attn_v.weight`, shape: [WIDTH, KV_WIDTH], type: "Q4_K" },
    { name: `blk.${i}.attn_q.bias`, shape: [WIDTH], type: "F32" },
    { name: `blk.${i}.attn_k.bias`, shape: [KV_WIDTH], type: "F32" },
    { name: `blk.${i}.attn_v.bias`, shape: [KV_WIDTH], type: "F32" },
    { name: `blk.${i}.attn_output.weight`, shape: [WIDTH, WIDTH], type: "Q4_K" },
    { name: `blk.${i}.ffn_gate.weight`, shape: [WIDTH, INNER], type: "Q4_K" },
    { name: `blk.${i}.ffn_up.weight`, shape: [WIDTH, INNER], type: "Q4_K" },
    { name: `blk.${i}.ffn_down.weight`, shape: [INNER, WIDTH], type: "Q4_K" },
  ]);
  return [
    { name: "token_embd.weight", shape: [WIDTH, vocabulary], type: "Q4_K" },
    ...layers.flat(),
    { name: "output_norm.weight", shape: [WIDTH], type: "F32" },
    { name: "output.weight", shape: [WIDTH, vocabulary], type: "Q6_K" },
  ];
}

function bytesOf({ shape, type }: Tensor): number {
  return storedBytes(type, shape.reduce((a, b) => a * b, 1));
}

/** Data of a tensor: ones, or random integers with scales that keep weights near 0.02. */
function data(tensor: Tensor): Uint8Array {
  const { type } = tensor;
  const bytes = new Uint8Array(bytesOf(tensor));
  if (type === "F32") {
    new Float32Array(bytes.buffer).fill(tensor.name.endsWith("norm.weight") ? 1 : 0);
    return bytes;
  }
  for (let at = 0; at < bytes.length; at += 65536) {
    crypto.getRandomValues(bytes.subarray(at, at + 65536));
  }
  const view = new DataView(bytes.buffer);
  const block = BLOCK_LAYOUTS[type].bytes;
  for (let at = 0; at < bytes.length; at += block) {
    if (type === "Q6_K") view.setFloat16(at + 208, 2e-5, true);
    else {
      view.setFloat16(at, 1e-4, true);
      view.setFloat16(at + 2, 7e-4, true);
    }
  }
  return bytes;
}

/** What stands before the data: magic, version, counts, fields, and where each tensor is. */
function header(source: Uint8Array<ArrayBuffer>): {
  readonly head: Uint8Array;
  readonly list: readonly Tensor[];
} {
  const { fields, count, vocabulary } = new Fields(source).reshape();
  const list = tensors(vocabulary);
  const infos: Uint8Array[] = [];
  let offset = 0;
  for (const tensor of list) {
    const name = new TextEncoder().encode(tensor.name);
    const info = new Uint8Array(8 + name.length + 4 + 8 * tensor.shape.length + 4 + 8);
    const view = new DataView(info.buffer);
    view.setBigUint64(0, BigInt(name.length), true);
    info.set(name, 8);
    let at = 8 + name.length;
    view.setUint32(at, tensor.shape.length, true);
    tensor.shape.forEach((size, i) => view.setBigUint64(at + 4 + 8 * i, BigInt(size), true));
    at += 4 + 8 * tensor.shape.length;
    view.setUint32(at, CODES[tensor.type] ?? 0, true);
    view.setBigUint64(at + 4, BigInt(offset), true);
    infos.push(info);
    offset += aligned(bytesOf(tensor));
  }
  const start = source.slice(0, 24);
  new DataView(start.buffer).setBigUint64(8, BigInt(list.length), true);
  new DataView(start.buffer).setBigUint64(16, BigInt(count), true);
  const parts = [start, fields, ...infos];
  const head = new Uint8Array(aligned(parts.reduce((sum, { length }) => sum + length, 0)));
  let at = 0;
  for (const part of parts) {
    head.set(part, at);
    at += part.length;
  }
  return { head, list };
}

function aligned(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
}

if (import.meta.main) {
  const [from, to] = Deno.args;
  if (from === undefined || to === undefined) {
    console.error("usage: deno run -A bench/random_gguf.ts SOURCE.gguf OUT.gguf");
    Deno.exit(2);
  }
  using source = await Deno.open(from, { read: true });
  const beginning = new Uint8Array(32 * 2 ** 20);
  for (let at = 0; at < beginning.length;) {
    const n = await source.read(beginning.subarray(at));
    if (n === null) break;
    at += n;
  }
  const { head, list } = header(beginning);
  using file = await Deno.open(to, { write: true, create: true, truncate: true });
  const writer = file.writable.getWriter();
  await writer.write(head);
  for (const tensor of list) {
    await writer.write(data(tensor));
    await writer.write(new Uint8Array(aligned(bytesOf(tensor)) - bytesOf(tensor)));
  }
  await writer.close();
  console.log(to);
}
