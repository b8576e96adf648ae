/**
 * Cores over an encoder: rows of one pass with different cores, and with none, against the same texts
 * through weights into which each core was merged, W + s·(A·G·B)ᵀ.
 */
import { assertGreater, assertLess } from "@std/assert";
import { EncoderModel } from "../../adapters/encoder_model.ts";
import { type Core, coreFrom } from "../../adapters/lotr/core.ts";
import type { FactorSet } from "../../adapters/lotr/factors.ts";
import { randomFactors } from "../../adapters/lotr/make/makers.ts";
import { type EncoderCheckpoint, openEncoder } from "../../src/checkpoint/encoder/open.ts";
import { EncoderBase } from "../../src/executor/encoder/encoder_base.ts";
import { SITE_OF } from "../../src/models/hook.ts";
import { names } from "../../src/models/parameters.ts";
import { DEVICE } from "../graph/device.ts";
import { distance, randomArray } from "../graph/run.ts";

// float32 sums in another order: vectors are of size 1.
const TOLERANCE = 1e-4;
const MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj"] as const;

function folderOf(name: string): string {
  return new URL(`../fixtures/encoders/${name}`, import.meta.url).pathname;
}

/** The checkpoint with a core in its weights. */
function merged(checkpoint: EncoderCheckpoint, factors: FactorSet, core: Core): EncoderCheckpoint {
  const deltas = new Map<string, Float32Array>();
  for (let layer = 0; layer < factors.layers; layer++) {
    factors.modules.forEach((module, m) => {
      const [a, g, b] = [factors.a(SITE_OF[module]), core.matrix(layer, m), factors.b(module)];
      const { rank } = core;
      const [inputs, outputs] = [a.length / rank, b.length / rank];
      const delta = new Float32Array(outputs * inputs);
      for (let o = 0; o < outputs; o++) {
        for (let i = 0; i < inputs; i++) {
          for (let r = 0; r < rank; r++) {
            for (let q = 0; q < rank; q++) {
              delta[o * inputs + i] += core.scale * a[i * rank + r] * g[r * rank + q] *
                b[q * outputs + o];
            }
          }
        }
      }
      deltas.set(names.linear(layer, module), delta);
    });
  }
  const { weights } = checkpoint;
  return {
    ...checkpoint,
    weights: {
      names: () => weights.names(),
      has: (name) => weights.has(name),
      info: (name) => weights.info(name),
      read: (name) => {
        const delta = deltas.get(name);
        return weights.read(name).map((value, i) => value + (delta?.[i] ?? 0));
      },
      readRaw: (name) => weights.readRaw(name),
      blocks: () => undefined,
    },
  };
}

for (const name of ["bert", "mpnet"]) {
  Deno.test(`${name}: rows with different cores in one pass equal merged weights`, async () => {
    await using model = await EncoderModel.load({ path: folderOf(name) });
    const { registry, engine } = model;
    const factors = randomFactors({ stack: registry.stack, rank: 4, modules: MODULES });
    registry.factors.add(factors);
    const size = factors.layers * MODULES.length * 16;
    const cores = [1, 2].map((seed) => coreFrom(factors, 4, randomArray(size, seed, 1)));
    const served = cores.map((core, i) =>
      registry.add(`tenant${i}/core`, { core, source: "memory" })
    );
    const texts = ["the road goes on", "one", "loaf feeds the other", "there né"]
      .map((text) => model.frameOne(model.tokens(text)));
    const { signal } = new AbortController();
    const ask = (adapter: typeof served[number] | undefined) =>
      engine.embed({
        ...{ id: "1", tenant: adapter?.tenant ?? "t", standing: undefined, adapter, texts },
        ...{ background: false, signal },
      });
    const mixed = await Promise.all([ask(served[0]), ask(undefined), ask(served[1])]);
    using checkpoint = await openEncoder(folderOf(name));
    for (const [i, core] of [cores[0], undefined, cores[1]].entries()) {
      const whole = core === undefined ? checkpoint : merged(checkpoint, factors, core);
      const base = await EncoderBase.load(DEVICE, whole, { dtype: "fp32", maxRows: 8 });
      const lane = await base.lane();
      const wanted = await lane.run(texts.map((text) => ({ text, core: undefined })));
      wanted.forEach((vector, t) => assertLess(distance(mixed[i][t], vector), TOLERANCE));
      lane.release();
      base.release();
    }
    assertGreater(distance(mixed[0][0], mixed[1][0]), 0.01);
    engine.checkIntegrity();
  });
}
