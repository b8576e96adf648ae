// deno-lint-ignore-file camelcase -- names of the wire format
/** OpenAI's Responses API over an engine that says what it is told to: shapes, events, tools. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import OpenAI from "openai";
import { JinjaChatTemplate } from "../../../../src/checkpoint/text/chat_template.ts";
import { createApp } from "../../../../server/http/app.ts";
import {
  countSchema,
  responseEventSchema,
  responseSchema,
} from "../../../../server/http/responses/answer_schema.ts";
import { type Json, post } from "../../asked.ts";
import { type FakeContext, fakeContext, type FakeOptions } from "../../fake_context.ts";

const PATH = "/v1/responses";
const ASK = { model: "tiny", input: "hi" };
const WEATHER = {
  type: "function" as const,
  name: "weather",
  description: "Tells it",
  parameters: { type: "object", properties: { city: { type: "string" } } },
  strict: null,
};
const CALL = `<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>`;
const PROMPT = "<user>hi</user><assistant>";

function saying(reply: string, options: FakeOptions = {}): FakeContext {
  const context = fakeContext(options);
  context.engine.reply = () => reply;
  return context;
}

function clientOf(context: FakeContext): OpenAI {
  const app = createApp(context);
  const fetch = (input: string | URL | Request, init?: RequestInit) =>
    Promise.resolve(app.request(String(input), init));
  return new OpenAI({ baseURL: "http://localhost/v1", apiKey: "any", maxRetries: 0, fetch });
}

async function answered(context: FakeContext, more: Json = {}) {
  const response = await post(context, PATH, { ...ASK, ...more });
  const body = await response.json();
  assertEquals(response.status, 200, JSON.stringify(body));
  return responseSchema.parse(body);
}

type Sent = Json & { readonly type: string };

/** The data of a stream's events, whose names and numbers are right. */
async function sent(context: FakeContext, more: Json = {}): Promise<readonly Sent[]> {
  const response = await post(context, PATH, { ...ASK, ...more, stream: true });
  assertEquals(response.headers.get("content-type"), "text/event-stream; charset=utf-8");
  const blocks = (await response.text()).split("\n\n");
  assertEquals(blocks.pop(), "");
  return blocks.map((block, index) => {
    const [, event, data = ""] = /^event: (.*)\ndata: (.*)$/.exec(block) ?? [];
    const parsed = responseEventSchema.parse(JSON.parse(data));
    assertEquals([parsed.type, parsed.sequence_number], [event, index]);
    return parsed;
  });
}

/** Names of events without their beginning, of which neighbours of one name are one. */
function order(events: readonly Sent[]): readonly string[] {
  return events.map(({ type }) => type.replace("response.", ""))
    .filter((type, at, all) => type !== all[at - 1]);
}

/** Without what differs between two answers to one question. */
function alike(output: unknown): unknown {
  const text = JSON.stringify(output);
  return JSON.parse(text.replaceAll(/[0-9a-f]{32}/g, "").replaceAll(/call_\w+/g, "call_"));
}

Deno.test("an answer says what it was asked for, what came out and what it cost", async () => {
  const context = fakeContext({ sampling: { topP: 0.5 } });
  const metadata = { a: "b" };
  const { id, created_at, completed_at, output, ...rest } = await answered(context, {
    ...{ metadata, user: "u", temperature: 0.25, prompt_cache_key: "k", max_tool_calls: 3 },
  });
  assert(/^resp_[0-9a-f]{32}$/.test(id), id);
  assert(Math.abs(created_at - Date.now() / 1000) < 60 && (completed_at ?? 0) >= created_at);
  const part = { type: "output_text", text: "Hello, world", annotations: [], logprobs: [] };
  assertEquals(alike(output), [
    { id: "msg_out0", type: "message", status: "completed", role: "assistant", content: [part] },
  ]);
  assertEquals(rest, {
    object: "response",
    ...{ status: "completed", background: false, error: null, incomplete_details: null },
    ...{ instructions: null, max_output_tokens: null, max_tool_calls: 3, metadata },
    ...{ model: "tiny", parallel_tool_calls: true, previous_response_id: null, conversation: null },
    ...{ prompt_cache_key: "k", reasoning: { effort: null, summary: null } },
    ...{ safety_identifier: null, service_tier: "default" },
    // this server keeps nothing
    store: false,
    ...{ temperature: 0.25, text: { format: { type: "text" }, verbosity: "medium" } },
    ...{ tool_choice: "auto", tools: [], top_logprobs: 0, top_p: 0.5, truncation: "disabled" },
    usage: {
      input_tokens: PROMPT.length,
      input_tokens_details: { cached_tokens: 0, cache_write_tokens: 0 },
      output_tokens: 12,
      output_tokens_details: { reasoning_tokens: 0 },
      total_tokens: PROMPT.length + 12,
    },
    user: "u",
  });
  const cut = await answered(context, { max_output_tokens: 3 });
  assertEquals([cut.status, cut.completed_at], ["incomplete", null]);
  assertEquals(cut.incomplete_details, { reason: "max_output_tokens" });
  const [message] = cut.output;
  assert(message?.type === "message");
  assertEquals([message.status, message.content[0]?.text], ["incomplete", "Hel"]);
  const nothing = await answered(saying("x"), { stop: "x" });
  assertEquals(nothing.output.length, 1);
});

Deno.test("sampling is the chat's, and so is truncation", async () => {
  const context = fakeContext();
  await answered(context, { temperature: 0, top_k: 3, seed: 5, stop: ["END"] });
  const { temperature, topK, seed, stop } = context.engine.requests[0]?.sampling ?? {};
  assertEquals([temperature, topK, seed, stop], [0, 3, 5, ["END"]]);
  const long = { input: "x".repeat(300), max_output_tokens: 50 };
  const refused = await post(context, PATH, { ...ASK, ...long });
  assertEquals(refused.status, 400);
  const { usage } = await answered(context, { ...long, truncation: "auto" });
  assertEquals(usage?.input_tokens, 150);
});

Deno.test("a stream has OpenAI's events in their order, and ends as the whole answer", async () => {
  const events = await sent(fakeContext());
  const text = ["content_part.added", "output_text.delta", "output_text.done", "content_part.done"];
  const message = ["output_item.added", ...text, "output_item.done"];
  assertEquals(order(events), ["created", "in_progress", ...message, "completed"]);
  const first = events[0]?.["response"] as Json;
  assertEquals([first["status"], first["output"], first["usage"]], ["in_progress", [], null]);
  const deltas = events.filter(({ type }) => type === "response.output_text.delta");
  assert(deltas.length > 5);
  assertEquals(deltas.map(({ delta }) => delta).join(""), "Hello, world");
  const last = responseSchema.parse(events.at(-1)?.["response"]);
  const whole = await answered(fakeContext());
  assertEquals(alike(last.output), alike(whole.output));
  assertEquals([last.status, last.usage], ["completed", whole.usage]);
  const cut = await sent(fakeContext(), { max_output_tokens: 3 });
  assertEquals(cut.at(-1)?.type, "response.incomplete");
});

Deno.test("a call is an item after the text before it, whole and as events", async () => {
  const context = saying(`Let me see.\n${CALL}\n${CALL}`);
  const tools = [WEATHER];
  const { output, status } = await answered(context, { tools });
  assertEquals([status, output.map(({ type }) => type)], [
    "completed",
    ["message", "function_call", "function_call"],
  ]);
  const [text, first, second] = output;
  assert(text?.type === "message" && first?.type === "function_call");
  assert(second?.type === "function_call" && first.call_id !== second.call_id);
  assertEquals(text.content[0]?.text, "Let me see.");
  assertEquals([first.name, first.arguments, first.status], [
    "weather",
    `{"city": "Oslo"}`,
    "completed",
  ]);
  const single = await answered(context, { tools, parallel_tool_calls: false });
  assertEquals(single.output.length, 2);
  const events = await sent(saying(CALL), { tools });
  const call = ["function_call_arguments.delta", "function_call_arguments.done"];
  assertEquals(order(events), [
    ...["created", "in_progress", "output_item.added", ...call, "output_item.done", "completed"],
  ]);
  const streamed = await clientOf(context).responses.stream({ ...ASK, tools }).finalResponse();
  assertEquals(streamed.output.map(({ type }) => type), output.map(({ type }) => type));
  const last = responseSchema.parse((await sent(context, { tools })).at(-1)?.["response"]);
  assertEquals(alike(last.output), alike(output));
});

Deno.test("a call that turns out broken is none, and its text follows", async () => {
  const reply = `<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo" x\n</tool_call>`;
  const tools = [WEATHER];
  const whole = await answered(saying(reply), { tools });
  const [only, ...more] = whole.output;
  assert(only?.type === "message" && more.length === 0);
  assertEquals(only.content[0]?.text, reply);
  const events = await sent(saying(reply), { tools });
  const items = events.filter(({ type }) => type === "response.output_item.done")
    .map(({ item }) => item as Json);
  assertEquals(items.map(({ type, status }) => [type, status]), [
    ["function_call", "incomplete"],
    ["message", "completed"],
  ]);
  const { output } = responseSchema.parse(events.at(-1)?.["response"]);
  assertEquals(output.map(({ type }) => type), ["message"]);
  const streamed = await clientOf(saying(reply)).responses.stream({ ...ASK, tools })
    .finalResponse();
  assertEquals(streamed.output_text, reply);
});

Deno.test("log probabilities are told where 'include' asks for them", async () => {
  const context = fakeContext();
  const more = { include: ["message.output_text.logprobs"], top_logprobs: 2, max_output_tokens: 4 };
  const [message] = (await answered(context, more)).output;
  assert(message?.type === "message");
  const { logprobs } = message.content[0] ?? {};
  assertEquals(
    logprobs?.map(({ token, top_logprobs }) => [token, top_logprobs.length]),
    [
      ..."Hell",
    ].map((token) => [token, 2]),
  );
  const events = await sent(context, more);
  const deltas = events.filter(({ type }) => type === "response.output_text.delta");
  assertEquals(deltas.flatMap(({ logprobs }) => logprobs), logprobs);
  const done = events.find(({ type }) => type === "response.output_text.done");
  assertEquals(done?.["logprobs"], logprobs);
});

Deno.test("items have the prompt of the same chat, and are counted so", async () => {
  const context = fakeContext();
  const source = "{{ tools | tojson }}{% for m in messages %}<{{ m.role }}>{{ m.content }}" +
    "{% for c in m.tool_calls or [] %}{{ c.id }}{{ c.function | tojson }}{% endfor %}{% endfor %}";
  const model = { ...context.model, chatTemplate: new JinjaChatTemplate(source, {}) };
  const engine = Object.assign(context.engine, { maxContext: 1000 });
  const one = { ...context, model, engine };
  const parts = (type: string, ...texts: string[]) => texts.map((text) => ({ type, text }));
  const city = `{"city":"Oslo"}`;
  const call = (call_id: string) => ({
    ...{ type: "function_call", id: `fc_${call_id}`, call_id, name: "weather", arguments: city },
    status: "completed",
  });
  const body = {
    model: "tiny",
    instructions: "Be brief.",
    tools: [WEATHER],
    input: [
      { role: "user", content: parts("input_text", "Is it", "warm?") },
      { type: "reasoning", id: "rs_1", summary: [] },
      {
        ...{ type: "message", role: "assistant", id: "msg_1", status: "completed" },
        content: [{ ...parts("output_text", "So:")[0], annotations: [] }],
      },
      call("c1"),
      call("c2"),
      { type: "function_call_output", call_id: "c1", output: "3" },
      { type: "function_call_output", call_id: "c2", output: parts("input_text", "4") },
      { role: "developer", content: "Now." },
      { ...call("c3"), arguments: `{"city":"O`, status: "incomplete" },
    ],
  };
  assertEquals((await post(one, PATH, body)).status, 200);
  const { type: _, ...described } = WEATHER;
  const called = (id: string, text = city) => ({
    ...{ id, type: "function", function: { name: "weather", arguments: text } },
  });
  const chat = {
    model: "tiny",
    tools: [{ type: "function", function: described }],
    messages: [
      { role: "system", content: "Be brief." },
      { role: "user", content: parts("text", "Is it", "warm?") },
      { role: "assistant", content: "So:", tool_calls: [called("c1"), called("c2")] },
      { role: "tool", tool_call_id: "c1", content: "3" },
      { role: "tool", tool_call_id: "c2", content: "4" },
      { role: "developer", content: "Now." },
      { role: "assistant", content: "", tool_calls: [called("c3", `{"city":"O`)] },
    ],
  };
  assertEquals((await post(one, "/v1/chat/completions", chat)).status, 200);
  const [own, chats] = engine.requests.map(({ prompt }) =>
    context.model.tokenizer.decode([...prompt])
  );
  assertStringIncludes(own ?? "", `"city": "Oslo"`);
  assertEquals(own, chats);
  const counted = countSchema.parse(await (await post(one, `${PATH}/input_tokens`, body)).json());
  assertEquals(counted.input_tokens, engine.requests[0]?.prompt.length);
});

Deno.test("a grammar holds what 'tool_choice' and 'text.format' ask for", async () => {
  const context = saying(CALL);
  const grammar = async (more: Json) => {
    await answered(context, more);
    return context.engine.requests.at(-1)?.sampling.grammar?.type;
  };
  const tools = [WEATHER];
  assertEquals(await grammar({ tools }), undefined);
  assertEquals(await grammar({ tools, tool_choice: "required" }), "calls");
  const named = { type: "function", name: "weather" };
  assertEquals(await grammar({ tools, tool_choice: named }), "calls");
  assertEquals(await grammar({ tools, tool_choice: "none" }), undefined);
  assertEquals(await grammar({ text: { format: { type: "json_object" } } }), "json");
  const format = {
    type: "json_schema" as const,
    name: "x",
    schema: { type: "object" },
    strict: true,
  };
  assertEquals(await grammar({ text: { format, verbosity: "medium" } }), "json_schema");
  assertEquals((await answered(context, { text: { format } })).text.format, format);
});

Deno.test("a response that fails ends with an event that says so, without its inside", async () => {
  const context = fakeContext();
  context.engine.failure = { step: 3, error: new TypeError("broken") };
  const events = await sent(context);
  assertEquals(events.at(-1)?.type, "response.failed");
  const { status, error, output } = responseSchema.parse(events.at(-1)?.["response"]);
  assertEquals([status, error?.code, output], ["failed", "server_error", []]);
  assert(!JSON.stringify(error).includes("broken"));
  assertEquals((await post(context, PATH, ASK)).status, 500);
});
