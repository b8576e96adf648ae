// deno-lint-ignore-file no-console -- the measured numbers belong in the test's output

/** The default model against transformers on the same dequantised weights, and what int8 costs. */
import { assertEquals, assertLess } from "@std/assert";
import type { Checkpoint } from "../../src/checkpoint/checkpoint.ts";
import { openCheckpoint } from "../../src/checkpoint/open.ts";
import { resolveModel } from "../../src/checkpoint/fetch/resolve.ts";
import { planOf, type ServingDtype } from "../../src/executor/base.ts";
import { integersOf } from "../../src/executor/integer_check.ts";
import { calibrate } from "../../src/executor/calibrate.ts";
import { calibrationText } from "../../src/models/calibration.ts";
import type { Smoothing } from "../../src/models/parameters.ts";
import type { Device } from "../../src/runtime/device.ts";
import { openDevice } from "../../src/runtime/open.ts";
import { distance } from "../graph/run.ts";
import { LONG } from "../long.ts";
import { Expected } from "./expected.ts";
import { logSumExp, perplexity, windowLosses, WindowModel } from "./logits.ts";

const FIXTURES = new URL("../fixtures/", import.meta.url);
const WINDOW = 512;
/** Windows for kernels of one row at a time: enough to see a broken one. */
const FEW = 2;

/** What transformers computed: `tests/fixtures/models/reference.py`. */
async function reference(): Promise<{ text_tokens: number; window_nll: number[] }> {
  return JSON.parse(
    await Deno.readTextFile(new URL("models/smollm2/perplexity.json", FIXTURES)),
  );
}

async function heldOut({ tokenizer }: Checkpoint): Promise<number[]> {
  return tokenizer.encode(await Deno.readTextFile(new URL("texts/heldout.txt", FIXTURES)));
}

/** The largest difference to transformers' logits, and each position's most likely token. */
async function compare(model: WindowModel, width: number) {
  const expected = new Expected(new URL("models/smollm2/reference.safetensors", FIXTURES));
  const [ids, columns] = [expected.integers("ids"), expected.integers("columns")];
  const [sums, values] = [expected.floats("logsumexp"), expected.floats("logits")];
  const logits = await model.logits(ids);
  let worst = 0;
  const argmax = ids.map((_, i) => {
    const row = logits.subarray(i * width, (i + 1) * width);
    worst = Math.max(worst, Math.abs(logSumExp(row) - sums[i]));
    columns.forEach((column, j) => {
      worst = Math.max(worst, Math.abs(row[column] - values[i * columns.length + j]));
    });
    return row.indexOf(row.reduce((top, x) => Math.max(top, x), -Infinity));
  });
  return { worst, argmax, expected: expected.integers("argmax") };
}

/** A kernel's losses over the first windows of a text. */
async function lossesOf(
  device: Device,
  checkpoint: Checkpoint,
  serving: { readonly dtype: ServingDtype; readonly maxBatch: number; readonly windows: number },
  tokens: readonly number[],
  smoothing?: Smoothing,
): Promise<number[]> {
  const plan = planOf(serving, await integersOf(device));
  using model = await WindowModel.compile(device, checkpoint, plan, WINDOW, smoothing);
  return await windowLosses(model, tokens.slice(0, serving.windows * WINDOW), WINDOW);
}

Deno.test("the default model says what transformers says, and int8 costs less than 1% of perplexity", async (t) => {
  using checkpoint = await openCheckpoint(await resolveModel(undefined));
  using device = openDevice("cpu");
  const tokens = await heldOut(checkpoint);
  const expected = await reference();
  let fp32: number[] = [];

  await t.step("float32 logits over 512 real tokens are within 1e-3", async () => {
    const plan = planOf({ dtype: "fp32", maxBatch: 1 });
    using model = await WindowModel.compile(device, checkpoint, plan, WINDOW);
    const found = await compare(model, checkpoint.config.vocabSize);
    console.log(`largest difference to transformers' logits: ${found.worst.toExponential(2)}`);
    assertLess(found.worst, 1e-3);
    assertEquals(found.argmax, found.expected);
    fp32 = await windowLosses(model, tokens, WINDOW);
  });

  await t.step("float32 loses what transformers loses, window by window", () => {
    assertEquals(tokens.length, expected.text_tokens);
    console.log(`float32 perplexity: ${perplexity(fp32).toFixed(4)}`);
    assertLess(distance(fp32, expected.window_nll), 1e-5);
  });

  await t.step("int8 in batches", async () => {
    const calibration = checkpoint.tokenizer.encode(calibrationText());
    const smoothing = await calibrate(device, checkpoint, calibration);
    const serving = { dtype: "int8", maxBatch: 32, windows: fp32.length } as const;
    const ratio = perplexity(await lossesOf(device, checkpoint, serving, tokens, smoothing)) /
      perplexity(fp32);
    console.log(`int8, batches: perplexity × ${ratio.toFixed(4)}`);
    assertLess(Math.abs(ratio - 1), 0.01);
  });

  // int4 is the file's own 4 bits, with int8 activations: it may cost as much again.
  for (const [dtype, limit] of [["int8", 0.01], ["int4", 0.02]] as const) {
    await t.step({
      name: `${dtype} one row at a time`,
      ignore: !LONG,
      fn: async () => {
        const serving = { dtype, maxBatch: 1, windows: FEW } as const;
        const ratio = perplexity(await lossesOf(device, checkpoint, serving, tokens)) /
          perplexity(fp32.slice(0, FEW));
        console.log(`${dtype}, one row: perplexity × ${ratio.toFixed(4)} over ${FEW} windows`);
        assertLess(Math.abs(ratio - 1), limit);
      },
    });
  }
});
