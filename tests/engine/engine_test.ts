/** The engine as its callers see it, on fake models. */
import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { adapter } from "../fakes/adapters.ts";
import { EOS } from "../fakes/tokenizer.ts";
import { alone, harness, read, readOne, request, tokenizer } from "./harness.ts";

Deno.test("a request is answered with text, tokens, an end and usage", async () => {
  await using own = harness();
  const generation = own.engine.generate(request({ prompt: "hello world", maxTokens: 12 }));
  const sample = await readOne(generation);
  assertEquals(sample.finishReason, "length");
  assertEquals(sample.tokens.length, 12);
  assertEquals(sample.text, tokenizer.decode(sample.tokens));
  assertEquals(generation.usage, {
    promptTokens: tokenizer.encode("hello world").length,
    completionTokens: 12,
    cachedTokens: 0,
  });
});

Deno.test("rows of one batch, base and adapted, get the text they get alone", async () => {
  const asked = Array.from({ length: 9 }, (_, i) =>
    request({
      prompt: "the road ".repeat(1 + i % 3) + i,
      maxTokens: 10 + i,
      temperature: i % 2,
      seed: i,
      adapter: i % 3 === 0 ? undefined : adapter(`tenant/${i}@1`),
    }));
  await using own = harness({ model: { maxBatch: 4 } });
  const together = await Promise.all(asked.map((each) => read(own.engine.generate(each))));
  for (const [i, each] of asked.entries()) assertEquals(together[i], await alone(each));
  assertEquals(own.adapters.held, 0);
});

Deno.test("different cores give different texts", async () => {
  const texts = new Set<string>();
  for (const core of [undefined, adapter("a/x@1"), adapter("a/x@2")]) {
    texts.add((await alone(request({ adapter: core })))[0]?.text ?? "");
  }
  assertEquals(texts.size, 3);
});

Deno.test("a long prompt goes in chunks and gives the text one chunk gives", async () => {
  const asked = request({ prompt: "a long road ".repeat(20) });
  const whole = await alone(asked, { model: { prefillTokens: 200 } });
  await using own = harness({ model: { prefillTokens: 16 } });
  assertEquals(await read(own.engine.generate(asked)), whole);
  assert(own.engine.stats().prefillRuns > 5);
});

Deno.test("decoding rows move on while a long prompt is prefilled, and short prompts pass", async () => {
  const runs: string[] = [];
  await using own = harness({
    model: {
      prefillTokens: 16,
      onRun: (run) => void runs.push(run.kind === "decode" ? "d" : `p${run.rows[0]?.past}`),
    },
  });
  const short = read(own.engine.generate(request({ maxTokens: 30 })));
  const long = read(own.engine.generate(request({ prompt: "abcdefgh".repeat(16), maxTokens: 4 })));
  const late = read(own.engine.generate(request({ prompt: "late", maxTokens: 4 })));
  await Promise.all([short, long, late]);
  const chunks = runs.flatMap((run, at) => run.startsWith("p") && run !== "p0" ? [at] : []);
  assert(chunks.length > 3);
  for (const [i, at] of chunks.entries()) {
    assert(i === 0 || at - (chunks[i - 1] ?? 0) > 1, `${runs}`);
  }
});

Deno.test("beside a row that decodes, a long prompt is one short chunk between two steps", async () => {
  const chunks: number[] = [];
  await using own = harness({
    model: {
      maxContext: 2048,
      prefillTokens: 512,
      onRun: (run) => void chunks.push(run.kind === "decode" ? 0 : run.rows[0].tokens.length),
    },
  });
  const short = read(own.engine.generate(request({ maxTokens: 60 })));
  const long = read(own.engine.generate(request({ prompt: "abcdefgh".repeat(150) })));
  await Promise.all([short, long]);
  const steps = chunks.slice(chunks.indexOf(0));
  const beside = steps.slice(0, steps.lastIndexOf(0)).filter((tokens) => tokens > 0);
  assert(beside.length > 10 && beside.every((tokens) => tokens <= 64), `${steps}`);
  assert(steps.every((tokens, i) => tokens === 0 || steps[i + 1] === 0), `${steps}`);
});

Deno.test("a chunk is as long as the model takes behind what is there", async () => {
  const chunks: [past: number, tokens: number][] = [];
  const chunkTokens = (past: number) => Math.max(4, 64 - Math.floor(past / 4));
  const asked = request({ prompt: "a long road ".repeat(60) });
  const whole = await alone(asked, { model: { maxContext: 1024 } });
  await using own = harness({
    model: {
      maxContext: 1024,
      chunkTokens,
      onRun: (run) => {
        if (run.kind === "prefill") chunks.push([run.rows[0].past, run.rows[0].tokens.length]);
      },
    },
  });
  assertEquals(await read(own.engine.generate(asked)), whole);
  const longest = chunks.every(([past, tokens]) => tokens <= chunkTokens(past));
  assert(longest && chunks.length > 12, `${chunks}`);
});

Deno.test("n samples differ, and each depends on seed and index only", async () => {
  const asked = request({ temperature: 1, n: 3, seed: 11, maxTokens: 15 });
  const first = await alone(asked);
  assertEquals(first.length, 3);
  assertEquals(new Set(first.map((sample) => sample.text)).size, 3);
  await using own = harness();
  const [second] = await Promise.all([
    read(own.engine.generate(asked)),
    read(own.engine.generate(request({ temperature: 1, maxTokens: 30 }))),
  ]);
  assertEquals(second, first);
  assertNotEquals(await alone({ ...asked, sampling: { ...asked.sampling, seed: 12 } }), first);
});

Deno.test("samples of a long prompt share its prefix", async () => {
  const asked = request({ prompt: "abcdefgh".repeat(12), n: 4, temperature: 1, seed: 5 });
  const model = { maxContext: 512, prefillTokens: 128 };
  await using own = harness({ model });
  const generation = own.engine.generate(asked);
  const samples = await read(generation);
  assertEquals(samples, await alone(asked, { model, prefixMemory: 0 }));
  assert(own.engine.stats().prefixHitTokens > 3 * 60);
});

Deno.test("generation ends at eos, which counts but does not show", async () => {
  const asked = request({ logitBias: new Map([[EOS, 100]]) });
  const [sample] = await alone(asked);
  assertEquals(sample, {
    text: "",
    tokens: [EOS],
    logprobs: [],
    finishReason: "stop",
    stopReason: undefined,
  });
  const [ignored] = await alone(request({ ...asked.sampling, ignoreEos: true, maxTokens: 3 }));
  assertEquals(ignored?.tokens, [EOS, EOS, EOS]);
  assertEquals(ignored?.finishReason, "length");
});

Deno.test("min_tokens keeps eos and stop ids away until they are out", async () => {
  const bias = new Map([[EOS, 90], [65, 100]]);
  const [sample] = await alone(request({ logitBias: bias, minTokens: 4, stopTokenIds: [65] }));
  assertEquals(sample?.tokens.length, 5);
  assertEquals(sample?.tokens.slice(0, 4).some((token) => token === EOS || token === 65), false);
  assertEquals(sample?.stopReason, 65);
});

Deno.test("a stop string across tokens ends the text before it, or after it if asked", async () => {
  const [free] = await alone(request({ maxTokens: 40, temperature: 1, seed: 3 }));
  const text = free?.text ?? "";
  const stop = text.slice(10, 15);
  const at = text.indexOf(stop);
  const asked = request({ maxTokens: 40, temperature: 1, seed: 3, stop: ["never there", stop] });
  const [stopped] = await alone(asked);
  assertEquals(stopped?.text, text.slice(0, at));
  assertEquals(stopped?.finishReason, "stop");
  assertEquals(stopped?.stopReason, stop);
  const [included] = await alone(request({ ...asked.sampling, includeStopInOutput: true }));
  assertEquals(included?.text, text.slice(0, at) + stop);
});

Deno.test("a stop token id ends the text and is named", async () => {
  const [free] = await alone(request({ maxTokens: 10 }));
  const id = free?.tokens[4] ?? 0;
  const [stopped] = await alone(request({ maxTokens: 10, stopTokenIds: [id] }));
  assertEquals(stopped?.tokens, free?.tokens.slice(0, (free?.tokens.indexOf(id) ?? 0) + 1));
  assertEquals(stopped?.stopReason, id);
});

Deno.test("logprobs come with each token, the likeliest first", async () => {
  const [sample] = await alone(request({ logprobs: 3, maxTokens: 5 }));
  assertEquals(sample?.logprobs.length, 5);
  for (const entry of sample?.logprobs ?? []) {
    assertEquals(entry.top.length, 3);
    assertEquals(entry.top[0]?.token, entry.token);
    assert(entry.logprob < 0 && entry.logprob === entry.top[0]?.logprob);
  }
});

Deno.test("frequency and repetition penalties change what is drawn", async () => {
  const bias = new Map([[65, 20]]);
  const [plain] = await alone(request({ logitBias: bias, maxTokens: 12, ignoreEos: true }));
  assertEquals(new Set(plain?.tokens), new Set([65]));
  const [frequent] = await alone(
    request({ logitBias: bias, maxTokens: 12, frequencyPenalty: 2, ignoreEos: true }),
  );
  assert((frequent?.tokens.filter((token) => token === 65).length ?? 0) < 12);
});
