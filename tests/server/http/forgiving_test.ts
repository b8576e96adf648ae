// deno-lint-ignore-file camelcase -- names of the wire format
/** What clients send that asks for nothing, and how they spell paths and models; by `app.request()`. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import OpenAI from "openai";
import { createApp } from "../../../server/http/app.ts";
import { chatCompletionSchema } from "../../../server/http/schema/chat.ts";
import { errorOf, HELLO, type Json, post } from "../asked.ts";
import { type FakeContext, fakeContext } from "../fake_context.ts";

const CHAT = "/v1/chat/completions";
const TEXT = "/v1/completions";

const NEUTRAL: Json = {
  use_beam_search: false,
  length_penalty: 1,
  logits_processors: null,
  best_of: 1,
  n: null,
  stop: null,
  stream_options: null,
  service_tier: "auto",
  documents: [],
  chat_template: null,
  include_reasoning: true,
  kv_transfer_params: null,
};

/** An openai client whose requests go to the application itself. */
function clientOf(context: FakeContext): OpenAI {
  const app = createApp(context);
  const fetch = (input: string | URL | Request, init?: RequestInit) =>
    Promise.resolve(app.request(String(input), init));
  return new OpenAI({ baseURL: "http://localhost/v1", apiKey: "any", maxRetries: 0, fetch });
}

Deno.test("arguments at the value that asks for nothing are taken, others of them refused", async () => {
  const context = fakeContext();
  const chat = { ...HELLO, ...NEUTRAL, tool_choice: "none", tools: null, audio: null };
  assertEquals((await post(context, CHAT, chat)).status, 200);
  const prompt = { model: "tiny", prompt: "a", ...NEUTRAL, suffix: null };
  const taken = await post(context, TEXT, prompt);
  assertEquals([taken.status, taken.headers.get("lembas-ignored")], [200, null]);
  const streamed = { ...HELLO, stream: true, stream_options: { include_obfuscation: false } };
  assertEquals((await post(context, CHAT, streamed)).status, 200);
  const quiet = await post(context, CHAT, { ...HELLO, include_reasoning: false });
  assertEquals(quiet.status, 200);
  for (const more of [{ use_beam_search: true }, { length_penalty: 2 }, { chat_template: "x" }]) {
    const { status, param } = await errorOf(await post(context, TEXT, { ...prompt, ...more }));
    assertEquals([status, param], [400, Object.keys(more)[0]]);
  }
});

Deno.test("a verbosity but medium is named as left out, with what else is; strict refuses it", async () => {
  const context = fakeContext();
  const app = createApp(context);
  const ask = async (path: string, more: Json) => {
    const body = path === CHAT ? HELLO : { model: "tiny", input: "a" };
    const response = await app.request(path, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ ...body, ...more }),
    });
    assertEquals(response.status, 200);
    await response.text();
    return response.headers.get("lembas-ignored");
  };
  const responses = "/v1/responses";
  for (const verbosity of ["low", "high"]) {
    assertEquals(await ask(CHAT, { verbosity }), "verbosity");
    assertEquals(await ask(CHAT, { verbosity, odd: 1, stream: true }), "odd, verbosity");
    assertEquals(await ask(responses, { text: { verbosity } }), "text.verbosity");
    assertEquals(await ask(`${responses}/input_tokens`, { text: { verbosity } }), "text.verbosity");
  }
  assertEquals(await ask(CHAT, { verbosity: "medium" }), null);
  assertEquals(await ask(responses, { text: { verbosity: null } }), null);
  assertEquals(context.lines.filter((line) => line.includes("argument=verbosity")).length, 1);
  const strict = fakeContext({ strict: true });
  for (
    const [path, more, named] of [
      [CHAT, { ...HELLO, verbosity: "low" }, "verbosity"],
      [responses, { input: "a", text: { verbosity: "high" } }, "text.verbosity"],
    ] as const
  ) {
    const { status, param, code } = await errorOf(await post(strict, path, more));
    assertEquals([status, param, code], [400, named, "unsupported_parameter"]);
  }
});

Deno.test("an answer's message goes back as the client has it", async () => {
  const context = fakeContext();
  const client = clientOf(context);
  const messages: OpenAI.ChatCompletionMessageParam[] = [{ role: "user", content: "hi" }];
  const first = await client.chat.completions.create({ model: "tiny", messages });
  const [choice] = first.choices;
  assert(choice);
  // what model_dump() of openai-python makes of it, and what other servers and gateways add
  const dumped = {
    ...choice.message,
    ...{ annotations: null, audio: null, function_call: null, tool_calls: null, refusal: null },
    ...{ reasoning_content: null, provider_specific_fields: {} },
  };
  const cached = [{ type: "text", text: "again", cache_control: { type: "ephemeral" } }];
  messages.push(dumped as never, { role: "user", content: cached as never });
  const second = await client.chat.completions.create({ model: "tiny", messages });
  assertEquals(second.choices[0]?.message.content, "Hello, world");
  const text = String.fromCharCode(...context.engine.requests[1]?.prompt ?? []);
  assertStringIncludes(text, "<assistant>Hello, world</assistant><user>again</user>");
});

Deno.test("unknown arguments are named in a header and once in the log; strict refuses them", async () => {
  const context = fakeContext();
  const app = createApp(context);
  const ask = (body: Json) =>
    app.request(CHAT, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
    });
  for (const stream of [false, true]) {
    const answer = await ask({ ...HELLO, stream, temprature: 1, "new\nline é": 2 });
    await answer.text();
    assertEquals(answer.status, 200);
    assertEquals(answer.headers.get("lembas-ignored"), "temprature, new%0Aline%20%C3%A9");
  }
  assertEquals(context.lines.filter((line) => line.includes("argument=temprature")).length, 1);
  assert(context.lines.every((line) => !line.includes("\n")));
  const strict = await post(fakeContext({ strict: true }), CHAT, { ...HELLO, temprature: 1 });
  const { status, param, code } = await errorOf(strict);
  assertEquals([status, param, code], [400, "temprature", "unknown_parameter"]);
  assertEquals((await post(fakeContext({ strict: true }), CHAT, HELLO)).status, 200);
});

Deno.test("the base answers under all of its names, and where a request names no model", async () => {
  const plain = fakeContext();
  const context = {
    ...plain,
    model: { ...plain.model, served: ["gpt-4o", "small"], aliases: ["acme/Tiny-1B"] },
  };
  const { messages } = HELLO;
  for (const [model, said] of [[undefined, "gpt-4o"], ["small", "small"], ["tiny", "tiny"]]) {
    const answer = await post(context, CHAT, { messages, model });
    assertEquals(chatCompletionSchema.parse(await answer.json()).model, said);
  }
  const hub = { model: "acme/Tiny-1B", prompt: "a" };
  assertEquals((await post(context, TEXT, hub)).status, 200);
  assertEquals((await post(context, TEXT, { ...hub, model: "acme/tiny-1b" })).status, 200);
  assertEquals((await post(context, TEXT, { ...hub, model: "acme/TINY-1B" })).status, 404);
  assertEquals((await post(context, "/tokenize", hub)).status, 200);
  assertEquals((await post(context, TEXT, { prompt: "a" })).status, 200);
  assertEquals((await post(context, TEXT, { model: "other", prompt: "a" })).status, 404);
  const app = createApp(context);
  const { data } = await (await app.request("/v1/models")).json();
  assertEquals(data.map(({ id }: { id: string }) => id), ["gpt-4o", "small"]);
  assertEquals((await (await app.request("/v1/models/small")).json()).id, "small");
});

Deno.test("a path is the same with a slash behind it, and without /v1 where vLLM has it so", async () => {
  const context = fakeContext();
  const app = createApp(context);
  for (const path of ["/chat/completions", "/v1/chat/completions/", "/chat/completions/"]) {
    assertEquals((await post(context, path, HELLO)).status, 200, path);
  }
  assertEquals((await post(context, "/completions", { prompt: "a" })).status, 200);
  for (const path of ["/models", "/v1/models/", "/models/tiny/", "/health/", "/version/"]) {
    assertEquals((await app.request(path)).status, 200, path);
  }
  assertEquals((await app.request("/fine_tuning/jobs")).status, 404);
  const keyed = createApp(fakeContext({ apiKey: "s3cret" }));
  for (const path of ["/models", "/v1/models/", "/metrics/"]) {
    assertEquals((await keyed.request(path)).status, 401, path);
  }
});

Deno.test("SageMaker's and vLLM's paths of a server answer", async () => {
  const context = fakeContext();
  const app = createApp(context);
  for (const method of ["GET", "POST"]) {
    assertEquals((await app.request("/ping", { method })).status, 200);
  }
  const chat = await post(context, "/invocations", { messages: HELLO.messages, odd: 1 });
  assertEquals(chat.headers.get("lembas-ignored"), "odd");
  assertEquals((await chat.json()).object, "chat.completion");
  const text = await post(context, "/invocations", { prompt: "a", stream: true });
  assertStringIncludes(await text.text(), '"object":"text_completion"');
  const neither = await errorOf(await post(context, "/invocations", { input: "a" }));
  assertEquals([neither.status, neither.code], [400, "missing_required_parameter"]);
  const wrong = await errorOf(await post(context, "/invocations", { prompt: 5 }));
  assertEquals([wrong.status, wrong.param], [400, "prompt"]);
  assertEquals(await (await app.request("/load")).json(), { server_load: 0 });
  const info = await (await app.request("/server_info")).json();
  assertEquals([info.served_model_name, info.max_model_len], [["tiny"], 200]);
});

Deno.test("a seed may have 64 bits", async () => {
  const context = fakeContext();
  for (const seed of ["9223372036854775807", "-9223372036854775808", "18446744073709551"]) {
    const body = `{"prompt":"a","seed":${seed}}`;
    assertEquals((await post(context, TEXT, body)).status, 200, seed);
  }
  assertEquals(context.engine.requests.map(({ sampling }) => sampling.seed), [
    2 ** 63,
    -(2 ** 63),
    18446744073709552,
  ]);
  for (const seed of [1.5, 1e20, "1"]) {
    assertEquals((await errorOf(await post(context, TEXT, { prompt: "a", seed }))).param, "seed");
  }
});
