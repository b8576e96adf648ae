// deno-lint-ignore-file camelcase -- names of the wire format
/** Reasoning over HTTP, with an engine that says what it is told to: answers, streams and what follows. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { JinjaChatTemplate } from "../../src/checkpoint/text/chat_template.ts";
import type { ReasoningFormat } from "../../src/calls/reasoning.ts";
import { errorOf, events, HELLO, type Json, post } from "./asked.ts";
import { type FakeContext, fakeContext } from "./fake_context.ts";

const CHAT = "/v1/chat/completions";
const THOUGHT = "<think>\nTwo and two.\n</think>\n\nFour.";
const CALL = `<tool_call>\n{"name": "add", "arguments": {}}\n</tool_call>`;
const TOOLS = [{ type: "function", function: { name: "add" } }];
const SCHEMA = { type: "object", properties: { a: { type: "boolean" } } };
const FORM = { response_format: { type: "json_schema", json_schema: { schema: SCHEMA } } };

interface Said {
  readonly role?: string;
  readonly refusal?: null;
  readonly content?: string | null;
  readonly reasoning?: string | null;
  readonly tool_calls?: readonly { readonly function: Json }[];
}

interface Choice {
  readonly message: Said;
  readonly delta: Said;
  readonly finish_reason: string | null;
}

interface Answer {
  readonly choices: readonly Choice[];
  readonly usage: Json;
}

function saying(
  reply: string,
  reasoning: ReasoningFormat | "none" = "qwen3",
  template = "",
): FakeContext {
  const context = fakeContext(reasoning === "none" ? {} : { reasoning });
  context.engine.reply = () => reply;
  if (template === "") return context;
  const chatTemplate = new JinjaChatTemplate(template, {});
  return { ...context, model: { ...context.model, chatTemplate } };
}

async function said(
  context: FakeContext,
  more: Json = {},
): Promise<Choice & Pick<Answer, "usage">> {
  const answer = await post(context, CHAT, { ...HELLO, ...more });
  const { choices: [choice], usage } = await answer.json() as Answer;
  assert(choice !== undefined, "no choice");
  return { ...choice, usage };
}

async function streamed(context: FakeContext, more: Json = {}): Promise<readonly Said[]> {
  const answer = await post(context, CHAT, { ...HELLO, stream: true, ...more });
  const chunks = await events(answer) as unknown as readonly Answer[];
  return chunks.flatMap(({ choices }) => choices.map(({ delta }) => delta));
}

function together(deltas: readonly Said[], side: "content" | "reasoning"): string {
  return deltas.map((delta) => delta[side] ?? "").join("");
}

Deno.test("reasoning is beside the content, and its tokens are counted", async () => {
  const { message, usage, finish_reason } = await said(saying(THOUGHT));
  assertEquals(message, {
    ...{ role: "assistant", content: "Four.", refusal: null, reasoning: "Two and two." },
  });
  assertEquals(finish_reason, "stop");
  const tokens = THOUGHT.indexOf("</think>") + "</think".length;
  assertEquals(usage["completion_tokens_details"], { reasoning_tokens: tokens });
  assertEquals(usage["completion_tokens"], THOUGHT.length);
});

Deno.test("a server without a parser leaves the text and the usage as they are", async () => {
  const { message, usage } = await said(saying(THOUGHT, "none"));
  assertEquals(message, { role: "assistant", content: THOUGHT, refusal: null });
  assert(!("completion_tokens_details" in usage));
});

Deno.test("a stream has reasoning in deltas of its own, then content", async () => {
  const deltas = await streamed(saying(THOUGHT));
  assertEquals(together(deltas, "reasoning"), "Two and two.");
  assertEquals(together(deltas, "content"), "Four.");
  const [first] = deltas;
  assertEquals([first?.role, first?.reasoning], ["assistant", "T"]);
  assert(deltas.every(({ reasoning, content }) => !reasoning || content === undefined));
  const last = deltas.findLastIndex(({ reasoning }) => reasoning);
  assert(last < deltas.findIndex(({ content }) => content));
});

Deno.test("include_reasoning: false leaves it out, and counts it", async () => {
  const more = { include_reasoning: false };
  const { message, usage } = await said(saying(THOUGHT), more);
  assertEquals([message.content, message.reasoning], ["Four.", null]);
  assert(((usage["completion_tokens_details"] as Json)["reasoning_tokens"] as number) > 0);
  const deltas = await streamed(saying(THOUGHT), more);
  assert(!deltas.some((delta) => "reasoning" in delta));
  assertEquals(together(deltas, "content"), "Four.");
});

Deno.test("reasoning that is cut off has no content", async () => {
  const { message, finish_reason } = await said(saying(THOUGHT), { max_tokens: 12 });
  assertEquals([message.content, message.reasoning, finish_reason], [null, "Two", "length"]);
});

Deno.test("calls behind reasoning are calls, whether it ends or not", async () => {
  for (const text of [`hm</think>${CALL}`, `<think>hm ${CALL}`]) {
    const { message, finish_reason } = await said(saying(text), { tools: TOOLS });
    assertEquals([message.content, message.reasoning, finish_reason], [null, "hm", "tool_calls"]);
    assertEquals(message.tool_calls?.map(({ function: { name } }) => name), ["add"]);
    const deltas = await streamed(saying(text), { tools: TOOLS });
    assertEquals([together(deltas, "reasoning"), together(deltas, "content")], ["hm", ""]);
    assert(deltas.some(({ tool_calls }) => tool_calls !== undefined));
  }
});

Deno.test("the prompt says whether a text begins with reasoning", async () => {
  const plain = "Just words.";
  const open = "{{ messages[0].content }}<assistant><think>\n";
  const over = "{{ messages[0].content }}<assistant><think>\n\n</think>\n\n";
  const cases: readonly (readonly [FakeContext, Json, "content" | "reasoning"])[] = [
    [saying(plain, "deepseek_r1"), {}, "reasoning"],
    [saying(plain, "deepseek_v3"), {}, "content"],
    [saying(plain, "deepseek_v3", open), {}, "reasoning"],
    [saying(plain, "qwen3", over), {}, "content"],
    [saying(plain, "qwen3"), { chat_template_kwargs: { enable_thinking: false } }, "content"],
  ];
  for (const [index, [context, more, side]] of cases.entries()) {
    const { message } = await said(context, more);
    assertEquals(message[side], plain, `case ${index}`);
  }
  const goOn = async (content: string) => {
    const messages = [...HELLO.messages, { role: "assistant", content }];
    const more = { messages, continue_final_message: true };
    return (await said(saying("b</think>c", "qwen3"), more)).message;
  };
  assertEquals((await goOn("<think>a")).reasoning, "b");
  assertEquals((await goOn("<think>a</think>Be")).content, "b</think>c");
});

Deno.test("a form holds behind the reasoning, and alone where there is none", async () => {
  const schema = { type: "json_schema", schema: SCHEMA, strict: false } as const;
  const context = saying("x</think>{}");
  await said(context, FORM);
  await said(context, { ...FORM, chat_template_kwargs: { enable_thinking: false } });
  const maybe = saying("{}", "deepseek_v3");
  await said(maybe, FORM);
  const asked = [...context.engine.requests, ...maybe.engine.requests];
  const marks = { type: "behind", start: "<think>", end: "</think>" } as const;
  assertEquals(asked.map(({ sampling }) => sampling.grammar), [
    { ...marks, required: true, grammar: schema },
    schema,
    { ...marks, required: false, grammar: schema },
  ]);
});

Deno.test("thinking_token_budget bounds the reasoning, from where the prompt says it begins", async () => {
  const bounded = { thinking_token_budget: 5 };
  const open = "{{ messages[-1].content }}<assistant><think>\n";
  const contexts = [saying("x", "qwen3"), saying("x", "deepseek_v3"), saying("x", "qwen3", open)];
  const begins = ["unmarked", "before", "within"] as const;
  for (const [i, context] of contexts.entries()) {
    await said(context, bounded);
    await said(context, { ...bounded, tools: TOOLS });
    const closing = context.model.tokenizer.encode("</think>");
    const budget = { tokens: 5, start: "<think>", closing, begins: begins[i] };
    assertEquals(context.engine.requests.map(({ sampling }) => sampling.reasoningBudget), [
      { ...budget, ends: ["</think>"] },
      { ...budget, ends: ["</think>", "<tool_call>"] },
    ]);
  }
});

Deno.test("a bound of -1 is none, nor is one where the model does not reason; without a parser it is refused", async () => {
  const context = saying("x");
  await said(context, { thinking_token_budget: -1 });
  const quiet = { chat_template_kwargs: { enable_thinking: false } };
  await said(context, { thinking_token_budget: 5, ...quiet });
  const asked = context.engine.requests.map(({ sampling }) => sampling.reasoningBudget);
  assertEquals(asked, [undefined, undefined]);
  for (const [parser, tokens] of [["none", 5], ["qwen3", -2], ["qwen3", 1.5]] as const) {
    const body = { ...HELLO, thinking_token_budget: tokens };
    const refused = await errorOf(await post(saying("x", parser), CHAT, body));
    assertEquals([refused.status, refused.param], [400, "thinking_token_budget"]);
  }
});

Deno.test("special marks are shown to the reader, and no form is held behind them", async () => {
  const context = saying("[THINK]hm[/THINK]so", "mistral");
  const { tokenizer } = context.model;
  const special = {
    ...context.model,
    tokenizer: {
      ...tokenizer,
      tokenId: (text: string) => text === "[THINK]" ? 256 : tokenizer.tokenId(text),
    },
  };
  const { message } = await said({ ...context, model: special });
  assertEquals([message.content, message.reasoning], ["so", "hm"]);
  assertEquals(context.engine.requests.at(-1)?.sampling.skipSpecialTokens, false);
  const refused = await errorOf(
    await post({ ...context, model: special }, CHAT, { ...HELLO, ...FORM }),
  );
  assertEquals([refused.status, refused.param], [400, "response_format"]);
  assertStringIncludes(refused.message, "special tokens");
});

Deno.test("reasoning of the history is the template's, by either of its names", async () => {
  const template =
    "{% for m in messages %}[{{ m.reasoning_content or '-' }}|{{ m.reasoning or '-' }}]{% endfor %}";
  for (const name of ["reasoning", "reasoning_content"]) {
    const context = saying("ok", "qwen3", template);
    const turns = [...HELLO.messages, { role: "assistant", content: "4", [name]: "hm" }];
    await said(context, { messages: [...turns, ...HELLO.messages] });
    const prompt = context.model.tokenizer.decode(context.engine.requests.at(-1)?.prompt ?? []);
    assertEquals(prompt, "[-|-][hm|hm][-|-]");
  }
});
