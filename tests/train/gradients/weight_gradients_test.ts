/**
 * Gradients by the frozen weights against the gradients by cores, which have PyTorch behind them: at
 * G = 0 a core's gradient is Aᵀ · dW · Bᵀ, whatever A and B are.
 */
import { assertEquals, assertLess, assertRejects } from "@std/assert";
import { dense, multiply, transpose } from "../../../adapters/lotr/linalg.ts";
import { randomFactors } from "../../../adapters/lotr/make/makers.ts";
import { stackOf } from "../../../adapters/lotr/stack.ts";
import { openCheckpoint } from "../../../src/checkpoint/open.ts";
import type { Checkpoint } from "../../../src/checkpoint/checkpoint.ts";
import { planOf } from "../../../src/executor/base.ts";
import { calibrate } from "../../../src/executor/calibrate.ts";
import { DeviceWeights } from "../../../src/models/device_weights.ts";
import { type LinearHook, MODULES, SITE_OF } from "../../../src/models/hook.ts";
import { DecoderParameters, type Smoothing } from "../../../src/models/parameters.ts";
import { DeviceLock } from "../../../src/runtime/device_lock.ts";
import { openDevice } from "../../../src/runtime/open.ts";
import { DecoderGradients } from "../../../src/train/gradients/gradient_model.ts";
import type { LinearMatrix } from "../../../src/train/gradients/gradient_source.ts";
import type { Example } from "../../../src/train/gradients/model.ts";
import { WeightGradients } from "../../../src/train/gradients/weight_gradients.ts";
import { seeded } from "../../checkpoint/fixtures.ts";

const POSITIONS = 64;

/** Rows of different lengths, some tokens without loss. */
function examples(vocab: number, lengths: readonly number[]): Example[] {
  const random = seeded(11);
  return lengths.map((length, i) => ({
    tokens: Int32Array.from({ length }, () => Math.floor(random() * vocab)),
    weights: Float32Array.from({ length }, (_, at) => at > 0 && at % 3 !== i % 3 ? random() : 0),
    line: i + 1,
  }));
}

/** What both kinds of gradients are compiled with. */
class Bench implements Disposable {
  readonly #device = openDevice("cpu");
  readonly #weights = new DeviceWeights(this.#device);
  readonly #folded = new DeviceWeights(this.#device);
  readonly #lock = new DeviceLock();

  constructor(readonly checkpoint: Checkpoint) {}

  options(hook?: LinearHook) {
    return {
      device: this.#device,
      weights: this.#weights,
      parameters: new DecoderParameters(this.checkpoint, POSITIONS, hook && { hook }),
      plan: planOf({ dtype: "fp32" as const, maxBatch: 4 }),
      turn: () => this.#lock.take(1),
      config: this.checkpoint.config,
      positions: POSITIONS,
    };
  }

  smoothing(): Promise<Smoothing> {
    const { vocabSize } = this.checkpoint.config;
    const tokens = Array.from({ length: 48 }, (_, i) => (i * 7) % vocabSize);
    return calibrate(this.#device, this.checkpoint, tokens);
  }

  /** In float32, with channel scales folded into the weights. */
  folded(smoothing: Smoothing) {
    const parameters = new DecoderParameters(this.checkpoint, POSITIONS, { smoothing });
    return { ...this.options(), weights: this.#folded, parameters };
  }

  [Symbol.dispose](): void {
    this.#folded.release();
    this.#weights.release();
    this.#device.release();
    this.checkpoint.close();
  }
}

async function withModel(name: string, body: (bench: Bench) => Promise<void>): Promise<void> {
  const path = new URL(`../../fixtures/models/${name}`, import.meta.url).pathname;
  using bench = new Bench(await openCheckpoint(path));
  await body(bench);
}

for (
  const name of [
    "llama",
    "qwen3",
    "qwen2",
    "gemma2",
    "gemma3",
    "glm4",
    "granite",
    "olmo2",
    "phi3",
    "smollm3",
  ]
) {
  Deno.test(`weight gradients of ${name} seen through factors are its core gradients`, async () => {
    await withModel(name, async (bench) => {
      const { config } = bench.checkpoint;
      const stack = stackOf(await bench.checkpoint.digest(), config);
      const factors = randomFactors({ stack, rank: 4, modules: MODULES });
      const rows = examples(config.vocabSize, [17, 5, 40, 23]);
      const source = new WeightGradients(bench.options());
      const asked = { examples: rows, modules: MODULES };
      const matrices = await Array.fromAsync(source.weightGradients(asked));
      const model = await DecoderGradients.compile({
        ...bench.options(factors),
        hook: factors,
        scale: 1,
      });
      const size = config.numLayers * MODULES.length * 16;
      const { gradients: [expected] } = await model.gradients({
        rows: rows.map((example) => ({ example, trainable: 0 })),
        trainables: [{ rank: 4, parameters: new Float32Array(size) }],
      });
      model.release();
      assertEquals(matrices.length, config.numLayers * MODULES.length);
      const largest = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
      matrices.forEach(({ layer, module, values }, i) => {
        assertEquals([layer, module], [Math.floor(i / 7), MODULES[i % 7]]);
        const a = dense(stack.inputs[SITE_OF[module]], 4, factors.a(SITE_OF[module]));
        const b = dense(4, stack.outputs[module], factors.b(module));
        const w = dense(a.rows, b.columns, values);
        const { data } = multiply(multiply(transpose(a), w), transpose(b));
        data.forEach((value, at) => {
          assertLess(Math.abs(value - expected[i * 16 + at]), 2e-5 * largest, `${layer} ${module}`);
        });
      });
    });
  });
}

for (
  const name of [
    "llama",
    "qwen3",
    "qwen2",
    "gemma2",
    "gemma3",
    "glm4",
    "granite",
    "olmo2",
    "phi3",
    "smollm3",
  ]
) {
  Deno.test(`channel scales folded into the weights of ${name} leave its gradients as they are`, async () => {
    await withModel(name, async (bench) => {
      const rows = examples(bench.checkpoint.config.vocabSize, [17, 5, 40, 23]);
      const request = { examples: rows, modules: MODULES };
      const plain = new WeightGradients(bench.options());
      const expected = await Array.fromAsync(plain.weightGradients(request));
      const smoothing = await bench.smoothing();
      // as few gradients at once as can be: a pass for each layer
      const folded = new WeightGradients({ ...bench.folded(smoothing), most: 1 });
      const found = await Array.fromAsync(folded.weightGradients(request));
      assertEquals(found.length, expected.length);
      found.forEach(({ layer, module, values }, i) => {
        assertEquals([layer, module], [expected[i].layer, expected[i].module]);
        const largest = expected[i].values.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
        values.forEach((value, at) => {
          const gap = Math.abs(value - expected[i].values[at]);
          assertLess(gap, 1e-4 * largest, `${layer} ${module}`);
        });
      });
    });
  });
}

Deno.test("weight gradients are sums over rows, however they are batched", async () => {
  await withModel("llama", async (bench) => {
    const source = new WeightGradients(bench.options());
    const rows = examples(bench.checkpoint.config.vocabSize, Array(24).fill(50));
    const seen: number[] = [];
    const all = await Array.fromAsync(source.weightGradients({
      examples: rows,
      modules: ["v_proj"],
      onProgress: (done, total) => seen.push(done / total),
    }));
    const parts: (readonly LinearMatrix[])[] = [];
    for (const part of [rows.slice(0, 5), rows.slice(5)]) {
      const asked = { examples: part, modules: ["v_proj"] as const };
      parts.push(await Array.fromAsync(source.weightGradients(asked)));
    }
    assertEquals(all.map(({ module }) => module), ["v_proj", "v_proj"]);
    assertEquals([seen.length > 1, seen.at(-1)], [true, 1]);
    const largest = all[0].values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    all[0].values.forEach((value, i) => {
      assertLess(Math.abs(value - parts[0][0].values[i] - parts[1][0].values[i]), 1e-5 * largest);
    });
  });
});

Deno.test("a row that is too long and an aborted signal stop the gradients", async () => {
  await withModel("llama", async (bench) => {
    const source = new WeightGradients(bench.options());
    const rows = examples(bench.checkpoint.config.vocabSize, [5, POSITIONS + 1]);
    const modules = ["q_proj"] as const;
    await assertRejects(
      () => Array.fromAsync(source.weightGradients({ examples: rows, modules })),
      RangeError,
      "the row of line 2 has 65 tokens, at most 64 fit",
    );
    const signal = AbortSignal.abort();
    await assertRejects(
      () =>
        Array.fromAsync(source.weightGradients({ examples: rows.slice(0, 1), modules, signal })),
      DOMException,
      "aborted",
    );
  });
});
