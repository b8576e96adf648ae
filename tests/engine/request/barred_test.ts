/** Barred words and allowed tokens: which tokens may come next, and what is undone after each draw. */
import { assertEquals, assertThrows } from "@std/assert";
import { BARRED, BarredWords, maskOf } from "../../../src/engine/request/barred.ts";
import {
  DEFAULT_SAMPLING,
  SampleState,
  validateSampling,
} from "../../../src/engine/request/sampling.ts";
import { seeded } from "../harness.ts";

Deno.test("a word's last token is barred exactly where the tokens before it have come", () => {
  const random = seeded(3);
  const words = [[1], [2, 3], [2, 2, 4], [3, 1, 2, 0]];
  const barred = new BarredWords(words);
  const output: number[] = [];
  for (let step = 0; step < 500; step++) {
    const naive = words.filter((word) => {
      const before = word.slice(0, -1);
      return before.every((id, i) => output[output.length - before.length + i] === id);
    }).map((word) => word.at(-1));
    assertEquals([...barred.next()].sort(), [...new Set(naive)].sort() as number[]);
    const token = Math.floor(random() * 5);
    output.push(token);
    barred.push(token);
  }
});

Deno.test("a row bars a token for one draw, and penalties and biases stay what they were", () => {
  const params = {
    ...DEFAULT_SAMPLING,
    badWords: [[7, 8]],
    logitBias: new Map([[8, 1.5]]),
    presencePenalty: 0.25,
  };
  const options = { seed: 1, sample: 0, prompt: [1], stopTokens: [], vocabSize: 40 };
  const state = new SampleState({ params, ...options });
  const deltaOf = (token: number) => {
    const { adjust } = state.row(0, undefined);
    const at = adjust?.ids.indexOf(token) ?? -1;
    return at === -1 ? 0 : adjust?.delta[at];
  };
  assertEquals(deltaOf(8), 1.5);
  state.push(7);
  assertEquals([deltaOf(8), deltaOf(8), deltaOf(7)], [BARRED, BARRED, -0.25]);
  state.push(9);
  assertEquals([deltaOf(8), deltaOf(7)], [1.5, -0.25]);
});

Deno.test("allowed tokens are a mask, which a grammar's takes the place of", () => {
  const params = { ...DEFAULT_SAMPLING, allowedTokens: [0, 31, 32, 39] };
  const options = { seed: 1, sample: 0, prompt: [1], stopTokens: [], vocabSize: 40 };
  const { mask } = new SampleState({ params, ...options }).row(0, undefined);
  const allowed = Array.from({ length: 40 }, (_, id) => id)
    .filter((id) => ((mask?.[id >> 5] ?? 0) >>> (id & 31)) & 1);
  assertEquals(allowed, [0, 31, 32, 39]);
  assertEquals(maskOf([], 33).length, 2);
});

Deno.test("what cannot be allowed or barred is refused by name", () => {
  const refused = (more: object, field: string) =>
    assertThrows(() => validateSampling({ ...DEFAULT_SAMPLING, ...more }, 40), RangeError, field);
  refused({ allowedTokens: [] }, "allowed_token_ids");
  refused({ allowedTokens: [40] }, "allowed_token_ids");
  refused({ allowedTokens: [1], grammar: { type: "json" } }, "allowed_token_ids");
  refused({ allowedTokens: [1], minTokens: 2 }, "allowed_token_ids");
  refused({ badWords: [[40]] }, "bad_words");
  refused({ badWords: [Array(65).fill(1)] }, "bad_words");
});
