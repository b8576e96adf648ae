/** Log probabilities of prompts: the same by whatever chunks, beside others, after a preemption. */
import { assert, assertEquals } from "@std/assert";
import type { GenerationRequest, TokenLogprob } from "../../src/engine/request/request.ts";
import { adapter } from "../fakes/adapters.ts";
import { alone, fakeModel, harness, read, readOne, request, tokenizer } from "./harness.ts";

/** By the model alone, one token after the other. */
async function naive(asked: GenerationRequest, top: number): Promise<TokenLogprob[]> {
  const model = fakeModel();
  model.setAdapter(0, undefined);
  const found: TokenLogprob[] = [];
  for (const [past, token] of asked.prompt.slice(0, -1).entries()) {
    const next = asked.prompt.slice(past + 1, past + 2);
    const row = { slot: 0, tokens: [token], past, last: false };
    const [{ top: tops = [], given: [given] = [] }] = await model.score(row, next, top);
    found.push({ ...given, top: tops });
  }
  return found;
}

Deno.test("a prompt's log probabilities come with the first delta, in chunks as token by token", async () => {
  const asked = request({ prompt: "a long road ".repeat(6), promptLogprobs: 2, maxTokens: 5 });
  await using own = harness();
  const generation = own.engine.generate(asked);
  const text = await readOne(generation);
  assertEquals(generation.promptLogprobs, await naive(asked, 2));
  const { promptLogprobs: _, ...plain } = asked;
  const [wanted] = await alone(plain);
  assertEquals(text, wanted);
});

Deno.test("without output a request ends with its prompt's, and others' rows go on beside it", async () => {
  await using own = harness();
  const other = read(own.engine.generate(request({ maxTokens: 30, adapter: adapter("a/x@1") })));
  const asked = request({ prompt: "count to ten", promptLogprobs: 0, maxTokens: 0 });
  const generation = own.engine.generate(asked);
  const sample = await readOne(generation);
  assertEquals([sample.text, sample.tokens, sample.finishReason], ["", [], "length"]);
  assertEquals(generation.promptLogprobs, await naive(asked, 0));
  assertEquals(generation.usage.completionTokens, 0);
  await other;
});

Deno.test("a cached prefix is scored all the same, and n samples share one prompt", async () => {
  const prompt = tokenizer.encode("the same road again and again ".repeat(4));
  await using own = harness();
  await read(own.engine.generate(request({ prompt })));
  const asked = request({ prompt, promptLogprobs: 1, n: 3, temperature: 1, seed: 3 });
  const generation = own.engine.generate(asked);
  const { promptLogprobs: _, ...plain } = asked;
  assertEquals(await read(generation), await alone(plain));
  assertEquals(generation.promptLogprobs, await naive(asked, 1));
  assertEquals(generation.usage.cachedTokens > prompt.length, false);
});

Deno.test("a row preempted while it is scored comes back with all of its prompt's", async () => {
  const scored = request({ prompt: "walk ".repeat(25), promptLogprobs: 1, maxTokens: 20 });
  const others = Array.from(
    { length: 3 },
    (_, i) => request({ prompt: `row ${i} `.repeat(6), maxTokens: 90, tenant: `tenant-${i}` }),
  );
  await using own = harness({ kvMemory: 2_600 });
  const generations = [...others, scored].map((each) => own.engine.generate(each));
  await Promise.all(generations.map(read));
  assert(own.engine.stats().preemptions > 0);
  assertEquals(generations.at(-1)?.promptLogprobs, await naive(scored, 1));
});

Deno.test("a prompt of one token has nothing that precedes it", async () => {
  await using own = harness();
  const generation = own.engine.generate(request({ prompt: [5], promptLogprobs: 3, maxTokens: 0 }));
  await readOne(generation);
  assertEquals(generation.promptLogprobs, []);
});
