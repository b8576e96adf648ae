/** Ends and accidents in the engine: cancelled requests, errors, full queues, memory, draining. */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { ContextLengthError, OverloadedError } from "../../src/util/errors.ts";
import { adapter, FakeAdapters } from "../fakes/adapters.ts";
import { alone, harness, read, readOne, request } from "./harness.ts";

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

Deno.test("a request that cannot be queued once its core is there fails alone, and at once", async () => {
  const adapters = new FakeAdapters({ cold: () => 3 });
  await using own = harness({ adapters });
  const core = adapter("cold");
  // the queue reads it again when the core has come
  const broken = Object.defineProperty({ ...request({}) }, "adapter", {
    get() {
      if (adapters.held > 0) throw new Error("the line is broken");
      return core;
    },
  });
  await assertRejects(() => readOne(own.engine.generate(broken)), Error, "the line is broken");
  assertEquals([adapters.held, own.engine.stats().loading], [0, 0]);
  own.engine.checkIntegrity();
  const asked = request({ maxTokens: 5 });
  assertEquals(await read(own.engine.generate(asked)), await alone(asked));
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
  const setAdapter = own.model.setAdapter.bind(own.model);
  own.model.setAdapter = (slot, core) => {
    if (core?.digest.includes("odd")) throw new TypeError("this core has another shape");
    setAdapter(slot, core);
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

Deno.test("a generation knows when it was admitted and had its tokens", async () => {
  await using own = harness();
  const generation = own.engine.generate(request({ maxTokens: 3, ignoreEos: true }));
  assertEquals([generation.times.admitted, generation.times.lastToken], [undefined, undefined]);
  await read(generation);
  const { arrived, admitted, firstToken, lastToken } = generation.times;
  assert(admitted !== undefined && firstToken !== undefined && lastToken !== undefined);
  assert(arrived <= admitted && admitted <= firstToken && firstToken <= lastToken);
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

Deno.test("a broken invariant fails all that is present, several samples of a request too, and no more", async () => {
  let left = 1;
  const listener = {
    step() {
      if (left-- > 0) throw new Error("internal: a wheel came off");
    },
  };
  await using own = harness({ listener, model: { maxBatch: 2 } });
  const present = [1, 3, 3, 2].map((n) => read(own.engine.generate(request({ n }))));
  for (const one of present) await assertRejects(() => one, Error, "a wheel came off");
  assertEquals((await readOne(own.engine.generate(request()))).finishReason, "length");
});
