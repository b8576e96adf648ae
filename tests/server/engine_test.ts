// deno-lint-ignore-file camelcase -- names of the wire format
/**
 * The openai client against a listening server with everything real but the weights: engine,
 * adapters, grammars.
 */
import {
  assert,
  assertEquals,
  assertNotEquals,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import OpenAI from "openai";
import { writeCore } from "../../adapters/lotr/format.ts";
import { randomFactors } from "../../adapters/lotr/make/makers.ts";
import { createApp } from "../../server/http/app.ts";
import { listen } from "../../server/serve.ts";
import {
  engineContext,
  type FakeLoaded,
  type FakeLoadOptions,
  someCore,
} from "./engine_context.ts";

interface Served extends FakeLoaded {
  readonly client: OpenAI;
  readonly url: string;
}

async function withEngine(
  options: FakeLoadOptions,
  body: (served: Served) => Promise<void>,
): Promise<void> {
  const { context, loaded } = await engineContext(options);
  const { engine } = loaded;
  const app = createApp(context);
  const server = await listen({ host: "127.0.0.1", port: 0, fetch: app.fetch }, context.lifecycle);
  const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "any", maxRetries: 0 });
  try {
    await body({ ...loaded, client, url: server.url });
    engine.checkIntegrity();
  } finally {
    await server.stop(5, () => engine.close());
    await engine.close();
  }
}

/** Takes a millisecond a run. */
const slow = { pace: () => new Promise<void>((resolve) => setTimeout(resolve, 1)) };

function until(condition: () => boolean): Promise<void> {
  return new Promise((resolve) => {
    const look = () => condition() ? resolve() : setTimeout(look, 2);
    look();
  });
}

const HELLO = { model: "tiny", messages: [{ role: "user" as const, content: "hello world" }] };
const PROMPT = { model: "tiny", prompt: "hello", max_tokens: 12 };
const ENDLESS = { ...PROMPT, max_tokens: 200, ignore_eos: true } as typeof PROMPT;

Deno.test("a seed fixes the text, streamed or not, alone or beside others", () =>
  withEngine({}, async ({ client }) => {
    const ask = async (seed: number) => {
      const answer = await client.completions.create({ ...PROMPT, seed });
      return answer.choices[0]?.text;
    };
    const alone = await ask(1);
    const [again, other] = await Promise.all([ask(1), ask(2)]);
    assertEquals(again, alone);
    assertNotEquals(other, alone);
    let streamed = "";
    const stream = await client.completions.create({ ...PROMPT, seed: 1, stream: true });
    for await (const chunk of stream) streamed += chunk.choices[0]?.text ?? "";
    assertEquals(streamed, alone);
  }));

Deno.test("n samples differ and are each complete", () =>
  withEngine({}, async ({ client }) => {
    const { choices, usage } = await client.chat.completions.create({
      ...HELLO,
      n: 3,
      seed: 5,
      max_tokens: 10,
    });
    assertEquals(choices.map(({ index }) => index), [0, 1, 2]);
    assertEquals(new Set(choices.map(({ message }) => message.content)).size, 3);
    assert((usage?.completion_tokens ?? 0) > 10);
  }));

Deno.test("a stop string ends the text before it and is named", () =>
  withEngine({}, async ({ client }) => {
    const free = await client.completions.create({ ...PROMPT, temperature: 0 });
    const text = free.choices[0]?.text ?? "";
    const stop = text.slice(3, 5);
    const cut = await client.completions.create({ ...PROMPT, temperature: 0, stop: [stop] });
    const choice = cut.choices[0] as { text: string; finish_reason: string; stop_reason?: string };
    assertEquals(choice.text, text.slice(0, text.indexOf(stop)));
    assertEquals([choice.finish_reason, choice.stop_reason], ["stop", stop]);
  }));

Deno.test("greedy logprobs name the sampled token as the likeliest", () =>
  withEngine({}, async ({ client }) => {
    const { choices } = await client.chat.completions.create({
      ...HELLO,
      temperature: 0,
      logprobs: true,
      top_logprobs: 3,
      max_tokens: 6,
    });
    const content = choices[0]?.logprobs?.content ?? [];
    assertEquals(content.length, 6);
    for (const { token, logprob, top_logprobs } of content) {
      assertEquals(top_logprobs[0]?.token, token);
      assertEquals(top_logprobs[0]?.logprob, logprob);
      assert(logprob <= 0);
    }
    const bytes = content.flatMap((entry) => entry.bytes ?? []);
    const whole = new TextDecoder().decode(Uint8Array.from(bytes));
    assert(whole.startsWith(choices[0]?.message.content ?? "?"), whole);
  }));

Deno.test("two tenants' adapters and the base share a batch, each with its own text", () => {
  let gate = Promise.resolve();
  const options = { pace: () => gate };
  return withEngine(options, async ({ client, engine, registry, factors, batches }) => {
    for (const [seed, name] of ["ada/haiku", "bob/haiku"].entries()) {
      registry.add(name, { core: someCore(factors, seed), source: "test" });
    }
    const models = ["tiny", "ada/haiku", "bob/haiku@1"];
    const ask = async (model: string) => {
      const body = { ...ENDLESS, max_tokens: 20, temperature: 0, model };
      return (await client.completions.create(body)).choices[0]?.text;
    };
    const alone = [];
    for (const model of models) alone.push(await ask(model));
    assertEquals(new Set(alone).size, 3);
    const before = batches.length;
    const { promise, resolve } = Promise.withResolvers<void>();
    gate = promise;
    const together = Promise.all(models.map(ask));
    await until(() => engine.stats().running + engine.stats().waiting === 3);
    resolve();
    assertEquals(await together, alone);
    assertEquals(Math.max(...batches.slice(before)), 3);
    const error = await assertRejects(() => ask("haiku"), OpenAI.BadRequestError);
    assertStringIncludes(error.message, "ada/haiku, bob/haiku");
  });
});

Deno.test("a core in the request answers as the same core by name, and leaves nothing behind", () =>
  withEngine({}, async ({ client, registry, factors }) => {
    const core = someCore(factors, 3);
    registry.add("ada/haiku", { core, source: "test" });
    const body = { ...ENDLESS, max_tokens: 20, temperature: 0 };
    const adapter = { cores: writeCore(core).toBase64() };
    const named = await client.completions.create({ ...body, model: "ada/haiku" });
    const inline = await client.completions.create({ ...body, adapter } as typeof body);
    const base = await client.completions.create(body);
    assertEquals(inline.choices[0]?.text, named.choices[0]?.text);
    assertNotEquals(base.choices[0]?.text, named.choices[0]?.text);
    assertEquals(registry.list().length, 1);
    const broken = { ...body, adapter: { cores: btoa("no core") } } as typeof body;
    const error = await assertRejects(
      () => client.completions.create(broken),
      OpenAI.BadRequestError,
    );
    assertEquals(error.param, "adapter.cores");
  }));

Deno.test("adapters are loaded below the directory, replaced by a new version, and unloaded", async () => {
  const directory = await Deno.makeTempDir();
  try {
    await withEngine({ directory }, async ({ client, factors, url }) => {
      const post = (path: string, body: unknown) =>
        fetch(`${url}${path}`, {
          method: "POST",
          headers: { "content-type": "application/json" },
          body: JSON.stringify(body),
        });
      for (const seed of [1, 2]) {
        await Deno.writeFile(
          `${directory}/c${seed}.safetensors`,
          writeCore(someCore(factors, seed)),
        );
      }
      const load = { lora_name: "ada/x", lora_path: "c1.safetensors" };
      const first = await post("/v1/load_lora_adapter", load);
      assertEquals(await first.text(), "Success: LoRA adapter 'ada/x' added successfully.");
      const again = { ...load, lora_path: "c2.safetensors" };
      const taken = await post("/v1/load_lora_adapter", again);
      assertEquals(taken.status, 400);
      await taken.body?.cancel();
      await (await post("/v1/load_lora_adapter", { ...again, load_inplace: true })).text();
      const ids = await Array.fromAsync(client.models.list(), ({ id }) => id);
      assertEquals(ids, ["tiny", "ada/x@1", "ada/x"]);
      const ask = async (model: string) => {
        const body = { ...ENDLESS, max_tokens: 20, temperature: 0, model };
        return (await client.completions.create(body)).choices[0]?.text;
      };
      assertEquals(await ask("ada/x"), await ask("ada/x@2"));
      assertNotEquals(await ask("ada/x@1"), await ask("ada/x@2"));
      const outside = await post("/v1/load_lora_adapter", {
        ...load,
        lora_path: "../x",
        lora_name: "y",
      });
      assertEquals(outside.status, 404);
      await outside.body?.cancel();
      await (await post("/v1/unload_lora_adapter", { lora_name: "ada/x" })).text();
      await assertRejects(() => ask("ada/x"), OpenAI.NotFoundError);
    });
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test("an adapter whose lane is larger than lane memory is a 400 with both sizes, streamed too", () =>
  withEngine({ laneMemory: 1000 }, async ({ client, registry, factors }) => {
    const wide = randomFactors({ stack: registry.stack, rank: 4, seed: 5 });
    registry.factors.add(wide);
    registry.add("acme/wide", { core: someCore(wide, 1), source: "test" });
    registry.add("acme/first", { core: someCore(factors, 1), source: "test" });
    for (const stream of [false, true]) {
      const error = await assertRejects(
        () => client.chat.completions.create({ ...HELLO, model: "acme/wide", stream }),
        OpenAI.APIError,
      );
      assertEquals([error.status, error.param, error.code], [400, "model", "invalid_adapter"]);
      assertStringIncludes(error.message, "takes 1048576 bytes, lane memory is 1000");
      assertStringIncludes(error.message, "--lane-memory");
    }
    await client.chat.completions.create({ ...HELLO, model: "acme/first" });
  }));

Deno.test("response_format json_schema gives text of that schema; a schema that cannot be is 400", () =>
  withEngine({}, async ({ client }) => {
    const ask = (schema: Record<string, unknown>) =>
      client.chat.completions.create({
        ...HELLO,
        seed: 1,
        max_tokens: 60,
        response_format: { type: "json_schema", json_schema: { name: "x", schema, strict: true } },
      });
    const { choices } = await ask({ enum: ["lembas", "bread"] });
    assertEquals(choices[0]?.finish_reason, "stop");
    assert(["lembas", "bread"].includes(JSON.parse(choices[0]?.message.content ?? "")));
    const wrong: [Record<string, unknown>, string][] = [
      [{ type: "nonsense" }, "#/type is"],
      [{ $ref: "#/$defs/100%" }, "#/$ref is"],
      [{ properties: { a: { constructor: 1 } } }, "#/properties/a/constructor is a keyword"],
      [{ properties: { a: { type: "string", pattern: "(" } } }, "#/properties/a/pattern"],
    ];
    for (const [schema, message] of wrong) {
      const error = await assertRejects(() => ask(schema), OpenAI.BadRequestError, message);
      assertEquals(error.param, "response_format.json_schema.schema");
    }
  }));

Deno.test("a client that leaves frees its row within a step", () =>
  withEngine(slow, async ({ client, engine }) => {
    const stream = await client.completions.create({ ...ENDLESS, stream: true });
    for await (const _ of stream) break;
    stream.controller.abort();
    await until(() => engine.stats().running === 0);
    assertEquals(engine.stats().finished.abort, 1);
    const leave = new AbortController();
    const answer = client.completions.create(ENDLESS, { signal: leave.signal });
    const left = assertRejects(() => answer, OpenAI.APIUserAbortError);
    await until(() => engine.stats().running === 1);
    leave.abort();
    await left;
    await until(() => engine.stats().running === 0);
    assertEquals(engine.stats().finished.abort, 2);
  }));

Deno.test("a full queue is a rate limit error with Retry-After", () =>
  withEngine({ maxBatch: 1, maxQueue: 1, ...slow }, async ({ client, engine }) => {
    const running = client.completions.create(ENDLESS);
    await until(() => engine.stats().running === 1);
    const waiting = client.completions.create({ ...PROMPT, max_tokens: 1 });
    await until(() => engine.stats().waiting === 1);
    const error = await assertRejects(
      () => client.completions.create(PROMPT),
      OpenAI.RateLimitError,
    );
    assert(Number(error.headers?.get("retry-after")) >= 1);
    await Promise.all([running, waiting]);
  }));

Deno.test("health and models answer while the model runs", () =>
  withEngine(slow, async ({ client, engine, batches, url }) => {
    const running = Promise.all(
      Array.from({ length: 4 }, () => client.completions.create(ENDLESS)),
    );
    await until(() => engine.stats().running === 4);
    const runs = batches.length;
    const health = await fetch(`${url}/health`);
    assertEquals(health.status, 200);
    await health.body?.cancel();
    const metrics = await (await fetch(`${url}/metrics`)).text();
    assert(/vllm:num_requests_running\{[^}]*\} 4/.test(metrics), metrics);
    assert(batches.length < runs + 100, "they answered between steps, not after them");
    await running;
  }));

Deno.test("the text of many random streams is what each would be alone", () =>
  withEngine({ maxBatch: 4 }, async ({ client, engine }) => {
    const ask = async (seed: number, stream: boolean) => {
      const body = { ...PROMPT, prompt: "ab".repeat(1 + seed % 7), seed, max_tokens: 15 };
      if (!stream) return (await client.completions.create(body)).choices[0]?.text;
      let text = "";
      for await (const chunk of await client.completions.create({ ...body, stream: true })) {
        text += chunk.choices[0]?.text ?? "";
      }
      return text;
    };
    const seeds = Array.from({ length: 24 }, (_, seed) => seed);
    const together = await Promise.all(seeds.map((seed) => ask(seed, seed % 2 === 0)));
    for (const seed of seeds.slice(0, 6)) assertEquals(await ask(seed, false), together[seed]);
    assertEquals(engine.stats().running, 0);
  }));
