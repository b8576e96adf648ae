/**
 * Weight layouts: what is packed, unpacked again by its definition, is the weight within half a step;
 * and a 4-bit checkpoint's own numbers exactly.
 */
import { assert, assertEquals, assertGreater, assertLess, assertLessOrEqual } from "@std/assert";
import type { WeightInfo, WeightSource } from "../../src/checkpoint/checkpoint.ts";
import { openCheckpoint } from "../../src/checkpoint/open.ts";
import {
  type AffineBlocks,
  affineBlocks,
  packNBits4,
  packNBits8,
  quantiseColumns,
  quantiseRows,
  transpose,
} from "../../src/graph/quantise.ts";
import { readAffineBlocks } from "../../src/models/blocks.ts";
import { distance, randomArray } from "./run.ts";

/** Rounding of a float32 scale, beside the half step that rounding to whole numbers costs. */
const HALF = 0.5 * (1 + 1e-5);

function largest(data: Float32Array): number {
  return Math.max(...data.map(Math.abs));
}

Deno.test("transpose swaps rows and columns, also where tiles do not fit", () => {
  for (const [rows, columns] of [[1, 1], [1, 70], [64, 64], [65, 130], [3, 200]]) {
    const data = randomArray(rows * columns, rows);
    const turned = transpose(data, rows, columns);
    for (const [r, c] of [[0, 0], [rows - 1, 0], [0, columns - 1], [rows - 1, columns - 1]]) {
      assertEquals(turned[c * rows + r], data[r * columns + c]);
    }
    assertEquals(transpose(turned, columns, rows), data);
  }
});

Deno.test("int8 columns are the weight within half a step of each output", () => {
  const [outs, ins] = [70, 130];
  const data = randomArray(outs * ins, 1);
  data.fill(0, 3 * ins, 4 * ins);
  const { q, scales } = quantiseColumns(data, outs, ins);
  for (let o = 0; o < outs; o++) {
    const row = data.subarray(o * ins, (o + 1) * ins);
    const back = Float32Array.from(row, (_, i) => q[i * outs + o] * scales[o]);
    assertLessOrEqual(distance(back, row), largest(row) / 127 * HALF);
    if (o !== 3) assertEquals(Math.max(...row.map((_, i) => Math.abs(q[i * outs + o]))), 127);
  }
});

Deno.test("int8 rows and 8-bit blocks are the weight within half a step of each block", () => {
  const [outs, ins, block] = [6, 128, 64];
  const data = randomArray(outs * ins, 2);
  data.fill(0, 64, 128);
  const rows = quantiseRows(data, block);
  const packed = packNBits8(data, outs, ins, block);
  assertEquals(packed.scales, rows.scales);
  for (let b = 0; b < rows.scales.length; b++) {
    const part = data.subarray(b * block, (b + 1) * block);
    const limit = largest(part) / 127 * HALF;
    const signed = part.map((_, i) => rows.q[b * block + i] * rows.scales[b]);
    const centred = part.map((_, i) => (packed.q[b * block + i] - 128) * packed.scales[b]);
    assertLessOrEqual(distance(signed, part), limit);
    assertLessOrEqual(distance(centred, part), limit);
  }
});

Deno.test("int8 rows are exact for numbers that were int8 before", () => {
  const steps = Int8Array.from({ length: 96 }, (_, i) => i % 32 === 5 ? 127 : (i * 37) % 255 - 127);
  const scales = Float32Array.of(0.5, 2 ** -9, 3);
  const data = Float32Array.from(steps, (q, i) => q * scales[Math.floor(i / 32)]);
  const made = quantiseRows(data, 32);
  assertEquals([made.q, made.scales], [steps, scales]);
});

/** w = scale · q + minimum of each block of 32. */
function unpackAffine({ scales, minimums, q }: AffineBlocks): Float32Array {
  const out = new Float32Array(scales.length * 32);
  scales.forEach((scale, b) => {
    for (let i = 0; i < 32; i++) {
      const byte = q[b * 16 + i % 16];
      out[b * 32 + i] = scale * (i < 16 ? byte & 15 : byte >> 4) + minimums[b];
    }
  });
  return out;
}

/** scale · (q - 8) + offset, as the kernel and the small product beside it compute. */
function unpackNBits4({ q, scales, offsets }: ReturnType<typeof packNBits4>, outs: number) {
  const perRow = scales.length / outs;
  const out = new Float64Array(scales.length * 32);
  scales.forEach((scale, b) => {
    const [row, block] = [Math.floor(b / perRow), b % perRow];
    for (let i = 0; i < 32; i++) {
      const byte = q[b * 16 + (i >> 1)];
      const step = i % 2 === 0 ? byte & 15 : byte >> 4;
      out[b * 32 + i] = scale * (step - 8) + offsets[block * outs + row];
    }
  });
  return out;
}

Deno.test("affine blocks are the weight within half a step, ends included", () => {
  const data = randomArray(8 * 32, 3);
  data.fill(0.25, 32, 64);
  const blocks = affineBlocks(data);
  const back = unpackAffine(blocks);
  for (let b = 0; b < 8; b++) {
    const [part, got] = [data, back].map((all) => all.subarray(b * 32, b * 32 + 32));
    const [low, high] = [Math.min(...part), Math.max(...part)];
    assertLessOrEqual(distance(got, part), (high - low) / 15 * HALF + 1e-7);
    assertEquals(Math.min(...got), low);
  }
  assertEquals(back.subarray(32, 64), data.subarray(32, 64));
});

Deno.test("4-bit weights of blocks and of float32 lie side by side in one linear", () => {
  const [a, b] = [randomArray(3 * 64, 4), randomArray(2 * 64, 5)];
  const [stored, rounded] = [affineBlocks(a), unpackAffine(affineBlocks(b))];
  const packed = packNBits4([
    { rows: 3, columns: 64, blocks: stored, read: () => a },
    { rows: 2, columns: 64, blocks: undefined, read: () => b },
  ]);
  const expected = Float32Array.of(...unpackAffine(stored), ...rounded);
  // The offset minimum + 8 · scale is rounded to float32 once.
  assertLess(distance(unpackNBits4(packed, 5), expected), 1e-6);
});

/** GGUF blocks of numbers of our own, with what they stand for by GGUF's definition. */
class Blocks implements WeightSource {
  readonly raw: Uint8Array;
  readonly values: Float64Array;

  constructor(readonly type: "Q4_0" | "Q4_1" | "Q8_0", readonly count: number) {
    const header = type === "Q4_1" ? 4 : 2;
    this.raw = new Uint8Array(count * (header + 16));
    this.values = new Float64Array(count * 32);
    const view = new DataView(this.raw.buffer);
    for (let b = 0; b < count; b++) {
      const at = b * (header + 16);
      const [scale, minimum] = [2 ** -(b % 5) * 0.75, b * 0.125 - 1];
      view.setFloat16(at, scale, true);
      if (type === "Q4_1") view.setFloat16(at + 2, minimum, true);
      for (let i = 0; i < 16; i++) {
        const [low, high] = [(i + b) % 16, (7 * i + 3 * b) % 16];
        this.raw[at + header + i] = low | high << 4;
        const at32 = b * 32 + i;
        for (const [place, q] of [[at32, low], [at32 + 16, high]]) {
          this.values[place] = type === "Q4_1" ? scale * q + minimum : scale * (q - 8);
        }
      }
    }
  }

  names(): readonly string[] {
    return ["w"];
  }
  has(name: string): boolean {
    return name === "w";
  }
  info(): WeightInfo {
    return { shape: [this.count, 32], type: this.type };
  }
  read(): Float32Array {
    return Float32Array.from(this.values);
  }
  readRaw(): Uint8Array {
    return this.raw;
  }
}

for (const type of ["Q4_0", "Q4_1"] as const) {
  Deno.test(`${type} blocks become 4-bit weights without any rounding`, () => {
    const source = new Blocks(type, 12);
    const blocks = readAffineBlocks(source, "w");
    assert(blocks !== undefined);
    assertEquals(unpackAffine(blocks), source.read());
    const read = () => {
      throw new Error("blocks are taken as they are");
    };
    const packed = packNBits4([{ rows: 4, columns: 96, blocks, read }]);
    assertEquals(unpackNBits4(packed, 4), source.values);
  });
}

Deno.test("other types have no 4-bit blocks", () => {
  assertEquals(readAffineBlocks(new Blocks("Q8_0", 2), "w"), undefined);
});

Deno.test("4-bit weights of a GGUF file equal the file's own, dequantised", async () => {
  const path = new URL("../fixtures/checkpoint/llama.gguf", import.meta.url).pathname;
  using checkpoint = await openCheckpoint(path);
  const { weights } = checkpoint;
  let found = 0;
  for (const name of weights.names()) {
    const blocks = readAffineBlocks(weights, name);
    if (blocks === undefined) continue;
    found++;
    const [rows, columns] = weights.info(name).shape;
    const read = () => weights.read(name);
    const packed = packNBits4([{ rows, columns, blocks, read }]);
    const expected = weights.read(name);
    const limit = largest(expected) * 2 ** -22;
    assertLess(distance(unpackNBits4(packed, rows), expected), limit, name);
  }
  assertGreater(found, 0);
});
