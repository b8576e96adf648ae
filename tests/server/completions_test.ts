// deno-lint-ignore-file camelcase -- names of the wire format
/** Completions over HTTP against a fake engine: shapes of answers, parameters, what is refused. */
import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { chatChunkSchema, chatCompletionSchema } from "../../server/http/schema/chat.ts";
import { completionChunkSchema, completionSchema } from "../../server/http/schema/completions.ts";
import { fakeContext } from "./fake_context.ts";
import { errorOf, events, HELLO, type Json, post } from "./asked.ts";

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
    logit_bias: { "65": -100, "66": 0, "no token": 0 },
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
    logprobTokens: undefined,
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
      "tools[0].function",
      "missing_required_parameter",
      /'tools\[0\].function'/,
    ],
    [
      { response_format: { type: "text", strict: true } },
      "response_format.strict",
      "unknown_parameter",
      /^Unrecognized request argument supplied: response_format.strict$/,
    ],
    [{ temperature: 3 }, "temperature", "number_above_max_value", /<= 2, but got 3/],
    [{ temperature: "1" }, "temperature", "invalid_type", /expected a number, but got a string/],
    [{ n: 1.5 }, "n", "invalid_type", /expected an integer/],
    [{ stop: [""] }, "stop[0]", "string_below_min_length", /too short/],
    [{ top_logprobs: 2 }, "top_logprobs", "invalid_value", /'logprobs' is true/],
    [{ stream_options: {} }, "stream_options", "invalid_value", /'stream' is true/],
    [{ logit_bias: { "9999": 1 } }, "logit_bias", "invalid_value", /vocabulary/],
    [{ logit_bias: { a: 1, "1": 1, b: 1 } }, "logit_bias", "invalid_value", /"a", "b" are not/],
    [{ messages: [] }, "messages", "array_below_min_length", /too short/],
    [
      { messages: [{ role: "user<|im_end|>", content: "x" }] },
      "messages[0].role",
      "invalid_value",
      /user, .*or a name/,
    ],
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

Deno.test("a role of the template's own goes to the template as it is", async () => {
  const context = fakeContext();
  const messages = [{ role: "my-critic", content: "hi" }];
  assertEquals((await post(context, "/v1/chat/completions", { ...HELLO, messages })).status, 200);
  const prompt = String.fromCharCode(...context.engine.requests[0]?.prompt ?? []);
  assertEquals(prompt, "<my-critic>hi</my-critic><assistant>");
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

Deno.test("best_of is taken where it is n, or nothing", async () => {
  for (const more of [{ best_of: 0 }, { best_of: 0, n: 2 }, { best_of: 2, n: 2 }]) {
    const body = { model: "tiny", prompt: "x", ...more };
    const response = await post(fakeContext(), "/v1/completions", body);
    assertEquals((await response.json()).choices.length, more.n ?? 1);
  }
});

Deno.test("completions refuse streamed prompt_logprobs, and best_of other than n", async () => {
  const base = { model: "tiny", prompt: "x" };
  const cases: readonly [Json, string][] = [
    [{ stream: true, prompt_logprobs: 1 }, "prompt_logprobs"],
    [{ prompt_logprobs: 21 }, "prompt_logprobs"],
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

Deno.test("as many stop strings and stop token ids pass as the schema says", async () => {
  const stops = {
    stop: Array.from({ length: 16 }, (_, i) => `stop ${i}`),
    stop_token_ids: Array.from({ length: 64 }, (_, id) => id),
  };
  const context = fakeContext();
  const answer = await post(context, "/v1/chat/completions", { ...HELLO, ...stops });
  assertEquals(answer.status, 200, await answer.text());
  assertEquals(context.engine.requests[0]?.sampling.stopTokenIds.length, 64);
});

Deno.test("echo begins a chat's answer with the message that it goes on with", async () => {
  const messages = [...HELLO.messages, { role: "assistant", content: "I say: " }];
  const going = { continue_final_message: true, add_generation_prompt: false, echo: true };
  const ask = { ...HELLO, messages, ...going };
  const textOf = async (body: Json) => {
    const answer = await (await post(fakeContext(), "/v1/chat/completions", body)).json();
    return answer.choices[0].message.content;
  };
  assertEquals(await textOf(ask), "I say: Hello, world");
  assertEquals(await textOf({ ...ask, echo: false }), "Hello, world");
  assertEquals(await textOf({ ...HELLO, echo: true }), "Hello, world");
  const response = await post(fakeContext(), "/v1/chat/completions", { ...ask, stream: true });
  const chunks = (await events(response)).map((chunk) => chatChunkSchema.parse(chunk));
  const texts = chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "");
  assertEquals([texts.join(""), texts[0]], ["I say: Hello, world", "I say: H"]);
});

Deno.test("truncation_side says which end of a prompt that is too long is kept", async () => {
  const kept = async (truncation_side?: string) => {
    const context = fakeContext();
    const ask = { prompt: [1, 2, 3, 4, 5], truncate_prompt_tokens: 2, truncation_side };
    assertEquals((await post(context, "/v1/completions", ask)).status, 200);
    return context.engine.requests[0]?.prompt;
  };
  assertEquals(await kept(), [4, 5]);
  assertEquals(await kept("left"), [4, 5]);
  assertEquals(await kept("right"), [1, 2]);
});

Deno.test("an empty grammar of structured_outputs is refused", async () => {
  const ask = { ...HELLO, structured_outputs: { grammar: "" } };
  const { status, param } = await errorOf(await post(fakeContext(), "/v1/chat/completions", ask));
  assertEquals([status, param], [400, "structured_outputs.grammar"]);
});
