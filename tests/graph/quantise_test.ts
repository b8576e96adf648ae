/** Weight layouts: what is packed, unpacked again by its definition, is the weight within half a step. */
import { assertEquals, assertLess, assertLessOrEqual } from "@std/assert";
import {
  joinBlocks,
  quantiseByColumn,
  quantiseColumns,
  quantiseRows,
  roundTo4Bits,
  roundTo8Bits,
  rowsOfArray,
  transpose,
} from "../../src/graph/quantise.ts";
import { nextTurn } from "../../src/util/time.ts";
import { unpack } from "../unpack.ts";
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

Deno.test("int8 columns are the weight within half a step of each output", async () => {
  const [outs, ins] = [70, 130];
  const data = randomArray(outs * ins, 1);
  data.fill(0, 3 * ins, 4 * ins);
  const { q, scales } = await quantiseColumns(rowsOfArray(data, ins));
  for (let o = 0; o < outs; o++) {
    const row = data.subarray(o * ins, (o + 1) * ins);
    const back = Float32Array.from(row, (_, i) => q[i * outs + o] * scales[o]);
    assertLessOrEqual(distance(back, row), largest(row) / 127 * HALF);
    if (o !== 3) assertEquals(Math.max(...row.map((_, i) => Math.abs(q[i * outs + o]))), 127);
  }
});

for (const [name, make] of [["output", quantiseColumns], ["input", quantiseByColumn]] as const) {
  Deno.test(`the event loop has its turns while int8 weights are made by ${name}`, async () => {
    const [columns, reads] = [2 ** 12, 4];
    let [asked, turns, done] = [0, 0, false];
    const read = (_: number, count: number) => {
      const until = performance.now() + 8;
      while (performance.now() < until);
      asked++;
      return new Float32Array(count * columns);
    };
    const making = make({ rows: reads * 64, columns, read }).then(() => done = true);
    while (!done) {
      turns++;
      await nextTurn();
    }
    await making;
    assertLessOrEqual(reads, asked);
    assertLessOrEqual(asked, turns);
  });
}

Deno.test("int8 rows and 8-bit blocks are the weight within half a step of each block", () => {
  const [outs, ins, block] = [6, 128, 64];
  const data = randomArray(outs * ins, 2);
  data.fill(0, 64, 128);
  const rows = quantiseRows(rowsOfArray(data, ins), block);
  const packed = roundTo8Bits(data, block);
  assertEquals(packed.scales, rows.scales);
  for (let b = 0; b < rows.scales.length; b++) {
    const part = data.subarray(b * block, (b + 1) * block);
    const limit = largest(part) / 127 * HALF;
    const signed = part.map((_, i) => rows.q[b * block + i] * rows.scales[b]);
    const centred = unpack({ bits: 8, size: block }, packed).slice(b * block, (b + 1) * block);
    assertLessOrEqual(distance(signed, part), limit);
    assertLessOrEqual(distance(centred, part), limit);
  }
});

Deno.test("int8 rows are exact for numbers that were int8 before", () => {
  const steps = Int8Array.from({ length: 96 }, (_, i) => i % 32 === 5 ? 127 : (i * 37) % 255 - 127);
  const scales = Float32Array.of(0.5, 2 ** -9, 3);
  const data = Float32Array.from(steps, (q, i) => q * scales[Math.floor(i / 32)]);
  const made = quantiseRows(rowsOfArray(data, 32), 32);
  assertEquals([made.q, made.scales], [steps, scales]);
});

Deno.test("4-bit blocks are the weight within half a step, ends included", () => {
  const data = randomArray(8 * 32, 3);
  data.fill(0.25, 32, 64);
  const back = unpack({ bits: 4, size: 32 }, roundTo4Bits(data, 32));
  for (let b = 0; b < 8; b++) {
    const [part, got] = [data, back].map((all) => all.slice(b * 32, b * 32 + 32));
    const [low, high] = [Math.min(...part), Math.max(...part)];
    assertLessOrEqual(distance(got, part), (high - low) / 15 * HALF + 1e-7);
    assertLess(Math.abs(Math.min(...got) - low), 1e-6);
  }
  assertEquals(Float32Array.from(back.slice(32, 64)), data.subarray(32, 64));
});

Deno.test("blocks lie side by side in one linear, their offsets by block", () => {
  const [a, b] = [randomArray(3 * 64, 4), randomArray(2 * 64, 5)].map((w) => roundTo4Bits(w, 32));
  const joined = joinBlocks([a, b], 2);
  assertEquals(joined.q, Uint8Array.of(...a.q, ...b.q));
  assertEquals(joined.scales, Float32Array.of(...a.scales, ...b.scales));
  const offsets = [...a.offsets ?? [], ...b.offsets ?? []];
  for (let row = 0; row < 5; row++) {
    for (const block of [0, 1]) {
      assertEquals(joined.offsets[block * 5 + row], offsets[row * 2 + block]);
    }
  }
});
