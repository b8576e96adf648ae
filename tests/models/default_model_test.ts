// deno-lint-ignore-file no-console -- the measured numbers belong in the test's output

/** The default model against transformers on the same dequantised weights, and what int8 costs. */
import { assert, assertEquals, assertLess } from "@std/assert";
import { openCheckpoint } from "../../src/checkpoint/open.ts";
import { resolveModel } from "../../src/checkpoint/resolve.ts";
import { calibrate, planOf, type ServingDtype } from "../../src/engine/base.ts";
import { calibrationText } from "../../src/models/calibration.ts";
import { openDevice } from "../../src/runtime/open.ts";
import { Expected } from "./expected.ts";
import { logSumExp, perplexity, WindowModel } from "./logits.ts";

const FIXTURES = new URL("../fixtures/", import.meta.url);
const WINDOW = 512;

Deno.test("float32 logits are transformers' over 512 real tokens, within 1e-3", async () => {
  using checkpoint = await openCheckpoint(await resolveModel(undefined));
  const expected = new Expected(new URL("models/smollm2/reference.safetensors", FIXTURES));
  const [ids, columns] = [expected.integers("ids"), expected.integers("columns")];
  const [sums, values] = [expected.floats("logsumexp"), expected.floats("logits")];
  using device = openDevice("cpu");
  const plan = planOf({ dtype: "fp32", maxBatch: 1 });
  using model = await WindowModel.compile(device, checkpoint, plan, WINDOW);
  const logits = await model.logits(ids);
  const width = checkpoint.config.vocabSize;
  let worst = 0;
  const argmax = ids.map((_, i) => {
    const row = logits.subarray(i * width, (i + 1) * width);
    worst = Math.max(worst, Math.abs(logSumExp(row) - sums[i]));
    columns.forEach((column, j) => {
      worst = Math.max(worst, Math.abs(row[column] - values[i * columns.length + j]));
    });
    return row.indexOf(row.reduce((top, x) => Math.max(top, x), -Infinity));
  });
  console.log(`largest difference to transformers' logits: ${worst.toExponential(2)}`);
  assertLess(worst, 1e-3);
  assertEquals(argmax, expected.integers("argmax"));
});

Deno.test("int8 costs less than 1% of perplexity", async () => {
  using checkpoint = await openCheckpoint(await resolveModel(undefined));
  const text = await Deno.readTextFile(new URL("texts/heldout.txt", FIXTURES));
  const tokens = checkpoint.tokenizer.encode(text);
  const whole = tokens.slice(0, tokens.length - tokens.length % WINDOW);
  using device = openDevice("cpu");
  const channels = await calibrate(
    device,
    checkpoint,
    checkpoint.tokenizer.encode(calibrationText()),
  );
  const measure = async (dtype: ServingDtype, maxBatch: number) => {
    const plan = planOf({ dtype, maxBatch });
    const smoothing = plan.linear("") === "w8a8" ? channels : undefined;
    using model = await WindowModel.compile(device, checkpoint, plan, WINDOW, smoothing);
    return await perplexity(model, whole, WINDOW);
  };
  const fp32 = await measure("fp32", 1);
  const batched = await measure("int8", 32);
  const single = await measure("int8", 1);
  const int4 = await measure("int4", 1);
  console.log({ fp32, batched, single, int4 });
  const { perplexity: reference } = JSON.parse(
    await Deno.readTextFile(new URL("models/smollm2/perplexity.json", FIXTURES)),
  );
  assert(Math.abs(fp32 / reference - 1) < 1e-4, `float32 ${fp32}, transformers ${reference}`);
  for (const value of [batched, single]) assertLess(value / fp32, 1.01);
});
