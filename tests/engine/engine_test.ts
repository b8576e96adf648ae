/** The engine as its callers see it, on fake models. */
import { assert, assertEquals, assertNotEquals, assertRejects, assertThrows } from "@std/assert";
import { ContextLengthError, OverloadedError } from "../../src/engine/request.ts";
import { adapter, FakeAdapters } from "../fakes/adapters.ts";
import { EOS } from "../fakes/tokenizer.ts";
import { alone, fakeModel, harness, read, readOne, request, tokenizer } from "./harness.ts";

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

Deno.test("cancelling a running request ends it within a step and frees its slot", async () => {
  const control = new AbortController();
  let after = 0;
  await using own = harness({
    model: { onRun: () => void (control.signal.aborted && after++) },
  });
  const asked = request({ maxTokens: 200, signal: control.signal, ignoreEos: true });
  let deltas = 0;
  let reason: string | undefined;
  for await (const delta of own.engine.generate(asked)) {
    if (++deltas === 5) control.abort();
    reason = delta.finishReason;
  }
  assertEquals(reason, "abort");
  assert(after <= 1, `${after} runs after the abort`);
  assertEquals(own.engine.stats().running, 0);
  assertEquals(own.engine.stats().kvBytes, 0);
});

Deno.test("a token drawn after the abort is not handed out", async () => {
  const control = new AbortController();
  let runs = 0;
  await using own = harness({ model: { onRun: () => void (++runs === 4 && control.abort()) } });
  const asked = request({ maxTokens: 50, signal: control.signal, ignoreEos: true });
  const sample = await readOne(own.engine.generate(asked));
  assertEquals([sample.finishReason, sample.tokens.length], ["abort", 3]);
});

Deno.test("leaving the iteration cancels the request", async () => {
  await using own = harness();
  for await (const _ of own.engine.generate(request({ maxTokens: 200, ignoreEos: true }))) break;
  await own.engine.drain();
  assertEquals(own.engine.stats().finished.abort, 1);
});

Deno.test("a request that is aborted before it starts does no work", async () => {
  await using own = harness();
  const sample = await readOne(own.engine.generate(request({ signal: AbortSignal.abort() })));
  assertEquals(sample.finishReason, "abort");
  assertEquals(own.steps(), 0);
});

Deno.test("a cold core does not hold other rows up, and a core that fails fails its request", async () => {
  const adapters = new FakeAdapters({
    cold: ({ name }) => name.startsWith("cold") ? 5 : undefined,
    fails: ({ name }) => name.includes("broken") ? new Error(`no core ${name}`) : undefined,
  });
  await using own = harness({ adapters });
  const order: string[] = [];
  const run = async (name: string) => {
    await read(own.engine.generate(request({ adapter: adapter(name), maxTokens: 3 })));
    order.push(name);
  };
  const cold = run("cold");
  const broken = assertRejects(() => run("cold-broken"), Error, "no core cold-broken");
  const sync = assertRejects(() => run("broken"), Error, "no core broken");
  await Promise.all([cold, run("warm"), broken, sync]);
  assertEquals(order, ["warm", "cold"]);
  assertEquals(adapters.held, 0);
});

Deno.test("a core that arrives after its request was cancelled is given back", async () => {
  const adapters = new FakeAdapters({ cold: () => 3 });
  const control = new AbortController();
  await using own = harness({ adapters });
  const asked = request({ adapter: adapter("cold"), signal: control.signal });
  const reading = readOne(own.engine.generate(asked));
  control.abort();
  assertEquals((await reading).finishReason, "abort");
  for (let i = 0; i < 6; i++) await new Promise((resolve) => setTimeout(resolve, 0));
  assertEquals(adapters.held, 0);
});

Deno.test("an error in a step ends that step's rows and no others", async () => {
  let fail = false;
  await using own = harness({
    model: {
      onRun: (run) => {
        if (!fail || run.kind !== "decode") return;
        fail = false;
        throw new Error("the device stumbled");
      },
    },
  });
  const first = own.engine.generate(request({ maxTokens: 100, ignoreEos: true }));
  const doomed = assertRejects(
    async () => {
      for await (const _ of first) fail = true;
    },
    Error,
    "the device stumbled",
  );
  await doomed;
  const asked = request({ maxTokens: 5 });
  assertEquals(await read(own.engine.generate(asked)), await alone(asked));
  assertEquals(own.engine.stats().finished.error, 1);
  assertEquals(own.engine.stats().kvBytes, 0);
});

Deno.test("an error in one sample's prefill fails its request as a whole", async () => {
  await using own = harness({
    model: {
      onRun: (run) => {
        if (run.kind === "prefill") throw new Error("no");
      },
    },
  });
  await assertRejects(() => read(own.engine.generate(request({ n: 6 }))), Error, "no");
  await own.engine.drain();
  assertEquals(own.engine.stats().running + own.engine.stats().waiting, 0);
});

Deno.test("a core that the model refuses fails its request, its batch goes on", async () => {
  await using own = harness();
  const setCore = own.model.setCore.bind(own.model);
  own.model.setCore = (slot, core) => {
    if (core?.digest.includes("odd")) throw new TypeError("this core has another shape");
    setCore(slot, core);
  };
  const asked = ["a", "odd", "b"].map((name) => request({ adapter: adapter(name) }));
  const [first, odd, last] = await Promise.allSettled(
    asked.map((each) => read(own.engine.generate(each))),
  );
  assert(odd?.status === "rejected" && odd.reason.message === "this core has another shape");
  assert(first?.status === "fulfilled" && last?.status === "fulfilled");
  const [a, , b] = asked;
  assert(a !== undefined && b !== undefined);
  assertEquals([first.value, last.value], [await alone(a), await alone(b)]);
  assertEquals(own.adapters.held, 0);
});

Deno.test("a listener hears of first tokens, gaps, runs and ends", async () => {
  const heard = { first: 0, gaps: 0, prefilled: 0, decoded: 0, ends: 0 };
  await using own = harness({
    listener: {
      firstToken: () => heard.first++,
      interToken: () => heard.gaps++,
      step: ({ kind, tokens }) => heard[kind === "prefill" ? "prefilled" : "decoded"] += tokens,
      finished: ({ promptTokens, generationTokens, endToEnd, queued }) => {
        heard.ends++;
        assertEquals([promptTokens, generationTokens], [3, 5]);
        assert(queued !== undefined && queued <= endToEnd);
      },
    },
  });
  const asked = request({ prompt: [65, 66, 67], maxTokens: 5, n: 2, ignoreEos: true });
  await read(own.engine.generate(asked));
  assertEquals(heard, { first: 2, gaps: 8, prefilled: 6, decoded: 8, ends: 2 });
});

Deno.test("a full queue refuses with a time to come back", async () => {
  await using own = harness({ maxQueue: 2 });
  const accepted = [1, 2].map(() => read(own.engine.generate(request())));
  const error = assertThrows(
    () => own.engine.generate(request()),
    OverloadedError,
    "queue is full",
  );
  assert(error.retryAfterSeconds >= 1);
  await Promise.all(accepted);
  assertEquals(own.engine.stats().rejected, 1);
  await readOne(own.engine.generate(request()));
});

Deno.test("what cannot fit is refused, with the numbers", async () => {
  await using own = harness({ kvMemory: 1000, model: { kvBytesPerToken: 10 } });
  assertEquals(own.engine.maxContext, 96);
  const long = request({ prompt: new Array<number>(96).fill(65), maxTokens: undefined });
  assertThrows(() => own.engine.generate(long), ContextLengthError, "96 tokens: the prompt has 96");
  const wide = request({ prompt: new Array<number>(50).fill(65), maxTokens: 60 });
  assertThrows(() => own.engine.generate(wide), ContextLengthError, "max_tokens is 60");
  const open = request({
    prompt: new Array<number>(80).fill(65),
    maxTokens: undefined,
    ignoreEos: true,
  });
  const sample = await readOne(own.engine.generate(open));
  assertEquals([sample.finishReason, sample.tokens.length], ["length", 16]);
});

Deno.test("an adapter whose factor set has no lane is refused by name", async () => {
  await using own = harness();
  const stranger = request({ adapter: adapter("x/y@1", "factors-z") });
  assertThrows(
    () => own.engine.generate(stranger),
    TypeError,
    "x/y@1: its factor set is factors-z",
  );
});

Deno.test("rows preempted for memory come back with the text they would have had", async () => {
  const asked = Array.from({ length: 6 }, (_, i) =>
    request({
      prompt: "elf bread ".repeat(3) + i,
      maxTokens: 60,
      temperature: 1,
      seed: i,
      ignoreEos: true,
      frequencyPenalty: 0.5,
      adapter: i % 2 === 0 ? undefined : adapter(`a/${i}@1`),
    }));
  await using own = harness({ kvMemory: 2000, model: { kvBytesPerToken: 10 } });
  const together = await Promise.all(asked.map((each) => read(own.engine.generate(each))));
  assert(own.engine.stats().preemptions > 0);
  for (const [i, each] of asked.entries()) assertEquals(together[i], await alone(each));
});

Deno.test("a lower priority number runs sooner, equal ones in order of arrival", async () => {
  await using own = harness({ model: { maxBatch: 1 } });
  const order: string[] = [];
  const run = async (id: string, priority: number) => {
    await read(own.engine.generate(request({ id, priority, maxTokens: 2 })));
    order.push(id);
  };
  const first = run("running", 0);
  await new Promise((resolve) => setTimeout(resolve, 0));
  await Promise.all([first, run("low", 5), run("b", 1), run("c", 1), run("urgent", -1)]);
  assertEquals(order.slice(-4), ["urgent", "b", "c", "low"]);
});

Deno.test("a tenant that floods the queue does not hold another one up", async () => {
  await using own = harness({ model: { maxBatch: 1 } });
  const order: string[] = [];
  const run = async (tenant: string) => {
    await read(own.engine.generate(request({ tenant, maxTokens: 2 })));
    order.push(tenant);
  };
  const flood = Array.from({ length: 20 }, () => run("flood"));
  await Promise.all([...flood, run("guest")]);
  assert(order.indexOf("guest") < 4, `${order}`);
});

Deno.test("lanes come and go, base rows move, adapted rows stay", async () => {
  await using own = harness();
  const text = (await alone(request({ adapter: adapter("a/x@1") })))[0]?.text;
  own.engine.addLane({ factors: "factors-b", model: fakeModel() });
  assertThrows(() => own.engine.addLane({ factors: "factors-b", model: fakeModel() }), RangeError);
  const other = request({ adapter: adapter("a/x@1", "factors-b"), maxTokens: 20 });
  const both = [other, request({ adapter: adapter("a/x@1") }), request()].map((each) =>
    readOne(own.engine.generate(each))
  );
  const removed = own.engine.removeLane("factors-a");
  assertThrows(() => own.engine.generate(request({ adapter: adapter("a/x@1") })), TypeError);
  assertEquals((await Promise.all(both)).map((sample) => sample.text).slice(0, 2), [text, text]);
  await removed;
  await assertRejects(() => own.engine.removeLane("factors-b"), RangeError, "last lane");
  assertEquals((await readOne(own.engine.generate(request()))).finishReason, "length");
});

Deno.test("draining finishes what runs and refuses what comes", async () => {
  await using own = harness();
  const running = readOne(own.engine.generate(request({ maxTokens: 30, ignoreEos: true })));
  const drained = own.engine.drain();
  assertThrows(() => own.engine.generate(request()), OverloadedError, "shutting down");
  await drained;
  assertEquals((await running).tokens.length, 30);
});

Deno.test("closing aborts what runs and releases every cached block", async () => {
  const own = harness();
  const running = readOne(
    own.engine.generate(request({ prompt: "abc ".repeat(40), maxTokens: 50 })),
  );
  await new Promise((resolve) => setTimeout(resolve, 2));
  await own.engine.close();
  assert(["abort", "length", "stop"].includes((await running).finishReason ?? ""));
  assertEquals(own.model.blocks, 0);
});

Deno.test("stats count running and waiting samples, by adapter too", async () => {
  await using own = harness({ model: { maxBatch: 1 } });
  const running = [1, 2, 3].map(() =>
    read(own.engine.generate(request({ adapter: adapter("a/x@1"), maxTokens: 8 })))
  );
  await new Promise((resolve) => setTimeout(resolve, 0));
  const stats = own.engine.stats();
  const load = stats.adapters.get("a/x@1");
  assertEquals((load?.running ?? 0) + (load?.waiting ?? 0), stats.running + stats.waiting);
  await Promise.all(running);
  assertEquals(own.engine.stats().generationTokens, 24);
  assertEquals(own.engine.stats().adapters.size, 0);
});
