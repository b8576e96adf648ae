// deno-lint-ignore-file camelcase -- names of the wire format
/** The openai client against a listening server on the real engine, with a model without weights. */
import { assert, assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import OpenAI from "openai";
import { createApp } from "../../server/app.ts";
import { listen } from "../../server/serve.ts";
import { type EngineContext, engineContext, type EngineContextOptions } from "./engine_context.ts";

interface Served {
  readonly client: OpenAI;
  readonly context: EngineContext;
  readonly url: string;
}

async function withEngine(
  options: EngineContextOptions,
  body: (served: Served) => Promise<void>,
): Promise<void> {
  const context = engineContext(options);
  const app = createApp(context);
  const server = listen({ host: "127.0.0.1", port: 0, fetch: app.fetch }, context.lifecycle);
  const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "any", maxRetries: 0 });
  try {
    await body({ client, context, url: server.url });
    context.engine.checkIntegrity();
  } finally {
    await server.stop(5, () => context.engine.close());
    await context.engine.close();
  }
}

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

Deno.test("two tenants' adapters and the base share a batch, each with its own text", () =>
  withEngine({}, async ({ client, context }) => {
    for (const name of ["ada/haiku", "bob/haiku"]) context.adapters.add(name);
    const models = ["tiny", "ada/haiku", "bob/haiku"];
    const ask = async (model: string) => {
      const body = { ...ENDLESS, max_tokens: 20, temperature: 0, model };
      return (await client.completions.create(body)).choices[0]?.text;
    };
    const alone = [];
    for (const model of models) alone.push(await ask(model));
    assertEquals(new Set(alone).size, 3);
    const before = context.batches.length;
    assertEquals(await Promise.all(models.map(ask)), alone);
    assertEquals(Math.max(...context.batches.slice(before)), 3);
  }));

Deno.test("a client that leaves frees its row within a step", () =>
  withEngine({ runMilliseconds: 1 }, async ({ client, context }) => {
    const stream = await client.completions.create({ ...ENDLESS, stream: true });
    for await (const _ of stream) break;
    stream.controller.abort();
    await until(() => context.engine.stats().running === 0);
    assertEquals(context.engine.stats().finished.abort, 1);
    const leave = new AbortController();
    const answer = client.completions.create(ENDLESS, { signal: leave.signal });
    const left = assertRejects(() => answer, OpenAI.APIUserAbortError);
    await until(() => context.engine.stats().running === 1);
    leave.abort();
    await left;
    await until(() => context.engine.stats().running === 0);
    assertEquals(context.engine.stats().finished.abort, 2);
  }));

Deno.test("a full queue is a rate limit error with Retry-After", () =>
  withEngine({ maxBatch: 1, maxQueue: 1, runMilliseconds: 2 }, async ({ client, context }) => {
    const running = client.completions.create(ENDLESS);
    await until(() => context.engine.stats().running === 1);
    const waiting = client.completions.create({ ...PROMPT, max_tokens: 1 });
    await until(() => context.engine.stats().waiting === 1);
    const error = await assertRejects(
      () => client.completions.create(PROMPT),
      OpenAI.RateLimitError,
    );
    assert(Number(error.headers?.get("retry-after")) >= 1);
    await Promise.all([running, waiting]);
  }));

Deno.test("health and models answer while the model runs", () =>
  withEngine({ runMilliseconds: 1 }, async ({ client, context, url }) => {
    const running = Promise.all(
      Array.from({ length: 4 }, () => client.completions.create(ENDLESS)),
    );
    await until(() => context.engine.stats().running === 4);
    const runs = context.batches.length;
    const health = await fetch(`${url}/health`);
    assertEquals(health.status, 200);
    await health.body?.cancel();
    const metrics = await (await fetch(`${url}/metrics`)).text();
    assert(/vllm:num_requests_running\{[^}]*\} 4/.test(metrics), metrics);
    assert(context.batches.length < runs + 100, "they answered between steps, not after them");
    await running;
  }));

Deno.test("the text of many random streams is what each would be alone", () =>
  withEngine({ maxBatch: 4 }, async ({ client, context }) => {
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
    assertEquals(context.engine.stats().running, 0);
  }));
