/** The openai client against a listening server whose engine is the fake one. */
import { assertEquals, assertRejects } from "@std/assert";
import OpenAI from "openai";
import { createApp } from "../../server/http/app.ts";
import { listen, type RunningServer } from "../../server/serve.ts";
import { OverloadedError } from "../../src/util/errors.ts";
import { type FakeContext, fakeContext } from "./fake_context.ts";

const HELLO = { model: "tiny", messages: [{ role: "user" as const, content: "hi" }] };

/** Runs `body` with a client of a server on a free port. */
async function withServer(
  body: (client: OpenAI, context: FakeContext, server: RunningServer) => Promise<void>,
): Promise<void> {
  const context = fakeContext({ apiKey: "key" });
  const app = createApp(context);
  const server = await listen({ host: "127.0.0.1", port: 0, fetch: app.fetch }, context.lifecycle);
  const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "key", maxRetries: 0 });
  try {
    await body(client, context, server);
  } finally {
    await server.stop(5, () => Promise.resolve());
  }
}

function until(condition: () => boolean): Promise<void> {
  return new Promise((resolve) => {
    const look = () => condition() ? resolve() : setTimeout(look, 2);
    look();
  });
}

Deno.test("the openai client chats, streams, counts and lists models", () =>
  withServer(async (client, context) => {
    const whole = await client.chat.completions.create({ ...HELLO, n: 2 });
    assertEquals(
      whole.choices.map(({ message }) => message.content),
      Array(2).fill("Hello, world"),
    );
    const stream = await client.chat.completions.create({
      ...HELLO,
      stream: true,
      stream_options: { include_usage: true },
    });
    let text = "";
    let tokens = 0;
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta.content ?? "";
      tokens = chunk.usage?.completion_tokens ?? tokens;
    }
    assertEquals([text, tokens], ["Hello, world", 12]);
    context.adapters.add("ada/haiku");
    const ids: string[] = [];
    for await (const model of client.models.list()) ids.push(model.id);
    assertEquals(ids, ["tiny", "ada/haiku"]);
    assertEquals((await client.models.retrieve("ada/haiku")).id, "ada/haiku");
  }));

Deno.test("the openai client's stream helper assembles the whole completion", () =>
  withServer(async (client) => {
    const runner = client.chat.completions.stream({ ...HELLO, logprobs: true, top_logprobs: 1 });
    const final = await runner.finalChatCompletion();
    assertEquals(final.choices[0]?.message.content, "Hello, world");
    assertEquals(final.choices[0]?.logprobs?.content?.length, 12);
    assertEquals(final.choices[0]?.finish_reason, "stop");
  }));

Deno.test("the openai client's errors have the right classes", () =>
  withServer(async (client, context, server) => {
    const { completions } = client.chat;
    const missing = await assertRejects(
      () => completions.create({ ...HELLO, model: "no" }),
      OpenAI.NotFoundError,
    );
    assertEquals(missing.code, "model_not_found");
    const bad = await assertRejects(
      () => completions.create({ ...HELLO, temperature: 5 }),
      OpenAI.BadRequestError,
    );
    assertEquals(bad.param, "temperature");
    const stranger = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "no", maxRetries: 0 });
    await assertRejects(() => stranger.models.list(), OpenAI.AuthenticationError);
    context.engine.refusal = new OverloadedError("full", 1);
    await assertRejects(() => completions.create(HELLO), OpenAI.RateLimitError);
    context.engine.refusal = new Error("broken");
    await assertRejects(() => completions.create(HELLO), OpenAI.InternalServerError);
    context.engine.refusal = undefined;
    context.engine.failure = { step: 2, error: new Error("broken later") };
    const stream = await completions.create({ ...HELLO, stream: true });
    await assertRejects(async () => await Array.fromAsync(stream), OpenAI.APIError);
  }));

Deno.test("a client that leaves in mid-stream cancels its generation", () =>
  withServer(async (client, context) => {
    context.engine.reply = () => "x".repeat(100_000);
    context.engine.pace = () => new Promise((resolve) => setTimeout(resolve, 1));
    const stream = await client.chat.completions.create({ ...HELLO, stream: true });
    for await (const _ of stream) break;
    stream.controller.abort();
    await until(() => context.engine.running === 0);
    assertEquals(context.engine.aborted, 1);
    await until(() => context.lifecycle.active === 0);
  }));

Deno.test("a client that leaves before its answer cancels its generation", () =>
  withServer(async (client, context) => {
    context.engine.reply = () => "x".repeat(100_000);
    context.engine.pace = () => new Promise((resolve) => setTimeout(resolve, 1));
    const leave = new AbortController();
    const answer = client.chat.completions.create(HELLO, { signal: leave.signal });
    const left = assertRejects(() => answer, OpenAI.APIUserAbortError);
    await until(() => context.engine.running === 1);
    leave.abort();
    await left;
    await until(() => context.engine.running === 0);
    assertEquals(context.engine.aborted, 1);
  }));

Deno.test("a client that leaves before its stream begins holds nothing afterwards", () =>
  withServer(async (client, context) => {
    const gate = Promise.withResolvers<void>();
    context.engine.pace = () => gate.promise;
    const leave = new AbortController();
    const body = { ...HELLO, stream: true, adapter: { cores: btoa("core bytes") } } as const;
    const answer = client.chat.completions.create(body, { signal: leave.signal });
    const left = assertRejects(() => answer, OpenAI.APIUserAbortError);
    await until(() => context.engine.running === 1);
    leave.abort();
    await left;
    await until(() => context.engine.aborted === 1);
    gate.resolve();
    await until(() => context.engine.running === 0 && context.lifecycle.active === 0);
    assertEquals(context.adapters.held, 0);
  }));

Deno.test("an event stream is not compressed, which would hold its events back", () =>
  withServer(async (_client, _context, server) => {
    const response = await fetch(`${server.url}/v1/completions`, {
      method: "POST",
      headers: {
        "content-type": "application/json",
        "accept-encoding": "gzip, br",
        authorization: "Bearer key",
      },
      body: JSON.stringify({ model: "tiny", prompt: "x", stream: true }),
    });
    assertEquals(response.headers.get("content-encoding"), null);
    assertEquals((await response.text()).endsWith("data: [DONE]\n\n"), true);
  }));
