// deno-lint-ignore-file camelcase -- names of the wire format
/** What completions tell of prompts over HTTP, against a fake engine: echoes, log probabilities, ids. */
import { assertEquals } from "@std/assert";
import { createApp } from "../../server/http/app.ts";
import { chatCompletionSchema } from "../../server/http/schema/chat.ts";
import { completionChunkSchema, completionSchema } from "../../server/http/schema/completions.ts";
import { events, HELLO, post } from "./asked.ts";
import { chatLogprobs, completionLogprobs } from "../../server/generate/logprobs.ts";
import { byteTokenizer, fakeContext } from "./fake_context.ts";

Deno.test("echo with logprobs tells of the prompt, then of the sample, streamed or not", async () => {
  const body = { model: "tiny", prompt: "abc", echo: true, logprobs: 1, max_tokens: 2 };
  const response = await post(fakeContext(), "/v1/completions", body);
  const [whole] = completionSchema.parse(await response.json()).choices;
  assertEquals(whole.text, "abcHe");
  assertEquals(whole.logprobs?.tokens, ["a", "b", "c", "H", "e"]);
  assertEquals(whole.logprobs?.token_logprobs, [null, -0.98, -0.99, -0.5, -0.5]);
  assertEquals(whole.logprobs?.text_offset, [0, 1, 2, 3, 4]);
  assertEquals(whole.logprobs?.top_logprobs.slice(0, 2), [null, { A: -0.5, b: -0.98 }]);
  const streamed = await events(
    await post(fakeContext(), "/v1/completions", { ...body, stream: true }),
  );
  const parts = streamed.flatMap((chunk) => completionChunkSchema.parse(chunk).choices);
  assertEquals(parts.map(({ text }) => text).join(""), whole.text);
  const arrays = parts.flatMap(({ logprobs }) => logprobs === null ? [] : [logprobs]);
  assertEquals(arrays.flatMap(({ tokens }) => tokens), whole.logprobs?.tokens);
  assertEquals(arrays.flatMap(({ text_offset }) => text_offset), whole.logprobs?.text_offset);
});

Deno.test("echo with logprobs and no output is the prompt alone, each prompt its own", async () => {
  const body = { model: "tiny", prompt: ["ab", "cde"], echo: true, logprobs: 0, max_tokens: 0 };
  const response = await post(fakeContext(), "/v1/completions", body);
  const { choices, usage } = completionSchema.parse(await response.json());
  assertEquals(choices.map(({ text }) => text), ["ab", "cde"]);
  assertEquals(choices[1].logprobs?.token_logprobs, [null, -1, -1.01]);
  assertEquals(choices[1].finish_reason, "length");
  assertEquals(usage.completion_tokens, 0);
});

Deno.test("prompt_logprobs and token ids come as vLLM has them", async () => {
  const ids = { return_token_ids: true, return_tokens_as_token_ids: true };
  const body = { ...HELLO, prompt_logprobs: 1, logprobs: true, max_tokens: 1, ...ids };
  const chat = chatCompletionSchema.parse(
    await (await post(fakeContext(), "/v1/chat/completions", body)).json(),
  );
  const prompt = [...new TextEncoder().encode("<user>hi</user><assistant>")];
  assertEquals(chat.prompt_token_ids, prompt);
  assertEquals(chat.choices[0].token_ids, [72]);
  assertEquals(chat.choices[0].logprobs?.content[0].token, "token_id:72");
  assertEquals(chat.prompt_logprobs?.length, prompt.length);
  assertEquals(chat.prompt_logprobs?.slice(0, 2), [null, {
    [prompt[1]]: { logprob: -prompt[1] / 100, rank: 3, decoded_token: "u" },
    65: { logprob: -0.5, rank: 1, decoded_token: "A" },
  }]);
  const text = completionSchema.parse(
    await (await post(fakeContext(), "/v1/completions", {
      ...{ model: "tiny", prompt: [97, 98], max_tokens: 2, prompt_logprobs: 0, ...ids },
    })).json(),
  );
  assertEquals(text.choices[0].prompt_token_ids, [97, 98]);
  assertEquals(text.choices[0].token_ids, [72, 101]);
  assertEquals(text.choices[0].prompt_logprobs, [null, {
    98: { logprob: -0.98, rank: 3, decoded_token: "b" },
  }]);
});

Deno.test("what was not asked for of tokens is null, as in vLLM", async () => {
  const chat = await (await post(fakeContext(), "/v1/chat/completions", HELLO)).json();
  assertEquals([chat.prompt_logprobs, chat.prompt_token_ids], [null, null]);
  assertEquals(chat.choices[0].token_ids, null);
  const ask = { model: "tiny", prompt: "ab" };
  const [text] = (await (await post(fakeContext(), "/v1/completions", ask)).json()).choices;
  assertEquals([text.prompt_logprobs, text.prompt_token_ids, text.token_ids], [null, null, null]);
});

Deno.test("streamed, a prompt's ids come once, with the first event", async () => {
  const ids = { return_token_ids: true, stream: true };
  const chat = await events(
    await post(fakeContext(), "/v1/chat/completions", { ...HELLO, ...ids, n: 2 }),
  );
  const prompt = [...new TextEncoder().encode("<user>hi</user><assistant>")];
  assertEquals(chat.map((chunk) => chunk["prompt_token_ids"]).filter(Boolean), [prompt]);
  assertEquals(chat[0]?.["prompt_token_ids"], prompt);
  const [first] = await events(
    await post(fakeContext(), "/v1/completions", { model: "tiny", prompt: "ab", ...ids }),
  );
  const [choice] = completionChunkSchema.parse(first).choices;
  assertEquals([choice?.prompt_token_ids, choice?.token_ids], [[97, 98], []]);
});

Deno.test("a chat's log probabilities by token id have the sampled token's, too", () => {
  const tokenizer = byteTokenizer;
  const drawn = { token: 65, logprob: -1, top: [{ token: 66, logprob: -2 }] };
  const asked = { logprob_token_ids: [66], return_tokens_as_token_ids: true };
  const tops = (top: typeof drawn.top) =>
    chatLogprobs(tokenizer, [{ ...drawn, top }], asked)[0]?.top_logprobs.map(({ token }) => token);
  assertEquals(tops(drawn.top), ["token_id:65", "token_id:66"]);
  assertEquals(tops([{ token: 65, logprob: -1 }]), ["token_id:65"]);
});

Deno.test("a server may be told to name tokens by their ids, unless a request says otherwise", async () => {
  const plain = fakeContext();
  const context = { ...plain, options: { ...plain.options, tokensAsIds: true } };
  const bodies = [
    ["/v1/completions", { model: "tiny", prompt: "ab", logprobs: 1 }],
    ["/v1/chat/completions", { ...HELLO, logprobs: true }],
    ["/v1/chat/completions/batch", { ...HELLO, messages: [HELLO.messages], logprobs: true }],
  ] as const;
  for (const [path, body] of bodies) {
    const isNamed = async (more: object) =>
      (await (await post(context, path, { ...body, ...more })).text()).includes('"token_id:');
    assertEquals([await isNamed({}), await isNamed({ return_tokens_as_token_ids: false })], [
      true,
      false,
    ], path);
  }
});

Deno.test("of a completion's likeliest tokens the sampled one is the first", () => {
  const top = [{ token: 66, logprob: -0.5 }, { token: 65, logprob: -1 }];
  const { top_logprobs } = completionLogprobs(byteTokenizer, [{ token: 65, logprob: -1, top }], 0);
  assertEquals(Object.entries(top_logprobs[0] ?? {}), [["A", -1], ["B", -0.5]]);
});

Deno.test("tokenizer_info tells what a client needs that encodes through the server", async () => {
  const context = fakeContext();
  const response = await createApp(context).request("/tokenizer_info");
  const info = await response.json();
  assertEquals(info.eos_token, context.model.tokenizer.tokenText(2));
  assertEquals([info.bos_token, info.vocab_size], [null, context.model.vocabSize]);
});
