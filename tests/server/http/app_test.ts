// deno-lint-ignore-file camelcase -- names of the wire format
/** The application's routes by `app.request()`: shapes, errors, keys, draining, logs; no socket, no weights. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { createApp } from "../../../server/http/app.ts";
import { ContextLengthError, OverloadedError } from "../../../src/util/errors.ts";
import { chatCompletionSchema } from "../../../server/http/schema/chat.ts";
import { errorSchema } from "../../../server/http/schema/common.ts";
import { modelListSchema } from "../../../server/http/schema/admin.ts";
import { fakeContext } from "../fake_context.ts";
import { errorOf, events, HELLO, type Json, post } from "../asked.ts";

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

Deno.test("half a character anywhere in a body is refused, naming the field", async () => {
  const context = fakeContext();
  const chat = { model: "tiny", messages: [{ role: "user", content: "hi" }] };
  const cases: readonly (readonly [string, unknown, string])[] = [
    ["/v1/completions", { model: "tiny", prompt: "a\ud83d" }, "prompt"],
    ["/v1/completions", { model: "tiny", prompt: ["a", "\udc4d\ud83d"] }, "prompt[1]"],
    ["/v1/completions", { model: "tiny", prompt: "a", stop: ["\ud83d"] }, "stop[0]"],
    [
      "/v1/chat/completions",
      { ...chat, messages: [{ role: "user", content: "\ud83d" }] },
      "messages[0].content",
    ],
    ["/v1/chat/completions", { ...chat, metadata: { "\udc4d": "x" } }, "metadata"],
    ["/tokenize", { model: "tiny", prompt: "\ud83d." }, "prompt"],
  ];
  for (const [path, body, param] of cases) {
    const { status, code, ...error } = await errorOf(await post(context, path, body));
    assertEquals([status, code, error.param], [400, "invalid_unicode", param]);
    assertStringIncludes(error.message, `'${param}': it has half a character (\\u`);
  }
  const whole = { model: "tiny", prompt: "a👍", max_tokens: 1 };
  assertEquals((await post(context, "/v1/completions", whole)).status, 200);
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
  const precision = { dtype: "int8", weight_types: ["Q4_K", "Q6_K"] };
  assertEquals(list.data.map((model) => model.precision), list.data.map(() => precision));
  const quality = { percent: 0.4, error: 0.2, divergence: 0.01, agreement: 95, tokens: 3000 };
  const measured = { ...context, model: { ...context.model, quality } };
  const one = await (await createApp(measured).request("/v1/models/tiny")).json();
  assertEquals(one.precision, { ...precision, perplexity_percent: 0.4 });
  assertEquals(list.data.map(({ id, parent }) => [id, parent]), [
    ["tiny", null],
    ["ada/haiku", "tiny"],
  ]);
  for (const path of ["ada/haiku", "ada%2Fhaiku", "haiku", "ada%2Fhaiku%401", "tiny"]) {
    const response = await app.request(`/v1/models/${path}`);
    assertEquals(response.status, 200, path);
    await response.body?.cancel();
  }
  assertEquals((await errorOf(await app.request("/v1/models/no"))).code, "model_not_found");
});

Deno.test("an adapter's request carries its core and its sender's tenant; an ambiguous name is refused", async () => {
  const context = fakeContext();
  const core = context.adapters.add("ada/haiku");
  const ask = { ...HELLO, model: "ada/haiku" };
  const response = await post(context, "/v1/chat/completions", ask, { "lembas-tenant": "ada" });
  const body = chatCompletionSchema.parse(await response.json());
  assertEquals(body.model, "ada/haiku");
  assertStringIncludes(body.system_fingerprint, core.digest.slice(0, 10));
  assertEquals(context.engine.requests[0]?.adapter, core);
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
  const lossy = await load({ lora_name: "ada/z", lora_path: "lossy", allow_lossy: true });
  assertMatch(await lossy.text(), /^Lost: 94\.00% of its energy/);
  const again = await errorOf(await load({ lora_name: "ada/haiku", lora_path: "haiku" }));
  assertStringIncludes(again.message, "has already been loaded");
  assertEquals(
    (await load({ lora_name: "ada/haiku", lora_path: "h", load_inplace: true })).status,
    200,
  );
  const foreign = await errorOf(await load({ lora_name: "ada/y", lora_path: "foreign" }));
  assertEquals([foreign.status, foreign.param], [400, "lora_path"]);
  assertStringIncludes(foreign.message, "base digest aa is not bb");
  const bug = await errorOf(await load({ lora_name: "ada/y", lora_path: "bug" }));
  assertEquals([bug.status, bug.code], [500, "internal_error"]);
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
  assertEquals(await back.json(), { prompt: "héllo", content: "héllo" });
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

Deno.test("with a key everything but health and the API's description wants it", async () => {
  const app = createApp(fakeContext({ apiKey: "s3cret" }));
  const ask = (path: string, authorization?: string) =>
    app.request(path, authorization === undefined ? {} : { headers: { authorization } });
  for (const path of ["/health", "/ping", "/openapi.json", "/", "/docs"]) {
    assertEquals((await ask(path)).status, 200, path);
  }
  for (const path of ["/v1/models", "/metrics", "/version", "/load", "/nowhere"]) {
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
    ...{ preemptions: 2, maxTokens: 16, samples: 1 },
    endToEnd: 1,
    queued: 0.5,
    firstToken: 0.7,
    lastToken: 1,
  });
  const response = await createApp(context).request("/metrics");
  assertStringIncludes(response.headers.get("content-type") ?? "", "text/plain");
  const text = await response.text();
  for (
    const line of [
      'vllm:num_requests_running{model_name="tiny"} 0',
      'vllm:kv_cache_usage_perc{model_name="tiny"} 0.25',
      'lembas_lanes_loaded{model_name="tiny"} 2',
      'lembas_lane_bytes{model_name="tiny"} 3145728',
      'lembas_lane_loads_total{model_name="tiny"} 5',
      'lembas_lane_evictions_total{model_name="tiny"} 4',
      'vllm:prompt_tokens_total{model_name="tiny"} 7',
      'vllm:request_success_total{finished_reason="stop",model_name="tiny"} 3',
      'vllm:time_to_first_token_seconds_count{model_name="tiny"} 1',
      'vllm:e2e_request_latency_seconds_sum{model_name="tiny"} 1',
      'running_lora_adapters="ada/haiku"',
      'vllm:num_requests_waiting_by_reason{reason="capacity",model_name="tiny"} 0',
      'vllm:num_requests_waiting_by_reason{reason="deferred",model_name="tiny"} 0',
      'vllm:admission_rejections_total{reason="max_num_queued_reqs",model_name="tiny"} 0',
    ]
  ) assertStringIncludes(text, line);
});

Deno.test("a tool's and a function's messages are shown to the template, as they are in training", async () => {
  const context = fakeContext();
  const seen: unknown[] = [];
  const chatTemplate = {
    source: "",
    render: (messages: readonly unknown[]) => {
      seen.push(...messages);
      return "x";
    },
  };
  const call = { name: "add", arguments: { a: 1 } };
  const asked = { role: "assistant", content: "" };
  const tools = [
    { role: "user", content: "a" },
    { ...asked, tool_calls: [{ id: "call_1", type: "function", function: call }] },
    { role: "tool", content: "42", tool_call_id: "call_1" },
    { role: "function", content: "43", name: "add" },
  ];
  const answer = await post(
    { ...context, model: { ...context.model, chatTemplate } },
    "/tokenize",
    {
      messages: tools,
    },
  );
  assertEquals([answer.status, seen], [200, tools]);
  const { param, message } = await errorOf(
    await post(context, "/v1/chat/completions", {
      model: "tiny",
      messages: [{ role: "<|judge|>", content: "a" }],
    }),
  );
  assertEquals(param, "messages[0].role");
  assertStringIncludes(message, "system, developer, user, assistant, tool, function");
});

Deno.test("an error of our own that begins with 'Cannot' is no fault of response_format", async () => {
  const context = fakeContext();
  context.engine.failure = { step: 0, error: new TypeError("Cannot read properties of undefined") };
  const answer = await post(context, "/v1/chat/completions", {
    ...HELLO,
    response_format: { type: "json_object" },
  });
  const { status, code } = await errorOf(answer);
  assertEquals([status, code], [500, "internal_error"]);
});

Deno.test("below its root path a server answers, too, and asks for keys there as elsewhere", async () => {
  const plain = fakeContext({ apiKey: "secret" });
  const app = createApp({ ...plain, options: { ...plain.options, rootPath: "/llm" } });
  const status = async (path: string, key?: string) => {
    const headers = key === undefined ? {} : { authorization: `Bearer ${key}` };
    const response = await app.request(path, { headers });
    await response.body?.cancel();
    return response.status;
  };
  const paths = ["/v1/models", "/llm/v1/models", "/llm/models/", "/llm/health", "/llm", "/llm/"];
  assertEquals(
    await Promise.all(paths.map((path) => status(path, "secret"))),
    paths.map(() => 200),
  );
  assertEquals(await status("/llm/health"), 200);
  const none = ["/llmx/v1/models", "/llm/llm/v1/models", "/x/llm/v1/models"];
  assertEquals(await Promise.all(none.map((path) => status(path, "secret"))), none.map(() => 404));
  for (const key of [undefined, "wrong"]) {
    for (const path of ["/v1/models", "/llm/v1/models", "/llm/metrics"]) {
      assertEquals(await status(path, key), 401, path);
    }
  }
  const described = await (await app.request("/llm/openapi.json")).json();
  assertEquals(described.servers, [{ url: "/llm" }, { url: "/" }]);
});
