// deno-lint-ignore-file camelcase -- names of the wire format
/** Thinking in Anthropic's Messages API, by its client: blocks, events, bounds, and what goes back. */
import Anthropic from "@anthropic-ai/sdk";
import { assert, assertEquals } from "@std/assert";
import { JinjaChatTemplate } from "../../src/checkpoint/text/chat_template.ts";
import { createApp } from "../../server/http/app.ts";
import { messageErrorSchema, messageSchema } from "../../server/http/messages/schema.ts";
import { type Json, post } from "./asked.ts";
import { type FakeContext, fakeContext } from "./fake_context.ts";

const PATH = "/v1/messages";
const HI: Anthropic.MessageParam = { role: "user", content: "hi" };
const ASK = { model: "tiny", max_tokens: 100, messages: [HI] };
const ENABLED = { thinking: { type: "enabled" as const, budget_tokens: 50 } };
const THOUGHT = "<think>\nTwo and two.\n</think>\n\nFour.";
const BLOCK = { type: "thinking", thinking: "Two and two.", signature: "" };
const TEMPLATE = "{{ reasoning_effort }}/{{ enable_thinking }}{% set known = tools %}" +
  "{% for m in messages %}<{{ m.role }}>{{ m.content }}[{{ m.reasoning }}]{% endfor %}";

function saying(reply: string, reasoning: "qwen3" | "none" = "qwen3"): FakeContext {
  const context = fakeContext(reasoning === "none" ? {} : { reasoning });
  context.engine.reply = () => reply;
  const chatTemplate = new JinjaChatTemplate(TEMPLATE, {});
  return { ...context, model: { ...context.model, chatTemplate } };
}

function clientOf(context: FakeContext): Anthropic {
  const app = createApp(context);
  const fetch = (input: string | URL | Request, init?: RequestInit) =>
    Promise.resolve(app.request(String(input), init));
  return new Anthropic({ baseURL: "http://localhost", apiKey: "any", maxRetries: 0, fetch });
}

/** What a message has to say, by its schema. */
function contentOf(message: Anthropic.Message): unknown {
  return messageSchema.parse(JSON.parse(JSON.stringify(message))).content;
}

function promptOf({ engine, model }: FakeContext): string {
  return model.tokenizer.decode([...engine.requests.at(-1)?.prompt ?? []]);
}

Deno.test("thinking is a block before the text where it is asked for, whole and streamed", async () => {
  const { messages } = clientOf(saying(THOUGHT));
  const whole = await messages.create({ ...ASK, ...ENABLED });
  const blocks = [BLOCK, { type: "text", text: "Four." }];
  assertEquals(contentOf(whole), blocks);
  assertEquals(whole.usage.output_tokens, THOUGHT.length);
  const stream = messages.stream({ ...ASK, ...ENABLED });
  const thought: string[] = [];
  stream.on("thinking", (delta) => void thought.push(delta));
  // the client puts the blocks together by itself
  assertEquals(contentOf(await stream.finalMessage()), blocks);
  assert(thought.length > 5);
  assertEquals(thought.join(""), "Two and two.");
  const adaptive = await messages.create({ ...ASK, thinking: { type: "adaptive" } });
  assertEquals(contentOf(adaptive), blocks);
});

Deno.test("thinking that nobody asks to see is left out", async () => {
  const { messages } = clientOf(saying(THOUGHT));
  const quiet: readonly Pick<Anthropic.MessageCreateParams, "thinking">[] = [
    {},
    { thinking: { ...ENABLED.thinking, display: "omitted" } },
    { thinking: { type: "adaptive", display: "omitted" } },
  ];
  for (const more of quiet) {
    const text = [{ type: "text", text: "Four." }];
    assertEquals(contentOf(await messages.create({ ...ASK, ...more })), text);
    assertEquals(contentOf(await messages.stream({ ...ASK, ...more }).finalMessage()), text);
  }
});

Deno.test("thinking that is cut off is all of a message", async () => {
  const { messages } = clientOf(saying(THOUGHT));
  const cut = { ...ASK, ...ENABLED, max_tokens: 12 };
  for (const message of [await messages.create(cut), await messages.stream(cut).finalMessage()]) {
    assertEquals(contentOf(message), [{ ...BLOCK, thinking: "Two" }]);
    assertEquals(message.stop_reason, "max_tokens");
  }
});

Deno.test("a use of a tool follows thinking", async () => {
  const call = `<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>`;
  const { messages } = clientOf(saying(`hm</think>${call}`));
  const tools = [{ name: "weather", input_schema: { type: "object" as const } }];
  const asked = { ...ASK, ...ENABLED, tools };
  for (
    const message of [await messages.create(asked), await messages.stream(asked).finalMessage()]
  ) {
    assertEquals(message.content.map(({ type }) => type), ["thinking", "tool_use"]);
    assertEquals(message.stop_reason, "tool_use");
  }
});

Deno.test("the template is told, and a budget bounds the tokens", async () => {
  const context = saying(THOUGHT);
  const { messages } = clientOf(context);
  const cases: readonly (readonly [Partial<Anthropic.MessageCreateParams>, string])[] = [
    [{}, "/"],
    [ENABLED, "/True"],
    [{ thinking: { type: "adaptive" }, output_config: { effort: "max" } }, "max/True"],
    [{ output_config: { effort: "low" } }, "low/True"],
    [{ thinking: { type: "disabled" }, output_config: { effort: "low" } }, "none/False"],
  ];
  for (const [more, told] of cases) {
    await messages.create({ ...ASK, ...more, stream: false });
    assertEquals(promptOf(context), `${told}<user>hi[]`);
    const { reasoningBudget } = context.engine.requests.at(-1)?.sampling ?? {};
    assertEquals(reasoningBudget?.tokens, more === ENABLED ? 50 : undefined);
    const { model, messages: turns } = ASK;
    const { input_tokens } = await messages.countTokens(
      { model, messages: turns, ...more } as never,
    );
    assertEquals(input_tokens, context.engine.requests.at(-1)?.prompt.length);
  }
});

Deno.test("thinking goes back as what the assistant thought, redacted thinking does not", async () => {
  const context = saying(THOUGHT);
  const { messages } = clientOf(context);
  const { content } = await messages.create({ ...ASK, ...ENABLED });
  const redacted = { type: "redacted_thinking" as const, data: "x" };
  await messages.create({
    ...ASK,
    messages: [
      HI,
      { role: "assistant", content },
      { role: "user", content: "and" },
      { role: "assistant", content: [redacted, { type: "text", text: "Five." }] },
      { role: "user", content: "so" },
    ],
  });
  const turns = "<user>hi[]<assistant>Four.[Two and two.]<user>and[]<assistant>Five.[]<user>so[]";
  assertEquals(promptOf(context), `/${turns}`);
});

Deno.test("thinking of a model that the server does not part is named, or refused where that is strict", async () => {
  const context = saying("x", "none");
  const strict = { ...context, options: { ...context.options, strict: true } };
  const cases: readonly (readonly [Json, string | null])[] = [
    [ENABLED, "thinking.type"],
    [{ thinking: { type: "adaptive" } }, "thinking.type"],
    [{ thinking: { type: "disabled" } }, null],
  ];
  for (const path of [PATH, `${PATH}/count_tokens`]) {
    for (const [more, named] of cases) {
      const { max_tokens, ...rest } = ASK;
      const body = { ...rest, ...(path === PATH && { max_tokens }), ...more };
      const answer = await post(context, path, body);
      assertEquals([answer.status, answer.headers.get("lembas-ignored")], [200, named]);
      const refused = await post(strict, path, body);
      assertEquals(refused.status, named === null ? 200 : 400);
      if (named === null) continue;
      const { error } = messageErrorSchema.parse(await refused.json());
      assert(error.message.includes(`'${named}'`), error.message);
    }
  }
});
