/** Sampling's parameters, random numbers and logit changes. */
import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { philox, randomSeed, uniformAt } from "../../../src/executor/philox.ts";
import type { SamplingParams } from "../../../src/engine/request/request.ts";
import { ContextLengthError } from "../../../src/util/errors.ts";
import {
  DEFAULT_SAMPLING,
  SampleState,
  validateRequest,
  validateSampling,
} from "../../../src/engine/request/sampling.ts";
import { request, seeded } from "../harness.ts";

Deno.test("Philox4x32-10 gives the reference's known answers", () => {
  const ones = 0xFFFFFFFF;
  assertEquals(philox([0, 0, 0, 0], [0, 0]), 0x6627e8d5);
  assertEquals(philox([ones, ones, ones, ones], [ones, ones]), 0x408f276d);
  const pi = [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344] as const;
  assertEquals(philox(pi, [0xa4093822, 0x299f31d0]), 0xd16cfe09);
});

Deno.test("uniform numbers are even, and differ by seed, sample and position", () => {
  const bins = new Array<number>(16).fill(0);
  for (let i = 0; i < 16_000; i++) {
    const uniform = uniformAt(i % 7, i % 3, i);
    assert(uniform >= 0 && Math.fround(uniform) < 1);
    const bin = Math.floor(uniform * 16);
    bins[bin] = (bins[bin] ?? 0) + 1;
  }
  const chiSquare = bins.reduce((sum, count) => sum + (count - 1000) ** 2 / 1000, 0);
  assert(chiSquare < 37.7, `chi-square of 15 degrees of freedom is ${chiSquare}`);
  const seeds = [0, 1, -1, 2 ** 32, 2 ** 32 + 1, -(2 ** 40), randomSeed()];
  const draws = seeds.flatMap((seed) =>
    [[0, 0], [0, 1], [1, 0]].map(([s, p]) => uniformAt(seed, s ?? 0, p ?? 0))
  );
  assertEquals(new Set(draws).size, draws.length);
});

Deno.test("each field out of range is refused by name, with its value", () => {
  const cases: [Partial<SamplingParams>, string][] = [
    [{ temperature: -0.1 }, "temperature: current value is -0.1, it must be between 0 and 2"],
    [{ temperature: NaN }, "temperature"],
    [{ topP: 0 }, "top_p"],
    [{ topP: 1.1 }, "top_p"],
    [{ topK: 1.5 }, "top_k"],
    [{ topK: -2 }, "top_k"],
    [{ minP: 2 }, "min_p"],
    [{ presencePenalty: 2.1 }, "presence_penalty"],
    [{ frequencyPenalty: -3 }, "frequency_penalty"],
    [{ repetitionPenalty: 0 }, "repetition_penalty"],
    [{ seed: 0.5 }, "seed"],
    [{ logprobs: 21 }, "logprobs: current value is 21, it must be an integer, 0 to 20"],
    [{ maxTokens: -1 }, "max_tokens"],
    [{ minTokens: 5, maxTokens: 4 }, "min_tokens"],
    [{ minTokens: 1, grammar: { type: "json" } }, "min_tokens"],
    [{ stop: [""] }, "stop"],
    [{ stop: new Array(17).fill("x") }, "stop"],
    [{ stopTokenIds: [300] }, "stop_token_ids: current value is 300"],
    [{ logitBias: new Map([[1, 101]]) }, "logit_bias[1]"],
    [{ logitBias: new Map([[-1, 0]]) }, "logit_bias"],
  ];
  for (const [params, message] of cases) {
    const check = () => validateSampling({ ...DEFAULT_SAMPLING, ...params }, 300);
    assertThrows(check, RangeError, `Cannot use ${message}`);
  }
  validateSampling({ ...DEFAULT_SAMPLING, topK: -1, seed: -5, logprobs: 0, maxTokens: 1 }, 300);
});

Deno.test("a request's prompt, n and length are checked", () => {
  const limits = { vocabSize: 300, maxContext: 30 };
  assertThrows(() => validateRequest(request({ prompt: [] }), limits), RangeError, "prompt");
  assertThrows(() => validateRequest(request({ prompt: [300] }), limits), RangeError, "prompt");
  assertThrows(() => validateRequest(request({ n: 0 }), limits), RangeError, "Cannot use n");
  assertThrows(() => validateRequest(request({ maxTokens: 29 }), limits), ContextLengthError);
  validateRequest(request({ prompt: [1, 2], maxTokens: 28 }), limits);
});

/** Changes to each logit, straight from the definition. */
function naive(params: SamplingParams, prompt: readonly number[], output: readonly number[]) {
  const changes = new Map<number, { delta: number; repetition: number }>();
  for (let token = 0; token < 20; token++) {
    const count = output.filter((each) => each === token).length;
    const seen = count > 0 || prompt.includes(token);
    const delta = (params.logitBias.get(token) ?? 0) - params.frequencyPenalty * count -
      (count > 0 ? params.presencePenalty : 0);
    changes.set(token, { delta, repetition: seen ? params.repetitionPenalty : 1 });
  }
  return changes;
}

Deno.test("penalties kept up token by token are those of the whole history", () => {
  const random = seeded(9);
  for (let round = 0; round < 60; round++) {
    const params: SamplingParams = {
      ...DEFAULT_SAMPLING,
      presencePenalty: round % 2,
      frequencyPenalty: round % 3 / 2,
      repetitionPenalty: round % 5 === 0 ? 1 : 1.2,
      logitBias: new Map(round % 4 === 0 ? [] : [[3, 5], [7, -5]]),
    };
    const prompt = Array.from({ length: 5 }, () => Math.floor(random() * 20));
    const state = new SampleState({
      ...{ params, seed: 1, sample: 0, prompt, stopTokens: [], vocabSize: 20 },
    });
    const output: number[] = [];
    for (let step = 0; step < 40; step++) {
      const { adjust, uniform } = state.row(0, undefined);
      assertEquals(uniform, uniformAt(1, 0, step));
      for (const [token, expected] of naive(params, prompt, output)) {
        const at = adjust?.ids.indexOf(token) ?? -1;
        assertAlmostEquals(at === -1 ? 0 : adjust?.delta[at] ?? NaN, expected.delta, 1e-5);
        assertAlmostEquals(
          at === -1 ? 1 : adjust?.repetition[at] ?? NaN,
          expected.repetition,
          1e-6,
        );
      }
      const token = Math.floor(random() * 20);
      output.push(token);
      state.push(token);
    }
  }
});

Deno.test("default parameters ask for no changes at all", () => {
  const state = new SampleState({
    params: DEFAULT_SAMPLING,
    seed: 1,
    sample: 0,
    prompt: [1, 2],
    stopTokens: [5],
    vocabSize: 20,
  });
  state.push(3);
  assertEquals(Object.keys(state.row(4, undefined)).sort(), ["row", "temperature", "uniform"]);
});
