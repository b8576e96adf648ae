// deno-lint-ignore-file camelcase -- names of the wire format
/** Reasoning in OpenAI's Responses API, by its client: items, events, what is kept, and what goes back. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import OpenAI from "openai";
import { openTestStore } from "../../../adapters/store/test_store.ts";
import { JinjaChatTemplate } from "../../../../src/checkpoint/text/chat_template.ts";
import { Sealer } from "../../../../server/access/sealing.ts";
import { createApp } from "../../../../server/http/app.ts";
import {
  type ResponseBody,
  responseEventSchema,
  responseSchema,
} from "../../../../server/http/responses/answer_schema.ts";
import { createLog } from "../../../../server/telemetry/log.ts";
import { type Json, post } from "../../asked.ts";
import { byteTokenizer, type FakeContext, fakeContext } from "../../fake_context.ts";

const ASK = { model: "tiny", input: "hi" };
const THOUGHT = "<think>\nTwo and two.\n</think>\n\nFour.";
const CALL = `<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>`;
const TOOLS: OpenAI.Responses.Tool[] = [{
  ...{ type: "function", name: "weather", strict: null },
  parameters: { type: "object", properties: { city: { type: "string" } } },
}];
/** Shows who says what, thinks what and calls what; it knows tools, so that none are told in words. */
const TEMPLATE =
  "{% if enable_thinking is false %}!{% endif %}{% set known = tools %}{% for m in messages %}<{{ m.role }}>{{ m.content }}" +
  "{% if m.reasoning_content %}[{{ m.reasoning_content }}]{% endif %}" +
  "{% for c in m.tool_calls or [] %}({{ c.function.name }}){% endfor %}{% endfor %}";

function saying(reply: string): FakeContext {
  const context = fakeContext({ reasoning: "qwen3" });
  context.engine.reply = () => reply;
  Object.assign(context.engine, { maxContext: 1000 });
  const model = { ...context.model, chatTemplate: new JinjaChatTemplate(TEMPLATE, {}) };
  return { ...context, model };
}

function clientOf(context: FakeContext): OpenAI {
  const app = createApp(context);
  const fetch = (input: string | URL | Request, init?: RequestInit) =>
    Promise.resolve(app.request(String(input), init));
  return new OpenAI({ baseURL: "http://localhost/v1", apiKey: "any", maxRetries: 0, fetch });
}

function lastPrompt({ engine }: FakeContext): string {
  return byteTokenizer.decode(engine.requests.at(-1)?.prompt ?? []);
}

/** An answer by its schema, without what differs between two of them. */
function checked(response: OpenAI.Responses.Response): Pick<ResponseBody, "output" | "status"> {
  const { output, status } = responseSchema.parse(JSON.parse(JSON.stringify(response)));
  const text = JSON.stringify(output).replaceAll(/[0-9a-f]{32}/g, "");
  return { output: JSON.parse(text.replaceAll(/call_\w+/g, "call_")), status };
}

function reasoned(text: string, status = "completed") {
  const content = [{ type: "reasoning_text", text }];
  return { id: "rs_out0", type: "reasoning", status, summary: [], content };
}

function message(text: string, index: number) {
  const content = [{ type: "output_text", text, annotations: [], logprobs: [] }];
  const head = { id: `msg_out${index}`, type: "message", status: "completed", role: "assistant" };
  return { ...head, content };
}

/** Events of a stream by their names, of which neighbours of one name are one; each in its number. */
function order(events: readonly OpenAI.Responses.ResponseStreamEvent[]): readonly string[] {
  for (const [index, event] of events.entries()) {
    assertEquals(responseEventSchema.parse(event).sequence_number, index);
  }
  return events.map(({ type }) => type.replace("response.", ""))
    .filter((type, at, all) => type !== all[at - 1]);
}

const ITEM = (name: string) => [
  ...["output_item.added", "content_part.added", `${name}.delta`, `${name}.done`],
  ...["content_part.done", "output_item.done"],
];

Deno.test("reasoning is an item before the message, and its tokens are counted", async () => {
  const { responses } = clientOf(saying(THOUGHT));
  const whole = await responses.create(ASK);
  assertEquals(checked(whole), {
    output: [reasoned("Two and two."), message("Four.", 1)] as ResponseBody["output"],
    status: "completed",
  });
  assertEquals(whole.output_text, "Four.");
  // of the fake model each byte is a token, and the one that ends the mark is the answer's
  const tokens = THOUGHT.indexOf("</think>") + "</think".length;
  assertEquals(whole.usage?.output_tokens_details.reasoning_tokens, tokens);
  const plain = await clientOf(fakeContext()).responses.create(ASK);
  assertEquals(plain.output.map(({ type }) => type), ["message"]);
});

Deno.test("a stream tells reasoning as OpenAI's events, and ends as the whole answer", async () => {
  const { responses } = clientOf(saying(THOUGHT));
  const events = await Array.fromAsync(await responses.create({ ...ASK, stream: true }));
  const items = [...ITEM("reasoning_text"), ...ITEM("output_text")];
  assertEquals(order(events), ["created", "in_progress", ...items, "completed"]);
  const deltas = events.filter((event) => event.type === "response.reasoning_text.delta");
  assert(deltas.length > 5);
  assertEquals(deltas.map(({ delta }) => delta).join(""), "Two and two.");
  const [id] = deltas.map(({ item_id }) => item_id);
  assert(deltas.every((one) => one.item_id === id && one.output_index + one.content_index === 0));
  // the client puts the parts together by itself
  const streamed = await responses.stream(ASK).finalResponse();
  assertEquals(checked(streamed), checked(await responses.create(ASK)));
});

Deno.test("reasoning that is cut off is all of an answer that is incomplete", async () => {
  const { responses } = clientOf(saying(THOUGHT));
  const cut = { ...ASK, max_output_tokens: 12 };
  const whole = await responses.create(cut);
  const output = [reasoned("Two", "incomplete")] as ResponseBody["output"];
  assertEquals(checked(whole), { output, status: "incomplete" });
  assertEquals([whole.output_text, whole.incomplete_details?.reason], ["", "max_output_tokens"]);
  const events = await Array.fromAsync(await responses.create({ ...cut, stream: true }));
  const items = ITEM("reasoning_text");
  assertEquals(order(events), ["created", "in_progress", ...items, "incomplete"]);
});

Deno.test("calls follow reasoning that ends by its mark or with the call", async () => {
  for (const text of [`hm</think>${CALL}`, `<think>hm ${CALL}`]) {
    const { responses } = clientOf(saying(text));
    const whole = await responses.create({ ...ASK, tools: TOOLS });
    assertEquals(whole.output.map(({ type }) => type), ["reasoning", "function_call"]);
    assertEquals(checked(whole).output[0], reasoned("hm") as ResponseBody["output"][number]);
    const streamed = await responses.stream({ ...ASK, tools: TOOLS }).finalResponse();
    assertEquals(checked(streamed), checked(whole));
  }
});

Deno.test("log probabilities are the message's own, without reasoning and marks", async () => {
  const { responses } = clientOf(saying(THOUGHT));
  const told = await responses.create({
    ...{ ...ASK, include: ["message.output_text.logprobs"], top_logprobs: 1 },
  });
  const [, said] = told.output;
  assert(said?.type === "message" && said.content[0]?.type === "output_text");
  assertEquals(said.content[0].logprobs?.map(({ token }) => token).join(""), "Four.");
});

Deno.test("reasoning goes back as what the assistant thought before its next words or call", async () => {
  const context = saying(THOUGHT);
  const { responses, chat } = clientOf(context);
  const first = await responses.create(ASK);
  const thought = (text: string): OpenAI.Responses.ResponseReasoningItem => ({
    ...{ type: "reasoning", id: "rs_1", summary: [] },
    content: [{ type: "reasoning_text", text }],
  });
  const call = (call_id: string): OpenAI.Responses.ResponseInputItem => ({
    ...{ type: "function_call", call_id, name: "weather", arguments: "{}" },
  });
  const user = (content: string) => ({ role: "user" as const, content });
  await responses.create({
    ...ASK,
    input: [
      ...[user("hi"), ...first.output as OpenAI.Responses.ResponseInputItem[], user("and")],
      ...[thought("so"), call("a"), thought("or"), call("b")],
      // what only others can read, and a thought that was cut off
      { type: "reasoning", id: "rs_2", summary: [], encrypted_content: "x" },
      ...[{ ...thought("cut"), status: "incomplete" as const }, user("go on")],
      { type: "reasoning", id: "rs_3", summary: [{ type: "summary_text", text: "brief" }] },
      { role: "assistant", content: "on" },
    ],
  });
  const turns = "<user>hi<assistant>Four.[Two and two.]<user>and<assistant>[so](weather)";
  const more = "<assistant>[or](weather)<assistant>[cut]<user>go on<assistant>on[brief]";
  assertEquals(lastPrompt(context), turns + more);
  await chat.completions.create({
    model: "tiny",
    messages: [
      { role: "user", content: "hi" },
      { role: "assistant", content: "Four.", reasoning: "Two and two." } as never,
      { role: "user", content: "and" },
    ],
  });
  assertEquals(lastPrompt(context), "<user>hi<assistant>Four.[Two and two.]<user>and");
});

Deno.test("reasoning is kept: read, heard again, listed, and gone on from", async () => {
  await using opened = await openTestStore(createLog("silent"));
  const { store } = opened;
  const context = saying(THOUGHT);
  const sealer = new Sealer("a secret of the test");
  const { responses, conversations } = clientOf({
    ...{ ...context, responses: { store, sealer, days: 30 } },
  });
  const { id: conversation } = await conversations.create();
  const first = await responses.create({ ...ASK, conversation });
  assertEquals(checked(await responses.retrieve(first.id)), checked(first));
  const heard = await Array.fromAsync(await responses.retrieve(first.id, { stream: true }));
  const items = [...ITEM("reasoning_text"), ...ITEM("output_text")];
  assertEquals(order(heard), ["created", "in_progress", ...items, "completed"]);
  const listed = await Array.fromAsync(conversations.items.list(conversation, { order: "asc" }));
  assertEquals(listed.map(({ type }) => type), ["message", "reasoning", "message"]);
  await responses.create({ ...ASK, previous_response_id: first.id, input: "and" });
  const history = "<user>hi<assistant>Four.[Two and two.]<user>and";
  assertEquals(lastPrompt(context), history);
  const [thought, said] = first.output.map(({ id }) => id ?? "");
  const input = [thought, said].map((id) => ({ type: "item_reference" as const, id: id ?? "" }));
  const referring = await responses.create({ ...ASK, input });
  assertEquals(lastPrompt(context), "<assistant>Four.[Two and two.]");
  const given = await Array.fromAsync(responses.inputItems.list(referring.id, { order: "asc" }));
  assertEquals(given.map(({ type }) => type), ["reasoning", "message"]);
  // a summary is written without thinking
  context.engine.reply = () => "All of it.";
  const { output } = await responses.compact({ model: "tiny" as never, input: "hi" });
  assert(lastPrompt(context).startsWith("!<user>hi<user>Summarise"));
  await responses.create({ ...ASK, input: output as OpenAI.Responses.ResponseInputItem[] });
  assert(
    lastPrompt(context).endsWith("<assistant>Summary of the conversation up to here:\nAll of it."),
  );
});

Deno.test("a malformed reasoning item is refused by its name", async () => {
  for (const content of ["x", [{ type: "output_text", text: "x" }], [{ type: "reasoning_text" }]]) {
    const input = [{ type: "reasoning", id: "rs_1", summary: [], content }];
    const body = { ...ASK, input } satisfies Json;
    const answer = await post(saying("x"), "/v1/responses", body);
    const { error } = await answer.json();
    assertEquals(answer.status, 400);
    assertStringIncludes(error.param, "input[0].content");
  }
});
