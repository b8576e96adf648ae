/** The trainer as callers see it, over a model whose gradients are closed formulas. */
import {
  assert,
  assertAlmostEquals,
  assertEquals,
  assertGreater,
  assertLess,
  assertNotEquals,
  assertRejects,
} from "@std/assert";
import { CoreTrainer } from "../../../adapters/training/core_trainer.ts";
import type {
  TrainCheckpoint,
  TrainProgress,
  TrainRequest,
} from "../../../adapters/training/training.ts";
import {
  DEFAULT_HYPERPARAMETERS,
  type Hyperparameters,
} from "../../../adapters/training/hyperparameters.ts";
import type { FactorSet } from "../../../adapters/lotr/factors.ts";
import type { TrainableState } from "../../../src/train/gradients/model.ts";
import { fakeExamples, FakeGradientModel } from "../../fakes/gradient_model.ts";
import { smallFactors } from "../small.ts";

const FACTORS = smallFactors({ modules: ["q_proj", "v_proj"] });

const HYPERPARAMETERS: Hyperparameters = {
  ...DEFAULT_HYPERPARAMETERS,
  rank: 4,
  epochs: 3,
  learningRateMultiplier: 15,
  patience: 0,
};

/** A trainer over fakes, and every model that it opened. */
function make(options: { readonly open?: (factors: FactorSet) => void } = {}) {
  const opened: { factors: FactorSet; method: string; model: FakeGradientModel }[] = [];
  const open = (method: string) => (factors: FactorSet) => {
    options.open?.(factors);
    const table = ({ rank }: TrainableState) => 2 * 2 * rank ** 2;
    const model = new FakeGradientModel({ table, maxTokens: 128 });
    opened.push({ factors, method, model });
    return Promise.resolve(model);
  };
  const trainer = new CoreTrainer({
    models: { core: open("core"), lotr: open("lotr") },
    defaultFactors: () => Promise.resolve(FACTORS),
    now: () => 0,
  });
  return { trainer, opened };
}

function requestOf(
  { hyperparameters, ...given }: Partial<Omit<TrainRequest, "hyperparameters">> & {
    readonly hyperparameters?: Partial<Hyperparameters>;
  } = {},
): TrainRequest {
  return {
    train: fakeExamples(60),
    valid: fakeExamples(20, { seed: 2 }),
    hyperparameters: { ...HYPERPARAMETERS, ...hyperparameters },
    ...given,
  };
}

Deno.test("a core learns, is of the default factors, and may be published", async () => {
  const { trainer } = make();
  const heard: TrainProgress[] = [];
  const result = await trainer.train(requestOf({ onProgress: (event) => heard.push(event) }));
  assertLess(result.best.loss, result.base.loss - 0.5);
  assertEquals(result.refused, undefined);
  assertEquals(result.factors, FACTORS);
  result.core.checkFactors(FACTORS);
  assertEquals([result.trainableParameters, result.steps], [64, 45]);
  assertEquals(
    result.trainedTokens,
    3 * requestOf().train.reduce((n, r) => n + r.tokens.length, 0),
  );
  const [start] = heard;
  assert(start.type === "start");
  assertEquals([start.steps, start.done, start.base], [45, 0, result.base]);
  assertEquals(start.settled, result.settled);
  assertAlmostEquals(start.settled.learningRate, 15 * 5e-3 * 8 ** 0.5, 1e-5);
  assertEquals(heard.filter(({ type }) => type === "step").length, 45);
  const evaluated = heard.flatMap((event) =>
    event.type === "evaluation" ? [{ ...event.evaluation, step: event.step }] : []
  );
  assert(evaluated.some((one) => one.step === result.best.step && one.loss === result.best.loss));
  assertEquals(Math.min(...evaluated.map(({ loss }) => loss)), result.best.loss);
});

Deno.test("the same request gives the same core; another seed another", async () => {
  const digest = async (seed: number) =>
    (await make().trainer.train(requestOf({ hyperparameters: { seed } }))).core.digest;
  assertEquals(await digest(1), await digest(1));
  assertNotEquals(await digest(1), await digest(2));
});

Deno.test("a smaller rank trains a smaller core of the same factors", async () => {
  const result = await make().trainer.train(requestOf({ hyperparameters: { rank: 2 } }));
  assertEquals([result.core.rank, result.trainableParameters], [2, 16]);
  assertEquals(result.core.factors, FACTORS.digest);
});

Deno.test("a core that is no better than the base is refused, with both losses", async () => {
  // Validation rows that follow the opposite rule: what is learnt makes them worse.
  const valid = fakeExamples(20, { seed: 2, rule: (token) => (token * 5 + 2) % 8 });
  const request = requestOf({ valid, hyperparameters: { learningRateMultiplier: 1 } });
  const result = await make().trainer.train(request);
  assertGreater(result.best.loss, result.base.loss);
  const texts = [result.best.loss, result.base.loss].map((loss) => loss.toFixed(4));
  assert(texts.every((text) => result.refused?.includes(text)), result.refused);
});

Deno.test("without validation rows a sample of the training rows decides", async () => {
  const { trainer, opened } = make();
  const train = fakeExamples(100);
  const result = await trainer.train(requestOf({ train, valid: [] }));
  assertLess(result.best.loss, result.base.loss);
  const [first, second] = [0, 1].map((i) => opened[0].model.batches[i].rows);
  const base = new Set([...first, ...second].map(({ example }) => example));
  assert([...base].every((example) => train.includes(example)));
  assertLess(base.size, 65);
});

Deno.test("jobs of one factor set share a model and micro-batches, each as if alone", async () => {
  const { trainer, opened } = make();
  const requests = [1, 2, 3].map((seed) =>
    requestOf({ train: fakeExamples(30 + seed, { seed }), hyperparameters: { seed } })
  );
  const together = await Promise.all(requests.map((request) => trainer.train(request)));
  assertEquals(opened.length, 1);
  assert(opened[0].model.batches.some(({ trainables }) => trainables.length === 3));
  for (const [i, request] of requests.entries()) {
    const alone = await make().trainer.train(request);
    alone.core.cores.forEach((value, j) =>
      assertAlmostEquals(together[i].core.cores[j], value, 1e-3)
    );
    assertAlmostEquals(together[i].best.loss, alone.best.loss, 1e-4);
  }
});

Deno.test("a model that no job uses is kept for the next, and released for another's", async () => {
  const { trainer, opened } = make();
  const other = smallFactors({ modules: ["q_proj", "v_proj"], seed: 9 });
  await trainer.train(requestOf());
  await trainer.train(requestOf());
  assertEquals(opened.map(({ model }) => model.released), [0]);
  await trainer.train(requestOf({ factors: other }));
  assertEquals(opened.map(({ model }) => model.released), [1, 0]);
  await Promise.all([trainer.train(requestOf()), trainer.train(requestOf({ factors: other }))]);
  assertEquals(opened.length, 3);
  await trainer.release();
  assertEquals(opened.map(({ model }) => model.released), [1, 1, 1]);
});

Deno.test("a model that cannot be opened fails the job; the next tries again", async () => {
  let fail = true;
  const { trainer } = make({
    open: () => {
      if (fail) throw new Error("out of memory");
    },
  });
  await assertRejects(() => trainer.train(requestOf()), Error, "out of memory");
  fail = false;
  assertEquals((await trainer.train(requestOf())).refused, undefined);
});

async function checkpointsOf(request: TrainRequest) {
  const checkpoints: TrainCheckpoint[] = [];
  const result = await make().trainer.train({
    ...request,
    checkpointEvery: 4,
    onCheckpoint: (checkpoint) => Promise.resolve(void checkpoints.push(checkpoint)),
  });
  return { checkpoints, result };
}

Deno.test("a job resumed from any checkpoint ends with the identical core", async () => {
  for (const method of ["core", "lotr"] as const) {
    const request = requestOf({ hyperparameters: { method, epochs: 2 } });
    const { checkpoints, result } = await checkpointsOf(request);
    assertGreater(checkpoints.length, 6);
    for (const { bytes: resume, step } of checkpoints) {
      const heard: TrainProgress[] = [];
      const again = await make().trainer.train({
        ...request,
        resume,
        onProgress: (event) => heard.push(event),
      });
      assertEquals(again, result);
      const [start, next] = heard;
      assert(start.type === "start" && start.done === step);
      assertEquals(start.base, result.base);
      if (next?.type === "step") assertEquals(next.step, step + 1);
    }
  }
});

Deno.test("a checkpoint holds a servable core, and the evaluation where there was one", async () => {
  const { checkpoints, result } = await checkpointsOf(requestOf());
  for (const { core } of checkpoints) core.checkFactors(FACTORS);
  const best = checkpoints.find(({ step }) => step === result.best.step);
  assertEquals(best?.core.digest, result.core.digest);
  assertEquals(best?.evaluation?.loss, result.best.loss);
  // 15 steps an epoch are evaluated after the last; a checkpoint comes after 4 others as well.
  const evaluated = checkpoints.map(({ step, evaluation }) => [step, evaluation !== undefined]);
  assertEquals(evaluated.slice(0, 6), [
    ...[[4, false], [8, false], [12, false], [15, true], [19, false], [23, false]],
  ]);
});

Deno.test("speed counts the tokens of this run alone", async () => {
  const { checkpoints } = await checkpointsOf(requestOf());
  const { bytes: resume, step: done } = checkpoints[5];
  let clock = 0;
  const model = new FakeGradientModel();
  const open = () => Promise.resolve(model);
  const trainer = new CoreTrainer({
    models: { core: open, lotr: open },
    defaultFactors: () => Promise.resolve(FACTORS),
    now: () => clock,
  });
  const before: number[] = [];
  await trainer.train(requestOf({
    resume,
    onProgress: (event) => {
      if (event.type === "step") {
        before.push(event.tokens - event.tokensPerSecond * clock / 1000);
        assertEquals(event.step, done + before.length);
      }
      clock += 1000;
    },
  }));
  assertGreater(before[0], 0);
  for (const tokens of before) assertAlmostEquals(tokens, before[0], 1e-6);
});

Deno.test("an aborted job writes a checkpoint that ends with the identical core", async () => {
  const request = requestOf();
  const whole = await make().trainer.train(request);
  const stop = new AbortController();
  let last: TrainCheckpoint | undefined;
  const error = await assertRejects(() =>
    make().trainer.train({
      ...request,
      signal: stop.signal,
      onProgress: (event) => {
        if (event.type === "step" && event.step === 7) stop.abort();
      },
      onCheckpoint: (checkpoint) => Promise.resolve(void (last = checkpoint)),
    }), DOMException);
  assertEquals([error.name, last?.step], ["AbortError", 7]);
  const again = await make().trainer.train({ ...request, resume: last?.bytes ?? new Uint8Array() });
  assertEquals(again, whole);
});

Deno.test("a checkpoint of other data, hyperparameters or factors is refused by name", async () => {
  const { checkpoints: [{ bytes: resume }] } = await checkpointsOf(requestOf());
  const cases: [TrainRequest, string][] = [
    [requestOf({ resume, train: fakeExamples(61) }), "the data"],
    [requestOf({ resume, valid: [] }), "the data"],
    [requestOf({ resume, hyperparameters: { seed: 7 } }), "the seed of the checkpoint is 0"],
    [requestOf({ resume, hyperparameters: { rank: 3 } }), "the rank"],
    [requestOf({ resume, hyperparameters: { method: "lotr" } }), "the method"],
    [requestOf({ resume, hyperparameters: { epochs: 4 } }), "the number of epochs"],
    [requestOf({ resume, hyperparameters: { learningRateMultiplier: 1 } }), "the learning rate"],
    [
      requestOf({ resume, factors: smallFactors({ modules: FACTORS.modules, seed: 3 }) }),
      "the factor set",
    ],
  ];
  for (const [request, text] of cases) {
    await assertRejects(() => make().trainer.train(request), TypeError, `Cannot resume: ${text}`);
  }
});

Deno.test("the paper's method trains A, B and G into a new factor set", async () => {
  const { trainer, opened } = make();
  const request = requestOf({ hyperparameters: { method: "lotr" } });
  const result = await trainer.train(request);
  assertEquals(opened.map(({ method }) => method), ["lotr"]);
  assertNotEquals(result.factors.digest, FACTORS.digest);
  result.core.checkFactors(result.factors);
  const moved = result.factors.a("attn_in").filter((value, i) => value !== FACTORS.a("attn_in")[i]);
  assertGreater(moved.length, 60);
  assertLess(result.best.loss, result.base.loss - 0.5);
  assertEquals(result.trainableParameters, 16 * 4 + 4 * 16 + 4 * 8 + 64);
});

Deno.test("a job whose every evaluation diverges fails, and nothing is returned", async () => {
  const request = requestOf({ hyperparameters: { learningRateMultiplier: 1e5 } });
  const error = await assertRejects(() => make().trainer.train(request), Error);
  assert(error.message.includes("multiplier"), error.message);
});

Deno.test("what cannot be trained is refused by name before a model is opened", async () => {
  const { trainer, opened } = make();
  const refuse = (request: TrainRequest, text: string) =>
    assertRejects(() => trainer.train(request), RangeError, text);
  await refuse(requestOf({ train: [] }), "no training row");
  await refuse(requestOf({ hyperparameters: { rank: 5 } }), "rank");
  await refuse(requestOf({ hyperparameters: { epochs: 0 } }), "epochs");
  await assertRejects(
    () => trainer.train(requestOf({ signal: AbortSignal.abort() })),
    DOMException,
  );
  assertEquals(opened.length, 0);
});
