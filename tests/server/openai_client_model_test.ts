// deno-lint-ignore-file camelcase -- names of the wire format
/** The openai client against a listening server on the default model and two trained cores. */
import {
  assert,
  assertAlmostEquals,
  assertEquals,
  assertNotEquals,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import OpenAI from "openai";
import { Lembas } from "../../adapters/lembas.ts";
import { createApp } from "../../server/http/app.ts";
import { createLog } from "../../server/telemetry/log.ts";
import { createMetrics } from "../../server/telemetry/metrics.ts";
import { toContext } from "../../server/loaded.ts";
import { listen } from "../../server/serve.ts";

const ADAPTERS = new URL("../fixtures/adapters", import.meta.url).pathname;
const MODEL = "SmolLM2-135M-Instruct";

interface Served {
  readonly client: OpenAI;
  readonly lembas: Lembas;
  readonly url: string;
}

async function withModel(body: (served: Served) => Promise<void>): Promise<void> {
  const metrics = createMetrics();
  await using lembas = await Lembas.load({
    adapters: ADAPTERS,
    maxBatch: 4,
    maxContext: 256,
    kvMemory: 2 ** 28,
    listener: metrics.listener,
  });
  metrics.attach({ model: MODEL, stats: () => lembas.engine.stats() });
  const context = await toContext(lembas, {
    metrics,
    log: createLog("silent"),
    options: { apiKey: undefined, maxBody: 1 << 20, version: "0.0.0" },
  });
  const { fetch } = createApp(context);
  const server = await listen({ host: "127.0.0.1", port: 0, fetch }, context.lifecycle);
  const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "any", maxRetries: 0 });
  try {
    await body({ client, lembas, url: server.url });
    lembas.engine.checkIntegrity();
  } finally {
    await server.stop(10, () => lembas.engine.close());
  }
}

function until(condition: () => boolean): Promise<void> {
  return new Promise((resolve) => {
    const look = () => condition() ? resolve() : setTimeout(look, 2);
    look();
  });
}

function ask(text: string) {
  return { model: MODEL, messages: [{ role: "user" as const, content: text }], max_tokens: 24 };
}

const CAPITAL = { ...ask("What is the capital of France?"), temperature: 0 };
const LONG = { ...CAPITAL, max_tokens: 150, ignore_eos: true } as typeof CAPITAL;

/** Whole, streamed, sampled: what one request says. */
async function checkText({ client }: Served): Promise<void> {
  const { completions } = client.chat;
  const whole = await completions.create(CAPITAL);
  const text = whole.choices[0]?.message.content ?? "";
  assert(text.length > 0);
  let streamed = "";
  for await (const chunk of await completions.create({ ...CAPITAL, stream: true })) {
    streamed += chunk.choices[0]?.delta.content ?? "";
  }
  assertEquals(streamed, text);
  const stop = text.slice(8, 12);
  const cut = await completions.create({ ...CAPITAL, stop });
  assertEquals(cut.choices[0]?.message.content, text.slice(0, text.indexOf(stop)));
  const sampled = { ...ask("Name a colour."), n: 3, seed: 7, temperature: 1, top_p: 1 };
  const [first, again] = [await completions.create(sampled), await completions.create(sampled)];
  const texts = (answer: typeof first) => answer.choices.map(({ message }) => message.content);
  assertEquals(texts(first), texts(again));
  assertEquals(new Set(texts(first)).size, 3);
}

async function checkLogprobs({ client }: Served): Promise<void> {
  const body = { ...CAPITAL, logprobs: true, top_logprobs: 20, max_tokens: 4 };
  const { choices } = await client.chat.completions.create(body);
  for (const { token, logprob, top_logprobs } of choices[0]?.logprobs?.content ?? []) {
    assertEquals(top_logprobs.length, 20);
    assertEquals(top_logprobs[0]?.token, token);
    assertAlmostEquals(top_logprobs[0]?.logprob ?? NaN, logprob, 1e-5);
    const mass = top_logprobs.reduce((sum, other) => sum + Math.exp(other.logprob), 0);
    assert(mass > 0 && mass <= 1 + 1e-4, `20 tokens hold ${mass}`);
  }
}

async function checkJson({ client }: Served): Promise<void> {
  const schema = {
    type: "object",
    properties: { city: { type: "string" }, people: { type: "integer" } },
    required: ["city", "people"],
    additionalProperties: false,
  };
  const { choices } = await client.chat.completions.create({
    ...ask("Paris as JSON."),
    temperature: 0,
    max_tokens: 100,
    response_format: { type: "json_schema", json_schema: { name: "city", schema, strict: true } },
  });
  const value = JSON.parse(choices[0]?.message.content ?? "");
  assertEquals(Object.keys(value).toSorted(), ["city", "people"]);
  assertEquals(typeof value.people, "number");
}

async function checkAdapters({ client, lembas }: Served): Promise<void> {
  const ids = await Array.fromAsync(client.models.list(), ({ id }) => id);
  assertEquals(ids, [MODEL, "order", "shelf"]);
  const say = async (model: string) =>
    (await client.chat.completions.create({ ...CAPITAL, model })).choices[0]?.message.content;
  const models = [MODEL, "order", "default/shelf"];
  const alone = [];
  for (const model of models) alone.push(await say(model));
  assertEquals(new Set(alone).size, 3);
  const decodes = lembas.engine.stats().decodeRuns;
  assertEquals(await Promise.all(models.map(say)), alone);
  const runs = lembas.engine.stats().decodeRuns - decodes;
  assert(runs < 3 * 24, `${runs} decode runs for three answers of 24 tokens`);
}

async function checkErrors({ client }: Served): Promise<void> {
  const { completions } = client.chat;
  const missing = { ...CAPITAL, model: "nobody/nothing" };
  const error = await assertRejects(() => completions.create(missing), OpenAI.NotFoundError);
  assertEquals(error.code, "model_not_found");
  const long = { ...ask("word ".repeat(400)) };
  const tooLong = await assertRejects(() => completions.create(long), OpenAI.BadRequestError);
  assertEquals(tooLong.code, "context_length_exceeded");
  assertStringIncludes(tooLong.message, "maximum context length is 256 tokens");
}

async function checkLeaving({ client, lembas, url }: Served): Promise<void> {
  const before = lembas.engine.stats().finished.abort;
  const stream = await client.chat.completions.create({ ...LONG, stream: true });
  for await (const _ of stream) break;
  stream.controller.abort();
  await until(() => lembas.engine.stats().finished.abort === before + 1);
  const others = Promise.all(
    [1, 2, 3].map((seed) => client.chat.completions.create({ ...LONG, seed })),
  );
  await until(() => lembas.engine.stats().running === 3);
  const health = await fetch(`${url}/health`);
  assertEquals(health.status, 200);
  await health.body?.cancel();
  assertNotEquals(lembas.engine.stats().running, 0);
  for (const { usage } of await others) assertEquals(usage?.completion_tokens, 150);
  assertEquals(lembas.engine.stats().running, 0);
}

Deno.test("the openai client works against the real model", async (t) => {
  await withModel(async (served) => {
    await t.step("text: whole, streamed, stopped, sampled", () => checkText(served));
    await t.step("log probabilities", () => checkLogprobs(served));
    await t.step("JSON by schema", () => checkJson(served));
    await t.step("two adapters and the base in one batch", () => checkAdapters(served));
    await t.step("errors", () => checkErrors(served));
    await t.step("leaving cancels, and health answers under load", () => checkLeaving(served));
  });
});
