// deno-lint-ignore-file camelcase -- names of the wire format
/** The application's routes by `app.request()`: shapes, errors, keys, draining, logs; no socket, no weights. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { createApp } from "../../server/app.ts";
import { ContextLengthError, OverloadedError } from "../../src/engine/request.ts";
import { chatChunkSchema, chatCompletionSchema } from "../../server/schema/chat.ts";
import { completionChunkSchema, completionSchema } from "../../server/schema/completions.ts";
import { errorSchema } from "../../server/schema/common.ts";
import { modelListSchema } from "../../server/schema/admin.ts";
import { type FakeContext, fakeContext } from "./fake_context.ts";

type Json = Record<string, unknown>;

const HELLO = { model: "tiny", messages: [{ role: "user", content: "hi" }] };

function post(context: FakeContext, path: string, body: unknown, headers: HeadersInit = {}) {
  return createApp(context).request(path, {
    method: "POST",
    body: typeof body === "string" ? body : JSON.stringify(body),
    headers: { "content-type": "application/json", ...Object.fromEntries(new Headers(headers)) },
  });
}

async function errorOf(response: Response) {
  const body = errorSchema.parse(await response.json());
  return { status: response.status, ...body.error };
}

async function events(response: Response): Promise<Json[]> {
  assertEquals(response.headers.get("content-type"), "text/event-stream; charset=utf-8");
  const blocks = (await response.text()).split("\n\n");
  assertEquals(blocks.pop(), "");
  assertEquals(blocks.pop(), "data: [DONE]");
  return blocks.map((block) => JSON.parse(block.replace(/^data: /, "")));
}

Deno.test("a chat completion has OpenAI's shape and adds up its usage", async () => {
  const context = fakeContext();
  const response = await post(context, "/v1/chat/completions", HELLO);
  assertEquals(response.status, 200);
  const body = chatCompletionSchema.parse(await response.json());
  assertEquals(body.choices[0]?.message.content, "Hello, world");
  assertEquals(body.choices[0]?.finish_reason, "stop");
  const prompt = "<user>hi</user><assistant>".length;
  assertEquals(body.usage.prompt_tokens, prompt);
  assertEquals(body.usage.completion_tokens, 12);
  assertEquals(body.usage.total_tokens, prompt + 12);
  assertMatch(body.id, /^chatcmpl-[0-9a-f]{32}$/);
});

Deno.test("a streamed chat says role, text, end, usage, in that order", async () => {
  const body = { ...HELLO, stream: true, stream_options: { include_usage: true } };
  const response = await post(fakeContext(), "/v1/chat/completions", body);
  const chunks = (await events(response)).map((chunk) => chatChunkSchema.parse(chunk));
  assertEquals(chunks[0]?.choices[0]?.delta.role, "assistant");
  assertEquals(
    chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join(""),
    "Hello, world",
  );
  assertEquals(chunks.at(-2)?.choices[0]?.finish_reason, "stop");
  assertEquals(chunks.at(-1)?.choices, []);
  assertEquals(chunks.at(-1)?.usage?.completion_tokens, 12);
  assertEquals(chunks[0]?.usage, null);
  assertEquals(new Set(chunks.map((chunk) => chunk.id)).size, 1);
});

Deno.test("continuous usage stats count up in every chunk", async () => {
  const stream_options = { include_usage: true, continuous_usage_stats: true };
  const body = { model: "tiny", prompt: "a", stream: true, stream_options };
  const chunks = (await events(await post(fakeContext(), "/v1/completions", body)))
    .map((chunk) => completionChunkSchema.parse(chunk));
  assertEquals(chunks.slice(0, 3).map((chunk) => chunk.usage?.completion_tokens), [1, 2, 3]);
});

Deno.test("n samples and several prompts are numbered prompt by prompt, streamed or not", async () => {
  const context = fakeContext();
  context.engine.reply = ({ prompt }) => `<${String.fromCharCode(...prompt)}>`;
  const body = { model: "tiny", prompt: ["x", "yy"], n: 2, max_tokens: 4 };
  const whole = completionSchema.parse(await (await post(context, "/v1/completions", body)).json());
  const texts = ["<x>", "<x>", "<yy>", "<yy>"];
  assertEquals(whole.choices.map((choice) => choice.text), texts);
  assertEquals(whole.choices.map((choice) => choice.index), [0, 1, 2, 3]);
  assertEquals(whole.usage.prompt_tokens, 3);
  const streamed = ["", "", "", ""];
  const response = await post(context, "/v1/completions", { ...body, stream: true });
  for (const chunk of await events(response)) {
    for (const choice of completionChunkSchema.parse(chunk).choices) {
      streamed[choice.index] += choice.text;
    }
  }
  assertEquals(streamed, texts);
});

Deno.test("completions take token ids, one list or several", async () => {
  const context = fakeContext();
  await post(context, "/v1/completions", { model: "tiny", prompt: [104, 105] });
  await post(context, "/v1/completions", { model: "tiny", prompt: [[1, 2], [3]] });
  assertEquals(context.engine.requests.map(({ prompt }) => prompt), [[104, 105], [1, 2], [3]]);
  assertEquals(context.engine.requests[0]?.sampling.maxTokens, 16);
});

Deno.test("echo puts the prompt before the text, also with max_tokens 0", async () => {
  const context = fakeContext();
  const body = { model: "tiny", prompt: "Say: ", echo: true, max_tokens: 5 };
  const parse = async (response: Response) => completionSchema.parse(await response.json());
  const whole = await parse(await post(context, "/v1/completions", body));
  assertEquals(whole.choices[0]?.text, "Say: Hello");
  assertEquals(whole.choices[0]?.finish_reason, "length");
  const none = await parse(await post(context, "/v1/completions", { ...body, max_tokens: 0 }));
  assertEquals(none.choices[0]?.text, "Say: ");
  assertEquals(none.usage.completion_tokens, 0);
  const chunks = await events(await post(context, "/v1/completions", { ...body, stream: true }));
  const text = chunks.flatMap((chunk) => completionChunkSchema.parse(chunk).choices)
    .map((choice) => choice.text).join("");
  assertEquals(text, "Say: Hello");
});

Deno.test("completion logprobs are parallel arrays with offsets in characters", async () => {
  const context = fakeContext();
  context.engine.reply = () => "aé";
  const body = { model: "tiny", prompt: "a", logprobs: 2 };
  const whole = completionSchema.parse(await (await post(context, "/v1/completions", body)).json());
  const logprobs = whole.choices[0]?.logprobs;
  assertEquals(logprobs?.tokens, ["a", "bytes:\\xc3", "bytes:\\xa9"]);
  assertEquals(logprobs?.text_offset, [0, 1, 2]);
  assertEquals(logprobs?.token_logprobs, [-0.5, -0.5, -0.5]);
  assertEquals(logprobs?.top_logprobs[0], { a: -0.5, b: -1.5 });
  const chunks = await events(await post(context, "/v1/completions", { ...body, stream: true }));
  const offsets = chunks.flatMap((chunk) =>
    completionChunkSchema.parse(chunk).choices[0]?.logprobs?.text_offset ?? []
  );
  assertEquals(offsets, [0, 1, 2]);
});

Deno.test("chat logprobs carry bytes and alternatives", async () => {
  const body = { ...HELLO, logprobs: true, top_logprobs: 2, max_tokens: 1 };
  const response = await post(fakeContext(), "/v1/chat/completions", body);
  const whole = chatCompletionSchema.parse(await response.json());
  assertEquals(whole.choices[0]?.logprobs?.content, [{
    token: "H",
    logprob: -0.5,
    bytes: [72],
    top_logprobs: [{ token: "H", logprob: -0.5, bytes: [72] }, {
      token: "I",
      logprob: -1.5,
      bytes: [73],
    }],
  }]);
});

Deno.test("sampling parameters reach the engine under its own names", async () => {
  const context = fakeContext();
  await post(context, "/v1/chat/completions", {
    ...HELLO,
    temperature: 0.5,
    top_p: 0.9,
    top_k: 7,
    min_p: 0.1,
    seed: -3,
    stop: "x",
    stop_token_ids: [5],
    logit_bias: { "65": -100 },
    presence_penalty: 1,
    frequency_penalty: -1,
    repetition_penalty: 1.5,
    max_completion_tokens: 9,
    max_tokens: 8,
    ignore_eos: true,
    skip_special_tokens: false,
    include_stop_str_in_output: true,
    priority: -2,
    min_tokens: 2,
  });
  const [request] = context.engine.requests;
  assertEquals(request?.priority, -2);
  assertEquals(request?.sampling, {
    temperature: 0.5,
    topP: 0.9,
    topK: 7,
    minP: 0.1,
    presencePenalty: 1,
    frequencyPenalty: -1,
    repetitionPenalty: 1.5,
    logitBias: new Map([[65, -100]]),
    seed: -3,
    maxTokens: 9,
    minTokens: 2,
    stop: ["x"],
    stopTokenIds: [5],
    includeStopInOutput: true,
    ignoreEos: true,
    skipSpecialTokens: false,
    logprobs: undefined,
    grammar: undefined,
  });
});

Deno.test("response formats become grammars", async () => {
  const context = fakeContext();
  const schema = { type: "object" };
  const formats = [
    { type: "text" },
    { type: "json_object" },
    { type: "json_schema", json_schema: { name: "x", schema, strict: true } },
  ];
  for (const response_format of formats) {
    await post(context, "/v1/chat/completions", { ...HELLO, response_format });
  }
  assertEquals(context.engine.requests.map(({ sampling }) => sampling.grammar), [
    undefined,
    { type: "json" },
    { type: "json_schema", schema, strict: true },
  ]);
});

Deno.test("what is asked for in vain is refused by name", async () => {
  const cases: readonly [Json, string, string, RegExp][] = [
    [
      { tools: [{ type: "function" }] },
      "tools",
      "unsupported_parameter",
      /'tools' is not supported/,
    ],
    [{ foo: 1 }, "foo", "unknown_parameter", /^Unrecognized request argument supplied: foo$/],
    [{ temperature: 3 }, "temperature", "number_above_max_value", /<= 2, but got 3/],
    [{ temperature: "1" }, "temperature", "invalid_type", /expected a number, but got a string/],
    [{ n: 1.5 }, "n", "invalid_type", /expected an integer/],
    [{ stop: [""] }, "stop[0]", "string_below_min_length", /too short/],
    [{ top_logprobs: 2 }, "top_logprobs", "invalid_value", /'logprobs' is true/],
    [{ stream_options: {} }, "stream_options", "invalid_value", /'stream' is true/],
    [{ logit_bias: { "9999": 1 } }, "logit_bias", "invalid_value", /vocabulary/],
    [{ logit_bias: { a: 1 } }, "logit_bias.a", "invalid_value", /token ids/],
    [{ messages: [] }, "messages", "array_below_min_length", /too short/],
    [{ messages: [{ role: "tool", content: "x" }] }, "messages[0].role", "invalid_value", /"user"/],
    [
      { messages: [{ role: "user" }] },
      "messages[0].content",
      "missing_required_parameter",
      /Missing/,
    ],
    [
      { messages: [{ role: "user", content: [{ type: "image_url" }] }] },
      "messages[0].content[0].type",
      "invalid_value",
      /"text"/,
    ],
    [{ messages: [{ role: "assistant", content: "x" }] }, "messages", "invalid_value", /the user/],
    [{ adapter: { cores: "AAAA" } }, "adapter.cores", "invalid_adapter", /3 bytes/],
    [{ min_tokens: 5, max_tokens: 2 }, "min_tokens", "invalid_value", /min_tokens/],
    [
      { continue_final_message: true, add_generation_prompt: true },
      "continue_final_message",
      "invalid_value",
      /both/,
    ],
  ];
  for (const [change, param, code, message] of cases) {
    const error = await errorOf(
      await post(fakeContext(), "/v1/chat/completions", { ...HELLO, ...change }),
    );
    assertEquals([error.status, error.param, error.code], [400, param, code], error.message);
    assertEquals(error.type, "invalid_request_error");
    assertMatch(error.message, message);
  }
});

Deno.test("what asks for nothing passes", async () => {
  const response = await post(fakeContext(), "/v1/chat/completions", {
    ...HELLO,
    tools: [],
    tool_choice: "none",
    parallel_tool_calls: true,
    store: false,
    user: "u",
    metadata: { a: "b" },
    modalities: ["text"],
    functions: null,
    temperature: null,
    max_tokens: null,
    service_tier: "auto",
  });
  assertEquals(response.status, 200);
  await response.body?.cancel();
});

Deno.test("completions refuse echo with logprobs, and best_of other than n", async () => {
  const base = { model: "tiny", prompt: "x" };
  const cases: readonly [Json, string][] = [
    [{ echo: true, logprobs: 1 }, "logprobs"],
    [{ best_of: 3 }, "best_of"],
    [{ suffix: "x" }, "suffix"],
    [{ prompt: [999] }, "prompt[0]"],
    [{ prompt: [[1], [999]] }, "prompt[1][0]"],
    [{ prompt: 3 }, "prompt"],
    [{ prompt: "" }, "prompt"],
    [{ prompt: undefined }, "prompt"],
  ];
  for (const [change, param] of cases) {
    const error = await errorOf(
      await post(fakeContext(), "/v1/completions", { ...base, ...change }),
    );
    assertEquals([error.status, error.param], [400, param], error.message);
  }
});

Deno.test("a prompt that does not fit is told its length and the limit", async () => {
  const prompt = "x".repeat(150);
  const body = { model: "tiny", prompt, max_tokens: 51 };
  const error = await errorOf(await post(fakeContext(), "/v1/completions", body));
  assertEquals([error.status, error.code], [400, "context_length_exceeded"]);
  assertStringIncludes(error.message, "maximum context length is 200 tokens");
  assertStringIncludes(error.message, "201 tokens (150 in the prompt, 51 in the completion)");
  const fits = await post(fakeContext(), "/v1/completions", { ...body, max_tokens: 50 });
  assertEquals(fits.status, 200);
  await fits.body?.cancel();
  const chat = { model: "tiny", messages: [{ role: "user", content: "x".repeat(300) }] };
  const long = await errorOf(await post(fakeContext(), "/v1/chat/completions", chat));
  assertEquals([long.code, long.param], ["context_length_exceeded", "messages"]);
});

Deno.test("bodies that are no JSON, no UTF-8, too large or of another type are refused", async () => {
  const context = fakeContext();
  const chat = "/v1/chat/completions";
  assertEquals((await errorOf(await post(context, chat, "{"))).code, "invalid_json");
  assertEquals((await errorOf(await post(context, chat, ""))).code, "invalid_json");
  assertEquals((await errorOf(await post(context, chat, "[]"))).status, 400);
  const deep = `{"tools":${"[".repeat(40_000)}${"]".repeat(40_000)}}`;
  assertEquals((await errorOf(await post(context, chat, deep))).code, "invalid_json");
  const form = await post(context, chat, HELLO, { "content-type": "text/plain" });
  assertEquals((await errorOf(form)).status, 415);
  const zipped = await post(context, chat, HELLO, { "content-encoding": "gzip" });
  assertEquals((await errorOf(zipped)).status, 415);
  assertEquals((await errorOf(await post(context, chat, "x".repeat(100_001)))).status, 413);
});

Deno.test("a body without a length is cut off at the limit, not read to its end", async () => {
  let pulled = 0;
  const body = new ReadableStream<Uint8Array>({
    pull(controller) {
      pulled++;
      controller.enqueue(new Uint8Array(10_000).fill(32));
    },
  });
  const response = await createApp(fakeContext()).request("/v1/completions", {
    method: "POST",
    body,
    headers: { "content-type": "application/json" },
  });
  assertEquals((await errorOf(response)).status, 413);
  assert(pulled <= 13, `${pulled} chunks of 10,000 bytes were read, the limit is 100,000`);
});

Deno.test("unknown models, URLs and methods are answered in OpenAI's words", async () => {
  const context = fakeContext();
  const app = createApp(context);
  const model = await errorOf(
    await post(context, "/v1/chat/completions", { ...HELLO, model: "x" }),
  );
  assertEquals([model.status, model.code, model.param], [404, "model_not_found", "model"]);
  assertEquals(model.message, "The model `x` does not exist or you do not have access to it.");
  const url = await errorOf(await app.request("/v1/nope"));
  assertEquals(url.status, 404);
  assertStringIncludes(url.message, "Unknown request URL: GET /v1/nope");
  const method = await app.request("/v1/chat/completions");
  assertEquals(method.headers.get("allow"), "POST");
  assertEquals((await errorOf(method)).status, 405);
  assertEquals((await app.request("/health", { method: "DELETE" })).status, 405);
});

Deno.test("models are the base and its adapters, by name with a plain or an escaped slash", async () => {
  const context = fakeContext();
  context.adapters.add("ada/haiku");
  const app = createApp(context);
  const list = modelListSchema.parse(await (await app.request("/v1/models")).json());
  assertEquals(list.data.map(({ id, parent }) => [id, parent]), [
    ["tiny", null],
    ["ada/haiku@1", "tiny"],
  ]);
  for (const path of ["ada/haiku", "ada%2Fhaiku", "haiku", "ada%2Fhaiku%401", "tiny"]) {
    const response = await app.request(`/v1/models/${path}`);
    assertEquals(response.status, 200, path);
    await response.body?.cancel();
  }
  assertEquals((await errorOf(await app.request("/v1/models/no"))).code, "model_not_found");
});

Deno.test("an adapter's request carries its ref and its sender's tenant; an ambiguous name is refused", async () => {
  const context = fakeContext();
  const entry = context.adapters.add("ada/haiku");
  const ask = { ...HELLO, model: "ada/haiku" };
  const response = await post(context, "/v1/chat/completions", ask, { "lembas-tenant": "ada" });
  const body = chatCompletionSchema.parse(await response.json());
  assertEquals(body.model, "ada/haiku");
  assertStringIncludes(body.system_fingerprint, entry.ref.digest.slice(0, 10));
  assertEquals(context.engine.requests[0]?.adapter, entry.ref);
  assertEquals(context.engine.requests[0]?.tenant, "ada");
  context.adapters.add("bob/haiku");
  const twice = await post(context, "/v1/chat/completions", { ...HELLO, model: "haiku" });
  assertEquals((await errorOf(twice)).code, "ambiguous_model");
});

Deno.test("a core inside a request is held as long as the request, however it ends", async () => {
  const context = fakeContext();
  const adapter = { cores: btoa("core bytes") };
  const seen: number[] = [];
  context.engine.pace = () => Promise.resolve(void seen.push(context.adapters.held));
  const body = { ...HELLO, adapter };
  await (await post(context, "/v1/chat/completions", body)).text();
  assertEquals([new Set(seen), context.adapters.held], [new Set([1]), 0]);
  await (await post(context, "/v1/chat/completions", { ...body, stream: true })).text();
  assertEquals(context.adapters.held, 0);
  const tooLong = { ...body, max_tokens: 1000 };
  assertEquals((await post(context, "/v1/chat/completions", tooLong)).status, 400);
  assertEquals(context.adapters.held, 0);
  const cut = await post(context, "/v1/chat/completions", { ...body, stream: true });
  await cut.body?.cancel();
  assertEquals(context.adapters.held, 0);
  context.adapters.add("ada/haiku");
  const both = await post(context, "/v1/chat/completions", { ...body, model: "ada/haiku" });
  assertEquals((await errorOf(both)).param, "adapter");
});

Deno.test("adapters load and unload with vLLM's sentences", async () => {
  const context = fakeContext();
  const load = (body: Json) => post(context, "/v1/load_lora_adapter", body);
  const ok = await load({ lora_name: "ada/haiku", lora_path: "haiku" });
  assertEquals(await ok.text(), "Success: LoRA adapter 'ada/haiku' added successfully.");
  const peft = await load({ lora_name: "ada/x", lora_path: "lora", allow_lossy: true });
  assertStringIncludes(await peft.text(), "1.23% of its energy");
  const again = await errorOf(await load({ lora_name: "ada/haiku", lora_path: "haiku" }));
  assertStringIncludes(again.message, "has already been loaded");
  assertEquals(
    (await load({ lora_name: "ada/haiku", lora_path: "h", load_inplace: true })).status,
    200,
  );
  const foreign = await errorOf(await load({ lora_name: "ada/y", lora_path: "foreign" }));
  assertEquals([foreign.status, foreign.param], [400, "lora_path"]);
  assertStringIncludes(foreign.message, "base digest aa is not bb");
  assertEquals((await load({ lora_name: "tiny", lora_path: "h" })).status, 400);
  const gone = await post(context, "/v1/unload_lora_adapter", { lora_name: "ada/haiku" });
  assertEquals(await gone.text(), "Success: LoRA adapter 'ada/haiku' removed successfully.");
  const unknown = await post(context, "/v1/unload_lora_adapter", { lora_name: "ada/haiku" });
  assertEquals((await errorOf(unknown)).message, "The lora adapter 'ada/haiku' cannot be found.");
});

Deno.test("tokenize and detokenize are each other's inverse", async () => {
  const context = fakeContext();
  const tokens = await (await post(context, "/tokenize", { prompt: "héllo" })).json();
  assertEquals(tokens.count, 6);
  assertEquals(tokens.max_model_len, 200);
  const back = await post(context, "/detokenize", { model: "tiny", tokens: tokens.tokens });
  assertEquals(await back.json(), { prompt: "héllo" });
  const chat = await (await post(context, "/tokenize", { messages: HELLO.messages })).json();
  assertEquals(chat.count, "<user>hi</user><assistant>".length);
  assertEquals((await post(context, "/tokenize", {})).status, 400);
  assertEquals((await post(context, "/detokenize", { tokens: [257] })).status, 400);
});

Deno.test("a final message is continued where it ends", async () => {
  const context = fakeContext();
  const messages = [...HELLO.messages, { role: "assistant", content: "Well " }];
  await post(context, "/v1/chat/completions", { ...HELLO, messages, continue_final_message: true });
  const prompt = String.fromCharCode(...context.engine.requests[0]?.prompt ?? []);
  assertEquals(prompt, "<user>hi</user><assistant>Well ");
});

Deno.test("a full queue is 429 with Retry-After, whether known at once or later", async () => {
  const context = fakeContext();
  context.engine.refusal = new OverloadedError("The queue is full.", 2.5);
  const now = await post(context, "/v1/chat/completions", HELLO);
  assertEquals(now.headers.get("retry-after"), "3");
  assertEquals((await errorOf(now)).status, 429);
  context.engine.refusal = undefined;
  context.engine.failure = { step: 0, error: new OverloadedError("No memory.", 1) };
  const later = await post(context, "/v1/chat/completions", { ...HELLO, stream: true });
  assertEquals((await errorOf(later)).status, 429);
  context.engine.failure = { step: 0, error: new ContextLengthError("too long") };
  const long = await post(context, "/v1/chat/completions", HELLO);
  assertEquals((await errorOf(long)).code, "context_length_exceeded");
});

Deno.test("a failure is 500 without its inside, which the log has under the request's id", async () => {
  const context = fakeContext();
  context.engine.failure = { step: 0, error: new Error("secret detail") };
  const response = await post(context, "/v1/chat/completions", HELLO, { "x-request-id": "mine-1" });
  assertEquals(response.headers.get("x-request-id"), "mine-1");
  const error = await errorOf(response);
  assertEquals([error.status, error.type], [500, "server_error"]);
  assert(!error.message.includes("secret"), error.message);
  assertStringIncludes(error.message, "mine-1");
  assert(context.lines.some((line) => line.includes("mine-1") && line.includes("secret detail")));
});

Deno.test("a failure in mid-stream is an error event", async () => {
  const context = fakeContext();
  context.engine.failure = { step: 3, error: new Error("secret detail") };
  const chunks = await events(
    await post(context, "/v1/completions", { model: "tiny", prompt: "x", stream: true }),
  );
  assertEquals(chunks.length, 4);
  const last = errorSchema.parse(chunks.at(-1));
  assertEquals(last.error.type, "server_error");
  assert(!last.error.message.includes("secret"));
});

Deno.test("a strange request id is replaced", async () => {
  const app = createApp(fakeContext());
  const response = await app.request("/health", { headers: { "x-request-id": "a b" } });
  assertMatch(response.headers.get("x-request-id") ?? "", /^req_[0-9a-f]{32}$/);
});

Deno.test("with a key everything but health wants it", async () => {
  const app = createApp(fakeContext({ apiKey: "s3cret" }));
  const ask = (path: string, authorization?: string) =>
    app.request(path, authorization === undefined ? {} : { headers: { authorization } });
  assertEquals((await ask("/health")).status, 200);
  for (const path of ["/v1/models", "/metrics", "/openapi.json", "/version", "/nowhere"]) {
    const error = await errorOf(await ask(path));
    assertEquals([error.status, error.code], [401, "missing_api_key"], path);
  }
  const wrong = await errorOf(await ask("/v1/models", "Bearer s3cretx"));
  assertEquals([wrong.status, wrong.code], [401, "invalid_api_key"]);
  assert(!wrong.message.includes("s3cret"));
  assertEquals((await ask("/v1/models", "Bearer s3cret")).status, 200);
});

Deno.test("while draining, what runs ends and what is new gets 503", async () => {
  const context = fakeContext();
  const gate = Promise.withResolvers<void>();
  context.engine.pace = () => gate.promise;
  const running = post(context, "/v1/chat/completions", HELLO);
  while (context.engine.running === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  let drained = false;
  const drain = context.lifecycle.drain().then(() => drained = true);
  const refused = await post(context, "/v1/chat/completions", HELLO);
  assertEquals(refused.headers.get("retry-after"), "5");
  assertEquals((await errorOf(refused)).status, 503);
  assertEquals((await createApp(context).request("/health")).status, 200);
  assertEquals((await createApp(context).request("/ready")).status, 503);
  assertEquals(drained, false);
  gate.resolve();
  assertEquals((await running).status, 200);
  await drain;
});

Deno.test("each request is one line of log, without prompts", async () => {
  const context = fakeContext();
  await (await post(context, "/v1/chat/completions", { ...HELLO, stream: true })).text();
  await createApp(context).request("/nowhere");
  await new Promise((resolve) => setTimeout(resolve, 0));
  assertEquals(context.lines.length, 2);
  const line = context.lines.find((text) => text.includes("chat")) ?? "";
  assertMatch(
    line,
    /POST \/v1\/chat\/completions status=200 ms=[\d.]+ model=tiny prompt=26 output=12/,
  );
  assert(!line.includes("hi<"));
});

Deno.test("metrics have vLLM's names and read the engine", async () => {
  const context = fakeContext();
  context.metrics.listener.firstToken?.(0.03);
  context.metrics.listener.finished?.({
    requestId: "r",
    index: 0,
    tenant: "t",
    adapter: undefined,
    reason: "stop",
    promptTokens: 5,
    cachedTokens: 0,
    generationTokens: 4,
    endToEnd: 1,
    queued: 0.5,
    firstToken: 0.7,
  });
  const response = await createApp(context).request("/metrics");
  assertStringIncludes(response.headers.get("content-type") ?? "", "text/plain");
  const text = await response.text();
  for (
    const line of [
      'vllm:num_requests_running{model_name="tiny"} 0',
      'vllm:kv_cache_usage_perc{model_name="tiny"} 0.25',
      'vllm:prompt_tokens_total{model_name="tiny"} 7',
      'vllm:request_success_total{finished_reason="stop",model_name="tiny"} 3',
      'vllm:time_to_first_token_seconds_count{model_name="tiny"} 1',
      'vllm:e2e_request_latency_seconds_sum{model_name="tiny"} 1',
      'running_lora_adapters="ada/haiku@1"',
    ]
  ) assertStringIncludes(text, line);
});

Deno.test("the OpenAPI document names every route and refers only to what it defines", async () => {
  const app = createApp(fakeContext());
  const document = await (await app.request("/openapi.json")).json();
  assertEquals(document.openapi, "3.1.0");
  const described = Object.entries<Json>(document.paths).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`)
  );
  const served = app.routes.filter(({ method }) => method !== "ALL").map(({ method, path }) =>
    `${method} ${path.replaceAll(/:(\w+)/g, "{$1}")}`
  );
  const undocumented = ["GET /openapi.json", "GET /v1/models/{tenant}/{name}"];
  assertEquals(
    described.toSorted(),
    [...new Set(served)].filter((route) => !undocumented.includes(route)).toSorted(),
  );
  const text = JSON.stringify(document);
  for (const [, name = ""] of text.matchAll(/"#\/components\/schemas\/(\w+)"/g)) {
    assert(name in document.components.schemas, `${name} is referred to but not defined`);
  }
  assertEquals(document.components.schemas.ChatCompletionRequest.additionalProperties, false);
});
