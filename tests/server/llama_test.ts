// deno-lint-ignore-file camelcase -- names of the wire format
/** llama.cpp's own paths, over a fake engine. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { createApp } from "../../server/http/app.ts";
import {
  type LlamaAnswer,
  llamaAnswerSchema,
  llamaChunkSchema,
  propsSchema,
  slotsSchema,
} from "../../server/http/llama/schema.ts";
import { chatChunkSchema, chatCompletionSchema } from "../../server/http/schema/chat.ts";
import { errorOf, HELLO, type Json, post } from "./asked.ts";
import { type FakeContext, fakeContext } from "./fake_context.ts";

async function complete(context: FakeContext, body: Json): Promise<LlamaAnswer> {
  const response = await post(context, "/completion", body);
  assertEquals(response.status, 200);
  return llamaAnswerSchema.parse(await response.json());
}

const promptsOf = ({ engine }: FakeContext) =>
  engine.requests.map(({ prompt }) => String.fromCharCode(...prompt));

Deno.test("/completion tells text, counts, settings and how it ended", async () => {
  const context = fakeContext();
  const answer = await complete(context, { prompt: "ab", return_tokens: true });
  assertEquals([answer.content, answer.stop, answer.stop_type], ["Hello, world", true, "eos"]);
  assertEquals([answer.tokens_evaluated, answer.tokens_predicted], [2, 12]);
  assertEquals([answer.timings.prompt_n, answer.timings.predicted_n], [2, 12]);
  assertEquals([answer.prompt, answer.truncated, answer.has_new_line], ["ab", false, false]);
  assertEquals(String.fromCharCode(...answer.tokens), "Hello, world");
  assertEquals(answer.generation_settings.n_predict, -1);
});

Deno.test("n_predict bounds a completion, and is no reason to refuse what the context ends", async () => {
  const context = fakeContext();
  const bounded = await complete(context, { prompt: "a", n_predict: 5 });
  assertEquals([bounded.content, bounded.stop_type], ["Hello", "limit"]);
  assertEquals([bounded.truncated, bounded.tokens], [false, []]);
  const { maxContext } = context.engine;
  context.engine.reply = () => "x\n".repeat(maxContext);
  const long = await complete(context, { prompt: "abc", n_predict: 10_000 });
  assertEquals(long.tokens_predicted, maxContext - 3);
  assertEquals([long.truncated, long.has_new_line], [true, true]);
  const none = await complete(context, { prompt: "abc", n_predict: 0 });
  assertEquals([none.content, none.tokens_predicted, none.truncated], ["", 0, false]);
  const { status, code } = await errorOf(
    await post(context, "/completion", { prompt: "a".repeat(maxContext + 1) }),
  );
  assertEquals([status, code], [400, "context_length_exceeded"]);
});

Deno.test("streamed, text comes before an event that has the rest, and nothing follows it", async () => {
  const response = await post(fakeContext(), "/completion", { prompt: "a", stream: true });
  assertEquals(response.headers.get("content-type"), "text/event-stream; charset=utf-8");
  const blocks = (await response.text()).split("\n\n").filter((block) => block !== "");
  const read = blocks.map((block) => JSON.parse(block.replace(/^data: /, "")));
  const chunks = read.slice(0, -1).map((chunk) => llamaChunkSchema.parse(chunk));
  assertEquals(chunks.map(({ content }) => content).join(""), "Hello, world");
  assertEquals(chunks.map(({ tokens, stop }) => [tokens.length, stop])[0], [1, false]);
  assertEquals(chunks.at(-1)?.tokens_predicted, 12);
  const end = llamaAnswerSchema.parse(read.at(-1));
  assertEquals([end.stop, end.content, end.tokens_predicted], [true, "", 12]);
});

Deno.test("a prompt is a text, ids, both mixed, an object, or several of these", async () => {
  const context = fakeContext();
  for (const prompt of ["ab", [97, 98], ["a", 98], { prompt_string: "ab" }]) {
    assertEquals((await complete(context, { prompt })).prompt, "ab");
  }
  const many = ["ab", [97, 98], { prompt_string: "ab" }];
  const answers: LlamaAnswer[] =
    await (await post(context, "/completion", { prompt: many, n_predict: 5 })).json();
  assertEquals(
    answers.map(({ index, content }) => [index, content]),
    [0, 1, 2].map((at) => [
      at,
      "Hello",
    ]),
  );
  assertEquals(new Set(promptsOf(context)), new Set(["ab"]));
  const image = { prompt_string: "a", multimodal_data: ["aGk="] };
  assertEquals((await errorOf(await post(context, "/completion", { prompt: image }))).status, 400);
});

Deno.test("a bias is by id or by text, in a list or an object, and false forbids", async () => {
  const context = fakeContext();
  const biased = async (logit_bias: unknown): Promise<unknown> => {
    const answer = await complete(context, { prompt: "a", logit_bias });
    const seen = context.engine.requests.at(-1)?.sampling.logitBias;
    return [[...seen ?? []], answer.generation_settings.logit_bias];
  };
  const both = [[[97, -100], [98, -100]], [{ token: 97, bias: null }, { token: 98, bias: null }]];
  assertEquals(await biased([[97, false], [98, -100]]), both);
  assertEquals(await biased([["ab", false]]), both);
  assertEquals(await biased({ 97: -100, b: -100 }), both);
  assertEquals(await biased({ 97: 1.5 }), [[[97, 1.5]], [{ token: 97, bias: 1.5 }]]);
  const { status, param } = await errorOf(
    await post(context, "/completion", { prompt: "a", logit_bias: [[100_000, 1]] }),
  );
  assertEquals([status, param], [400, "logit_bias"]);
  const ignoring = await complete(context, { prompt: "a", ignore_eos: true });
  assertEquals(ignoring.generation_settings.logit_bias[0]?.bias, null);
});

Deno.test("n_probs tells the likeliest tokens of each one drawn", async () => {
  const context = fakeContext();
  await complete(context, { prompt: "a", n_probs: 3 });
  assertEquals(context.engine.requests.at(-1)?.sampling.logprobs, 3);
  await complete(context, { prompt: "a", n_probs: 0 });
  assertEquals(context.engine.requests.at(-1)?.sampling.logprobs, undefined);
});

Deno.test("response_fields chooses fields, those inside others too", async () => {
  const context = fakeContext();
  const response_fields = ["content", "generation_settings/n_predict", "no/such"];
  const response = await post(context, "/completion", {
    prompt: "a",
    n_predict: 5,
    response_fields,
  });
  assertEquals(await response.json(), { content: "Hello", "generation_settings/n_predict": 5 });
});

Deno.test("/tokenize takes llama.cpp's content, and /detokenize answers by its name", async () => {
  const context = fakeContext();
  const ids = await (await post(context, "/tokenize", { content: "hé" })).json();
  assertEquals(ids.tokens, [104, 195, 169]);
  const pieces = await (await post(context, "/tokenize", { content: "hé", with_pieces: true }))
    .json();
  assertEquals(pieces.tokens, [
    { id: 104, piece: "h" },
    { id: 195, piece: [195] },
    { id: 169, piece: [169] },
  ]);
  const text = await (await post(context, "/detokenize", { tokens: [104, 105] })).json();
  assertEquals(text, { prompt: "hi", content: "hi" });
  const two = await errorOf(await post(context, "/tokenize", { content: "a", prompt: "a" }));
  assertEquals([two.status, two.param], [400, "prompt"]);
});

Deno.test("/apply-template tells a chat's prompt, and /chat/completions/input_tokens its length", async () => {
  const context = fakeContext();
  const chat = { messages: [{ role: "user", content: "hi" }] };
  const { prompt } = await (await post(context, "/apply-template", chat)).json();
  assertEquals(prompt, "<user>hi</user><assistant>");
  const closed = { ...chat, add_generation_prompt: false };
  const bare = await (await post(context, "/apply-template", closed)).json();
  assertEquals(bare.prompt, "<user>hi</user>");
  for (const path of ["/v1/chat/completions/input_tokens", "/chat/completions/input_tokens"]) {
    const counted = await (await post(context, path, chat)).json();
    assertEquals(counted, { input_tokens: prompt.length });
  }
});

Deno.test("/props tells the model, its context and its defaults", async () => {
  const context = fakeContext();
  const response = await createApp(context).request("/props");
  assertEquals(response.status, 200);
  const props = propsSchema.parse(await response.json());
  assertEquals(props.default_generation_settings.n_ctx, context.engine.maxContext);
  assertEquals(props.model_path, context.model.root);
  assertStringIncludes(props.build_info, context.options.version);
  assert(!("seed" in props.default_generation_settings.params));
});

Deno.test("/slots tells as many busy rows as run, to administrators alone", async () => {
  const context = fakeContext({ apiKey: "s3cret", maxBatch: 3 });
  const stats = context.engine.stats();
  context.engine.stats = () => ({ ...stats, running: 2 });
  const app = createApp(context);
  assertEquals((await app.request("/slots")).status, 401);
  const headers = { authorization: "Bearer s3cret" };
  const slots = slotsSchema.parse(await (await app.request("/slots", { headers })).json());
  assertEquals(slots.map((slot) => slot.is_processing), [true, true, false]);
  assertEquals(slots.map(({ id, n_ctx }) => [id, n_ctx])[2], [2, context.engine.maxContext]);
  const props = await (await app.request("/props", { headers })).json();
  assertEquals(props.total_slots, 3);
});

Deno.test("a chat tells its timings and its prompt where llama.cpp's fields ask for them", async () => {
  const context = fakeContext();
  const asked = { ...HELLO, timings_per_token: true, verbose: true };
  const response = await post(context, "/v1/chat/completions", asked);
  const { timings, __verbose, usage, ...answer } = chatCompletionSchema.parse(
    await response.json(),
  );
  assertEquals(timings?.predicted_n, usage.completion_tokens);
  assertEquals(
    (timings?.cache_n ?? 0) + (timings?.prompt_n ?? 0),
    usage.prompt_tokens,
  );
  assertEquals(__verbose, {
    prompt: promptsOf(context)[0] ?? "",
    tokens_evaluated: usage.prompt_tokens,
  });
  assert(answer.system_fingerprint.startsWith(`b${context.options.version}_`));
  const plain = await (await post(context, "/v1/chat/completions", HELLO)).json();
  assertEquals(["timings" in plain, "__verbose" in plain], [false, false]);
});

Deno.test("a streamed chat tells its timings in every event, the last one of all tokens", async () => {
  const asked = { ...HELLO, stream: true, timings_per_token: true };
  for (const options of [{}, { stream_options: { include_usage: true } }]) {
    const response = await post(fakeContext(), "/v1/chat/completions", { ...asked, ...options });
    const events = (await response.text()).split("\n\n").filter((event) =>
      event.startsWith("data: {")
    );
    const chunks = events.map((event) => chatChunkSchema.parse(JSON.parse(event.slice(6))));
    const counts = chunks.map(({ timings }) => timings?.predicted_n ?? -1);
    assert(counts.every((count, at) => count >= (counts[at - 1] ?? 0)), counts.join());
    assertEquals(counts.at(-1), 12);
  }
});
