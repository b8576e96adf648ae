/** What rows share is found, laid out on the smaller grid, and trained as if each row had its own. */
import { assertEquals, assertLess, assertThrows } from "@std/assert";
import { openCheckpoint } from "../../src/checkpoint/open.ts";
import { planOf } from "../../src/executor/base.ts";
import { DeviceWeights } from "../../src/models/device_weights.ts";
import { DecoderParameters } from "../../src/models/parameters.ts";
import { DeviceLock } from "../../src/runtime/device_lock.ts";
import { openDevice } from "../../src/runtime/open.ts";
import { DecoderGradients } from "../../src/train/gradients/gradient_model.ts";
import type { BatchRow, Example } from "../../src/train/gradients/model.ts";
import { pack } from "../../src/train/gradients/packed.ts";
import { layOut, sharedLength } from "../../src/train/micro_batches.ts";
import { relativeError, tinyTrainable } from "./oracle.ts";

/** Tokens to compute, and one that they predict; the last `loss` carry loss. */
function row(tokens: readonly number[], loss = 1): Example {
  const all = Int32Array.from([...tokens, 14]);
  const weights = Float32Array.from(all, (_, i) => i >= all.length - loss ? 1 : 0);
  return { tokens: all, weights, line: 1 };
}

const PREFIX = [7, 8, 9, 10, 11, 12, 13];
const rows = [row([...PREFIX, 1, 2, 3]), row([...PREFIX, 4, 5], 1), row([...PREFIX, 1, 2, 6], 2)];

Deno.test("rows share what all begin with, up to where a loss is computed from", () => {
  assertEquals(sharedLength(rows), 7);
  assertEquals(sharedLength([rows[0], rows[2]]), 8, "the loss of 6 is computed from 2");
  assertEquals(sharedLength([rows[0], row([...PREFIX, 1, 2, 5])]), 9);
  assertEquals(sharedLength([rows[0], row([9, ...PREFIX])]), 0);
  assertEquals(sharedLength([rows[0], rows[0]]), 9, "a row keeps what its loss is computed from");
  assertEquals([sharedLength([]), sharedLength([rows[0]])], [0, 0]);
  assertEquals(sharedLength([row([1, 2, 3], 3), row([1, 2, 4], 3)]), 0);
});

Deno.test("the smaller grid is taken: shared rows, or whole ones where sharing saves nothing", () => {
  assertEquals(layOut([rows]), { time: 3, shared: [7] }, "3 rows of 10 against 3 + 3 of 3");
  assertEquals(layOut([rows.slice(0, 1), rows.slice(1, 2)]), { time: 10, shared: [0, 0] });
  const long = row([...PREFIX, ...Array.from({ length: 30 }, (_, i) => i)]);
  const wide = layOut([[long, row([...PREFIX, 1, 2])]]);
  assertEquals(wide, { time: 30, shared: [7] }, "39 tokens in 90 cells against 46 in 74");
});

Deno.test("the last token that carries loss, and what comes after, is not computed", () => {
  const { tokens, weights } = row([5, 6, 7, 8], 3);
  weights.fill(0, 3);
  const packed = pack([{ example: { tokens, weights, line: 1 }, trainable: 0 }]);
  assertEquals([...packed.ids], [5, 6]);
  assertEquals([packed.positions[0], packed.targets[0]], [1, 7]);
});

Deno.test("many rows share one prefix, cut to the grid's columns, each row's rest behind it", () => {
  const many = [...rows, ...rows, ...rows];
  const packed = pack(many.map((example) => ({ example, trainable: 0 })));

  assertEquals(packed.sizes, {
    tokens: 32,
    cells: 36,
    batch: 12,
    rows: 16,
    time: 3,
    contexts: 3,
    keys: 12,
  });
  const at = (cell: number) => packed.ids[packed.cells[cell]];
  const cells = Array.from({ length: 36 }, (_, cell) => at(cell));
  assertEquals(cells.slice(27), [...PREFIX, 0, 0]);
  assertEquals([...packed.offsets], [...Array(9).fill(7), 0, 3, 6]);
  assertEquals([...packed.context.subarray(0, 3)], [9, 10, 11]);
  assertEquals([...packed.context.subarray(27)], [0, 0, 0, 9, 0, 0, 9, 10, 0]);
  assertEquals(cells.slice(3, 6), [4, 5, 0]);
  assertEquals([...packed.positions.subarray(0, 4)], [2, 4, 6, 7]);
  packed.places.forEach((cell, token) => {
    if (token < 31) assertEquals(packed.cells[cell], token);
    else assertEquals([packed.cells[cell], packed.ids[token]], [31, 0], "padding lies in padding");
  });
  const empty = { tokens: new Int32Array(), weights: new Float32Array(), line: 1 };
  assertThrows(() => pack([]), RangeError, "without rows");
  assertThrows(() => pack([{ example: empty, trainable: 0 }]), RangeError, "rows without tokens");
});

for (
  const name of ["llama", "mistral", "qwen3", "gemma2", "gemma3", "granite", "olmo2", "smollm3"]
) {
  Deno.test(`${name} loses and pulls the same where rows share a prefix`, async () => {
    using checkpoint = await openCheckpoint(
      new URL(`../fixtures/models/${name}/`, import.meta.url).pathname,
    );
    const device = openDevice("cpu");
    const weights = new DeviceWeights(device);
    const lock = new DeviceLock();
    const { hook, cores } = tinyTrainable(checkpoint, 0);
    const model = await DecoderGradients.compile({
      config: checkpoint.config,
      hook,
      scale: 1,
      positions: 64,
      device,
      weights,
      parameters: new DecoderParameters(checkpoint, 64, { hook }),
      plan: planOf({ dtype: "fp32", maxBatch: 1 }),
      turn: () => lock.take(1),
    });
    const trainables = [1, 0.5].map((scale) => ({
      rank: 4,
      parameters: cores.map((x) => x * scale),
    }));
    const batch: BatchRow[] = [
      ...[...rows, ...rows].map((example) => ({ example, trainable: 0 })),
      ...[...rows, ...rows].map((example) => ({ example, trainable: 1 })),
    ];
    assertEquals(pack(batch).sizes.contexts > 0, true, "the grid is shared");
    const together = await model.gradients({ rows: batch, trainables });
    const sums = trainables.map(({ parameters }) => new Float32Array(parameters.length));
    for (const [i, one] of batch.entries()) {
      const alone = await model.gradients({ rows: [one], trainables });
      assertLess(Math.abs(together.rows[i].loss / alone.rows[0].loss - 1), 1e-5);
      alone.gradients[one.trainable].forEach((g, k) => sums[one.trainable][k] += g);
    }
    // Two layers of float32 sums in another order.
    sums.forEach((sum, i) => assertLess(relativeError(together.gradients[i], sum), 2e-5));
    model.release();
    weights.release();
    device.release();
  });
}
