// deno-lint-ignore-file camelcase -- names of the wire format
/** Anthropic's Messages API over an engine that says what it is told to: shapes, events, tools. */
import Anthropic from "@anthropic-ai/sdk";
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import type { ChatTemplate } from "../../src/checkpoint/checkpoint.ts";
import { JinjaChatTemplate } from "../../src/checkpoint/text/chat_template.ts";
import { createApp } from "../../server/http/app.ts";
import {
  countSchema,
  messageErrorSchema,
  messageSchema,
} from "../../server/http/messages/schema.ts";
import { type Json, post } from "./asked.ts";
import { type FakeContext, fakeContext, type FakeOptions } from "./fake_context.ts";

const PATH = "/v1/messages";
const COUNT = "/v1/messages/count_tokens";
const MESSAGES = [{ role: "user", content: "hi" }];
const ASK = { model: "tiny", max_tokens: 100, messages: MESSAGES };
const WEATHER = {
  name: "weather",
  description: "Tells it",
  input_schema: { type: "object" as const, properties: { city: { type: "string" } } },
};
const CALL = `<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>`;
const PROMPT = "<user>hi</user><assistant>";

function saying(reply: string, options: FakeOptions = {}): FakeContext {
  const context = fakeContext(options);
  context.engine.reply = () => reply;
  return context;
}

function clientOf(context: FakeContext, apiKey = "any"): Anthropic {
  const app = createApp(context);
  const fetch = (input: string | URL | Request, init?: RequestInit) =>
    Promise.resolve(app.request(String(input), init));
  return new Anthropic({ baseURL: "http://localhost", apiKey, maxRetries: 0, fetch });
}

async function answered(context: FakeContext, more: Json = {}) {
  const response = await post(context, PATH, { ...ASK, ...more });
  const body = await response.json();
  assertEquals(response.status, 200, JSON.stringify(body));
  return messageSchema.parse(body);
}

interface Sent {
  readonly event: string | undefined;
  readonly data: Json & { readonly type: string };
}

async function sent(response: Response): Promise<readonly Sent[]> {
  assertEquals(response.headers.get("content-type"), "text/event-stream; charset=utf-8");
  const blocks = (await response.text()).split("\n\n");
  assertEquals(blocks.pop(), "");
  return blocks.map((block) => {
    const [, event, data = ""] = /^event: (.*)\ndata: (.*)$/.exec(block) ?? [];
    return { event, data: JSON.parse(data) };
  });
}

/** Names of events, of which neighbours of one name are one. */
function order(events: readonly Sent[]): readonly string[] {
  return events.map(({ data }) => data.type).filter((type, at, all) => type !== all[at - 1]);
}

/** The prompt that the engine was given. */
function promptOf({ engine, model }: FakeContext): string {
  return model.tokenizer.decode([...engine.requests.at(-1)?.prompt ?? []]);
}

Deno.test("an answer is a message of text blocks, and says why it ended and what it cost", async () => {
  const context = fakeContext();
  const { id, ...message } = await answered(context);
  assert(/^msg_[0-9a-f]{32}$/.test(id), id);
  assertEquals(message, {
    type: "message",
    role: "assistant",
    model: "tiny",
    content: [{ type: "text", text: "Hello, world" }],
    stop_reason: "end_turn",
    stop_sequence: null,
    usage: {
      input_tokens: PROMPT.length,
      cache_creation_input_tokens: 0,
      cache_read_input_tokens: 0,
      output_tokens: 12,
    },
  });
  const cut = await answered(context, { max_tokens: 3 });
  assertEquals([cut.stop_reason, cut.content], ["max_tokens", [{ type: "text", text: "Hel" }]]);
});

Deno.test("sampling is the chat's: what is said, and what is not", async () => {
  const context = fakeContext({ sampling: { topP: 0.5 } });
  await answered(context, { temperature: 0.25, top_k: 3, stop_sequences: ["\n", "END"] });
  const { temperature, topK, topP, stop, maxTokens } = context.engine.requests[0]?.sampling ?? {};
  assertEquals([temperature, topK, topP, maxTokens], [0.25, 3, 0.5, 100]);
  assertEquals(stop, ["\n", "END"]);
});

Deno.test("turns become the template's messages: system, blocks, results of tools", async () => {
  const context = fakeContext();
  let seen: unknown;
  const template: ChatTemplate = {
    source: "",
    render: (messages) => {
      seen = messages;
      return "x";
    },
  };
  const use = { type: "tool_use", id: "t1", name: "weather", input: { city: "Oslo" } };
  const body = {
    ...ASK,
    system: [{ type: "text", text: "Be brief.", cache_control: { type: "ephemeral" } }],
    messages: [
      { role: "user", content: "Is it" },
      { role: "user", content: [{ type: "text", text: "warm?", citations: null }] },
      { role: "assistant", content: [{ type: "thinking", thinking: "?", signature: "s" }, use] },
      {
        role: "user",
        content: [
          { type: "tool_result", tool_use_id: "t1", content: [{ type: "text", text: "20" }] },
          { type: "text", text: "So?" },
        ],
      },
      { role: "system", content: "Briefer." },
    ],
  };
  const model = { ...context.model, chatTemplate: template };
  assertEquals((await post({ ...context, model }, PATH, body)).status, 200);
  const call = { name: "weather", arguments: { city: "Oslo" } };
  assertEquals(seen, [
    { role: "system", content: "Be brief." },
    { role: "user", content: "Is it\nwarm?" },
    {
      ...{ role: "assistant", content: "", reasoning: "?", reasoning_content: "?" },
      tool_calls: [{ id: "t1", type: "function", function: call }],
    },
    { role: "tool", content: "20", tool_call_id: "t1" },
    { role: "user", content: "So?" },
    { role: "system", content: "Briefer." },
  ]);
});

Deno.test("an assistant's last turn is gone on with", async () => {
  const context = fakeContext();
  await answered(context, { messages: [...MESSAGES, { role: "assistant", content: "Well," }] });
  assertEquals(promptOf(context), "<user>hi</user><assistant>Well,");
});

Deno.test("a tool's use is a block after the text before it, also as events", async () => {
  const context = saying(`Let me see.\n${CALL}\n${CALL}`);
  const asked = { tools: [WEATHER], max_tokens: 170 };
  const { content, stop_reason, usage } = await answered(context, asked);
  assertEquals(stop_reason, "tool_use");
  const [text, first, second] = content;
  assertEquals(text, { type: "text", text: "Let me see." });
  assert(first?.type === "tool_use" && second?.type === "tool_use" && first.id !== second.id);
  assertEquals([first.name, first.input], ["weather", { city: "Oslo" }]);
  const one = { type: "auto", disable_parallel_tool_use: true };
  const single = await answered(context, { ...asked, tool_choice: one });
  assertEquals(single.content.length, 2);
  const stream = await clientOf(context).messages.stream({
    ...{ model: "tiny", ...asked },
    messages: [{ role: "user", content: "hi" }],
  }).finalMessage();
  assertEquals(
    stream.content.map((block) => ({ ...block, ...("id" in block && { id: "" }) })) as unknown,
    content.map((block) => ({ ...block, ...("id" in block && { id: "" }) })),
  );
  assertEquals([stream.stop_reason, stream.usage.output_tokens], ["tool_use", usage.output_tokens]);
});

Deno.test("a stream has Anthropic's events in their order", async () => {
  const text = await sent(await post(fakeContext(), PATH, { ...ASK, stream: true }));
  for (const { event, data } of text) assertEquals(event, data.type);
  const [start, open] = text.map(({ data }) => data);
  const { content, usage, stop_reason } = start?.["message"] as Json;
  assertEquals([content, stop_reason], [[], null]);
  assertEquals((usage as Json)["input_tokens"], PROMPT.length);
  assertEquals(open?.["content_block"], { type: "text", text: "" });
  const block = ["content_block_start", "content_block_delta", "content_block_stop"];
  assertEquals(order(text), ["message_start", ...block, "message_delta", "message_stop"]);
  const end = text.at(-2)?.data;
  assertEquals(end?.["delta"], { stop_reason: "end_turn", stop_sequence: null });
  assertEquals((end?.["usage"] as Json)["output_tokens"], 12);
  const asked = { ...ASK, tools: [WEATHER], stream: true };
  const used = await sent(await post(saying(`So: \n ${CALL}`), PATH, asked));
  assertEquals(order(used), [
    ...["message_start", ...block, ...block, "message_delta", "message_stop"],
  ]);
  const pieces = used.map(({ data }) => data["delta"] as Json | undefined)
    .filter((piece) => piece?.["type"] === "input_json_delta");
  assert(pieces.length > 5);
  assertEquals(pieces.map((piece) => piece?.["partial_json"]).join(""), `{"city": "Oslo"}`);
});

Deno.test("a stream that fails ends with an error event", async () => {
  const context = fakeContext();
  context.engine.failure = { step: 3, error: new TypeError("broken") };
  const events = await sent(await post(context, PATH, { ...ASK, stream: true }));
  const last = messageErrorSchema.parse(events.at(-1)?.data);
  assertEquals([events.at(-1)?.event, last.error.type], ["error", "api_error"]);
  assert(!last.error.message.includes("broken"));
});

Deno.test("tools are forced by `any` and `tool`, and left out by `none`", async () => {
  const context = saying(CALL);
  const grammar = async (tool_choice: Json) => {
    await answered(context, { tools: [WEATHER], tool_choice });
    return context.engine.requests.at(-1)?.sampling.grammar?.type;
  };
  assertEquals(await grammar({ type: "any" }), "calls");
  assertEquals(await grammar({ type: "tool", name: "weather" }), "calls");
  assertEquals(await grammar({ type: "auto" }), undefined);
  const none = await answered(context, { tools: [WEATHER], tool_choice: { type: "none" } });
  assertEquals(none.content, [{ type: "text", text: CALL }]);
  const format = { type: "json_schema", schema: { type: "object" } };
  await answered(context, { output_config: { format } });
  assertEquals(context.engine.requests.at(-1)?.sampling.grammar?.type, "json_schema");
});

Deno.test("tokens are counted by the same rendering", async () => {
  const context = fakeContext();
  const body = { model: "tiny", messages: MESSAGES, system: "Be brief." };
  const response = await post(context, COUNT, body);
  const { usage } = await answered(context, { system: "Be brief." });
  assertEquals(countSchema.parse(await response.json()), { input_tokens: usage.input_tokens });
});

Deno.test("a conversation with tools has the prompt of the same chat", async () => {
  const context = fakeContext();
  const source = "{{ tools | tojson }}{% for m in messages %}<{{ m.role }}>{{ m.content }}" +
    "{% for c in m.tool_calls or [] %}{{ c.id }}{{ c.function | tojson }}{% endfor %}{% endfor %}";
  const model = { ...context.model, chatTemplate: new JinjaChatTemplate(source, {}) };
  const engine = Object.assign(context.engine, { maxContext: 1000 });
  const one = { ...context, model, engine };
  const use = { type: "tool_use", id: "c1", name: "weather", input: { city: "Oslo" } };
  const messages = [
    ...MESSAGES,
    { role: "assistant", content: [{ type: "text", text: "So:" }, use] },
    { role: "user", content: [{ type: "tool_result", tool_use_id: "c1", content: "3" }] },
  ];
  const body = { model: "tiny", system: "Be brief.", messages, tools: [WEATHER] };
  assertEquals((await post(one, PATH, { ...body, max_tokens: 9 })).status, 200);
  const { name, description, input_schema: parameters } = WEATHER;
  const call = { name, arguments: JSON.stringify(use.input) };
  const chat = {
    model: "tiny",
    max_tokens: 9,
    tools: [{ type: "function", function: { name, description, parameters } }],
    messages: [
      { role: "system", content: "Be brief." },
      ...MESSAGES,
      {
        role: "assistant",
        content: "So:",
        tool_calls: [{ id: "c1", type: "function", function: call }],
      },
      { role: "tool", tool_call_id: "c1", content: "3" },
    ],
  };
  assertEquals((await post(one, "/v1/chat/completions", chat)).status, 200);
  const [own, chats] = engine.requests.map(({ prompt }) => prompt);
  assertStringIncludes(context.model.tokenizer.decode([...own ?? []]), `"city": "Oslo"`);
  assertEquals(own, chats);
  const { input_tokens } = countSchema.parse(await (await post(one, COUNT, body)).json());
  assertEquals(input_tokens, own?.length);
});

Deno.test("the anthropic client reads answers, counts and errors", async () => {
  const context = fakeContext({ apiKey: "secret" });
  const client = clientOf(context, "secret");
  const body = { model: "tiny", messages: [{ role: "user" as const, content: "hi" }] };
  const message = await client.messages.create({ ...body, max_tokens: 20 });
  assertEquals(message.content[0]?.type === "text" && message.content[0].text, "Hello, world");
  assert(message._request_id?.startsWith("req_"));
  // an answer's content goes back as the client has it
  const again = await client.messages.create({
    model: "tiny",
    max_tokens: 20,
    messages: [
      ...body.messages,
      { role: message.role, content: message.content },
      { role: "user", content: "more" },
    ],
  });
  assertEquals(again.stop_reason, "end_turn");
  const { input_tokens } = await client.messages.countTokens(body);
  assertEquals(input_tokens, PROMPT.length);
  await assertRejects(
    () => clientOf(context, "wrong").messages.countTokens(body),
    Anthropic.AuthenticationError,
    "Incorrect API key",
  );
  context.engine.failure = { step: 3, error: new TypeError("broken") };
  const stream = client.messages.stream({ ...body, max_tokens: 20 });
  await assertRejects(() => stream.finalMessage(), Anthropic.APIError, "api_error");
});
