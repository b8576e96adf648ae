// deno-lint-ignore-file camelcase -- names of the wire format
/** Tools over HTTP, with an engine that says what it is told to: answers, streams and refusals. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { JinjaChatTemplate } from "../../src/checkpoint/text/chat_template.ts";
import type { ServerContext } from "../../server/context.ts";
import { errorOf, events, type Json, post } from "./asked.ts";
import { fakeContext, type FakeEngine } from "./fake_context.ts";

const CITY = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const WEATHER = {
  type: "function",
  function: { name: "weather", description: "Tells it", parameters: CITY },
};
const ADD = { type: "function", function: { name: "add", strict: true, parameters: CITY } };
const ASK = { model: "tiny", messages: [{ role: "user", content: "hi" }], tools: [WEATHER, ADD] };
const CALL = `<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>`;
const CHAT = "/v1/chat/completions";

interface Call {
  readonly index: number;
  readonly id?: string;
  readonly type?: string;
  readonly function: { readonly name?: string; readonly arguments: string };
}

interface Choice {
  readonly index: number;
  readonly finish_reason: string | null;
  readonly message: { readonly content: string | null; readonly tool_calls?: readonly Call[] };
  readonly delta: { readonly content?: string; readonly tool_calls?: readonly Call[] };
}

function saying(reply: string): ServerContext & { readonly engine: FakeEngine } {
  const context = fakeContext();
  context.engine.reply = () => reply;
  return context;
}

function choicesOf(answer: Json): readonly Choice[] {
  return answer["choices"] as readonly Choice[];
}

async function said(context: ServerContext, more: Json = {}): Promise<Choice> {
  const answer = await post(context, CHAT, { ...ASK, ...more });
  const body = await answer.json();
  assertEquals(answer.status, 200, JSON.stringify(body));
  const [choice] = choicesOf(body);
  assert(choice !== undefined);
  return choice;
}

Deno.test("a call is in tool_calls, and content is what was said before it", async () => {
  const { message, finish_reason } = await said(saying(`Let me see.\n${CALL}`));
  assertEquals([message.content, finish_reason], ["Let me see.", "tool_calls"]);
  const [call] = message.tool_calls ?? [];
  assertEquals(call?.function, { name: "weather", arguments: `{"city": "Oslo"}` });
  assert(call?.type === "function" && /^call_[0-9a-f]{24}$/.test(call.id ?? ""));
  const alone = await said(saying(CALL));
  assertEquals(alone.message.content, null);
  const none = await said(saying("Just words."));
  assertEquals([none.message.content, none.finish_reason], ["Just words.", "stop"]);
  assert(!("tool_calls" in none.message));
});

Deno.test("a stream has content, then each call: its id and name, and pieces of its arguments", async () => {
  const context = saying(`So: ${CALL}\n${CALL}`);
  const answer = await post(context, CHAT, { ...ASK, stream: true, logprobs: true });
  const choices = (await events(answer)).flatMap(choicesOf);
  const deltas = choices.map(({ delta }) => delta);
  assertEquals(deltas.map(({ content }) => content ?? "").join(""), "So:");
  const pieces = deltas.flatMap(({ tool_calls = [] }) => tool_calls);
  const heads = pieces.filter(({ id }) => id !== undefined);
  assertEquals(heads.map(({ index, function: { name } }) => [index, name]), [
    [0, "weather"],
    [1, "weather"],
  ]);
  assert(heads[0]?.id !== heads[1]?.id);
  for (const at of [0, 1]) {
    const own = pieces.filter(({ index }) => index === at);
    assert(own.length > 5 && own[0]?.id !== undefined && own[0].type === "function");
    assertEquals(own.map((one) => one.function.arguments).join(""), `{"city": "Oslo"}`);
  }
  assertEquals(choices.at(-1)?.finish_reason, "tool_calls");
  assertEquals(choices.filter(({ finish_reason }) => finish_reason !== null).length, 1);
  const first = deltas.findIndex(({ tool_calls }) => tool_calls !== undefined);
  assert(deltas.slice(first).every(({ content }) => !content));
});

Deno.test("a stream says what the whole answer does: broken calls are content", async () => {
  const broken = `<tool_call>{"name": "weather", "arguments": {"city": Oslo}}</tool_call>`;
  const unknown = `<tool_call>{"name": "sub", "arguments": {}}</tool_call>`;
  for (const text of [broken, unknown, `${broken}${CALL}`, `a ${CALL} b`]) {
    const whole = await said(saying(text));
    const answer = await post(saying(text), CHAT, { ...ASK, stream: true });
    const choices = (await events(answer)).flatMap(choicesOf);
    const content = choices.map(({ delta }) => delta.content ?? "").join("");
    assertEquals(content, whole.message.content ?? "", text);
    assertEquals(choices.at(-1)?.finish_reason, whole.finish_reason, text);
  }
});

Deno.test("a call that max_tokens cuts off is there as far as it goes", async () => {
  const { message, finish_reason } = await said(saying(CALL), { max_tokens: 60 });
  assertEquals(finish_reason, "length");
  const [call] = message.tool_calls ?? [];
  assert(call !== undefined && call.function.arguments.length > 2);
  assert(`{"city": "Oslo"}`.startsWith(call.function.arguments));
});

Deno.test("parallel_tool_calls: false has one call, and samples have their own", async () => {
  const twice = saying(`${CALL}\n${CALL}`);
  const { message } = await said(twice, { parallel_tool_calls: false });
  assertEquals(message.tool_calls?.length, 1);
  const broken = `<tool_call>{"name": "weather", "arguments": {"city": Oslo}}</tool_call>`;
  const chunks = await events(
    await post(saying(`${broken}${CALL}${CALL}${broken}`), CHAT, {
      ...ASK,
      ...{ parallel_tool_calls: false, stream: true },
    }),
  );
  const deltas = chunks.flatMap(choicesOf).map(({ delta }) => delta);
  assertEquals(deltas.map(({ content }) => content ?? "").join(""), broken + broken);
  const ids = deltas.flatMap(({ tool_calls = [] }) => tool_calls).filter(({ id }) => id);
  assertEquals(ids.map(({ index }) => index), [0, 1]);
  const answer = await post(twice, CHAT, { ...ASK, n: 2, stream: true });
  const choices = (await events(answer)).flatMap(choicesOf);
  for (const at of [0, 1]) {
    const own = choices.filter(({ index }) => index === at);
    const calls = own.flatMap(({ delta }) => delta.tool_calls ?? []);
    assertEquals(calls.filter(({ id }) => id !== undefined).length, 2);
    assertEquals(own.at(-1)?.finish_reason, "tool_calls");
  }
});

Deno.test("tool_choice: none leaves the tools and the reading out; others are grammars", async () => {
  const context = saying(CALL);
  const none = await said(context, { tool_choice: "none" });
  assertEquals([none.message.content, none.finish_reason], [CALL, "stop"]);
  const named = { type: "function", function: { name: "add" } };
  for (const [choice, names] of [["required", ["weather", "add"]], [named, ["add"]]] as const) {
    // which is of content, and a forced answer has none
    const format = { response_format: { type: "json_object" } };
    await said(context, { tool_choice: choice, ...format });
    const grammar = context.engine.requests.at(-1)?.sampling.grammar;
    assert(grammar?.type === "calls");
    assertEquals(grammar.tools.map(({ name }) => name), [...names]);
    assertEquals(grammar.tools.at(-1)?.field, "tools[1].function.parameters");
    assertEquals(grammar.most, choice === "required" ? 16 : 1);
  }
  assertEquals(context.engine.requests[0]?.sampling.grammar, undefined);
});

Deno.test("the template gets the tools, and the history's calls with their arguments as objects", async () => {
  const context = saying("Fine.");
  const source = "{{ tools | tojson }}{% for m in messages %}<{{ m.role }}>{{ m.content }}" +
    "{% for c in m.tool_calls or [] %}{{ c.id }}:{{ c.function.name }}" +
    "{{ c.function.arguments | tojson }}{% endfor %}{% endfor %}";
  const chatTemplate = new JinjaChatTemplate(source, {});
  const model = { ...context.model, chatTemplate };
  const call = { id: "c1", type: "function", function: { name: "add", arguments: `{"a":[1]}` } };
  const messages = [
    ...ASK.messages,
    { role: "assistant", content: null, tool_calls: [call] },
    { role: "tool", tool_call_id: "c1", content: "3" },
  ];
  const asked = { messages, tools: [ADD] };
  const answer = await post({ ...context, model }, "/tokenize", asked);
  const { tokens } = await answer.json();
  const text = new TextDecoder().decode(new Uint8Array(tokens));
  const shown = `[{"type": "function", "function": {"name": "add", "parameters": {`;
  assertStringIncludes(text, shown);
  assert(!text.includes("strict"));
  assertStringIncludes(text, `<user>hi<assistant>c1:add{"a": [1]}<tool>3`);
  const whole = await post({ ...context, model }, CHAT, { ...asked, model: "tiny", max_tokens: 1 });
  await whole.body?.cancel();
  assertEquals([whole.status, context.engine.requests[0]?.prompt], [200, tokens]);
});

Deno.test("a call that was cut off goes back as it came, however the template tells of calls", async () => {
  const context = saying("Fine.");
  const cut = { id: "c1", type: "function", function: { name: "add", arguments: `{"a": [1` } };
  const messages = [
    ...ASK.messages,
    { role: "assistant", content: null, tool_calls: [cut] },
    { role: "tool", tool_call_id: "c1", content: "3" },
  ];
  const loop = "{% for m in messages %}{{ m.content }}";
  for (
    const [source, shown] of [
      [`${loop}{% endfor %}`, `{"name": "add", "arguments": {"a": [1}`],
      [
        `${loop}{% if tools %}{% endif %}{% for c in m.tool_calls or [] %}` +
        "{{ c.function.arguments | tojson }}{% endfor %}{% endfor %}",
        String.raw`"{\"a\": [1"`,
      ],
    ] as const
  ) {
    const model = { ...context.model, chatTemplate: new JinjaChatTemplate(source, {}) };
    const answer = await post({ ...context, model }, "/tokenize", { messages });
    const text = new TextDecoder().decode(new Uint8Array((await answer.json()).tokens));
    assertStringIncludes(text, shown);
  }
});

Deno.test("what is wrong with tools is refused by the name of its field", async () => {
  const [user] = ASK.messages;
  const tool = { role: "tool", content: "3" };
  const good = { id: "c1", type: "function", function: { name: "add", arguments: "{}" } };
  const cases: readonly (readonly [Json, string])[] = [
    [{ tools: [{ type: "retrieval" }] }, "tools[0].type"],
    [{ tools: [{ type: "function", function: { name: "a b" } }] }, "tools[0].function.name"],
    [{ tools: [WEATHER, WEATHER] }, "tools[1].function.name"],
    [
      { tools: [WEATHER, { type: "function", function: { name: "a", parameters: [] } }] },
      "tools[1].function.parameters",
    ],
    [
      { tools: [{ type: "function", function: { name: "a", parameters: { type: "string" } } }] },
      "tools[0].function.parameters",
    ],
    [{ tool_choice: "sometimes" }, "tool_choice"],
    [{ tool_choice: { type: "function", function: { name: "sub" } } }, "tool_choice"],
    [{ tools: [], tool_choice: "required" }, "tool_choice"],
    [{ messages: [user, tool] }, "messages[1].tool_call_id"],
    [{ messages: [user, { ...tool, tool_call_id: "c1" }] }, "messages[1].tool_call_id"],
    [
      {
        messages: [
          user,
          { role: "assistant", content: null, tool_calls: [good] },
          { ...tool, tool_call_id: "c2" },
        ],
      },
      "messages[2].tool_call_id",
    ],
    [{ messages: [{ ...user, tool_calls: [good] }] }, "messages[0].tool_calls"],
    [{ messages: [user, { role: "assistant", tool_calls: [] }] }, "messages[1].content"],
  ];
  for (const [more, param] of cases) {
    const error = await errorOf(await post(saying("x"), CHAT, { ...ASK, ...more }));
    assertEquals([error.status, error.param], [400, param], error.message);
  }
});

Deno.test("a format whose calls begin with a special token shows it, and a forced call begins with it", async () => {
  const call = `[{"name": "weather", "arguments": {"city": "Oslo"}}]`;
  const context = saying(`[TOOL_CALLS]${call}`);
  const { tokenizer } = context.model;
  const special = { ...tokenizer, tokenId: () => 7, isSpecial: (id: number) => id === 7 };
  const model = { ...context.model, tokenizer: special, callFormat: "mistral" as const };
  const auto = await said({ ...context, model });
  assertEquals(auto.message.tool_calls?.[0]?.function.name, "weather");
  assert(/^[0-9a-f]{9}$/.test(auto.message.tool_calls?.[0]?.id ?? ""));
  assertEquals(context.engine.requests[0]?.sampling.skipSpecialTokens, false);
  context.engine.reply = () => call;
  const forced = await said({ ...context, model }, { tool_choice: "required" });
  assertEquals(forced.message.tool_calls?.[0]?.function.arguments, `{"city": "Oslo"}`);
  assertEquals(context.engine.requests[1]?.prompt.at(-1), 7);
  const llama = { ...model, callFormat: "llama3_json" as const };
  await said({ ...context, model: llama }, { tool_choice: "required" });
  const [last] = context.engine.requests.slice(-1);
  assertEquals([last?.sampling.skipSpecialTokens, last?.prompt.at(-1) === 7], [false, false]);
});
