/** The trainer as callers see it, over a model whose gradients are closed formulas. */
import { assert, assertEquals, assertLess } from "@std/assert";
import { SharedCoreTrainer } from "../../adapters/core_trainer.ts";
import {
  DEFAULT_HYPERPARAMETERS,
  type Hyperparameters,
  type TrainProgress,
} from "../../adapters/training.ts";
import { fakeExamples, FakeGradientModel } from "../fakes/gradient_model.ts";
import { smallFactors } from "./small.ts";

Deno.test("a core learns", async () => {
  const model = new FakeGradientModel();
  const factors = smallFactors({ modules: ["q_proj", "v_proj"] });
  const trainer = new SharedCoreTrainer({
    models: { core: () => Promise.resolve(model), lotr: () => Promise.resolve(model) },
    defaultFactors: () => Promise.resolve(factors),
    now: () => 0,
  });
  const heard: TrainProgress[] = [];
  const hyperparameters: Hyperparameters = {
    ...DEFAULT_HYPERPARAMETERS,
    rank: 4,
    learningRateMultiplier: 20,
  };
  const result = await trainer.train({
    train: fakeExamples(60),
    valid: fakeExamples(20, { seed: 2 }),
    hyperparameters,
    onProgress: (p) => heard.push(p),
  });
  assertLess(result.best.loss, result.base.loss);
  assertEquals(result.refused, undefined);
  assert(heard.length > 0);
});
