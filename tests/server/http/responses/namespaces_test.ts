// deno-lint-ignore-file camelcase -- names of the wire format
/** Functions under a namespace: what the model is told, how calls are named, and what is refused. */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { JinjaChatTemplate } from "../../../../src/checkpoint/text/chat_template.ts";
import { errorOf, type Json, post } from "../../asked.ts";
import { type FakeContext, fakeContext } from "../../fake_context.ts";

const PATH = "/v1/responses";
const OPEN = {
  type: "function",
  name: "open",
  parameters: { type: "object", properties: { app: { type: "string" } } },
};
const DESK = { type: "namespace", name: "desk", description: "A desk.", tools: [OPEN] };
const CALL = `<tool_call>\n{"name": "desk__open", "arguments": {"app": "x"}}\n</tool_call>`;

function saying(reply: string): FakeContext {
  const context = fakeContext();
  context.engine.reply = () => reply;
  return context;
}

async function asked(
  context: FakeContext,
  tools: readonly Json[],
  more: Json = {},
): Promise<Response> {
  return await post(context, PATH, { model: "tiny", input: "hi", tools, ...more });
}

Deno.test("a call of a namespace's function names both, whole and as events", async () => {
  const { output, tools } = await (await asked(saying(CALL), [DESK])).json();
  const named = ({ name, namespace }: Json) => ({ name, namespace });
  assertEquals(output.map(named), [{ name: "open", namespace: "desk" }]);
  assertEquals([tools[0].type, tools[0].tools[0].name], ["namespace", "open"]);
  const text = await (await asked(saying(CALL), [DESK], { stream: true })).text();
  for (const event of ["response.output_item.added", "response.output_item.done"]) {
    const [, data = "{}"] = text.split(`event: ${event}\ndata: `);
    assertEquals(named(JSON.parse(data.split("\n")[0] ?? "").item), {
      name: "open",
      namespace: "desk",
    });
  }
});

Deno.test("a function without a namespace keeps its name, whatever it looks like", async () => {
  const plain = { ...OPEN, name: "desk__open" };
  const { output } = await (await asked(saying(CALL), [plain])).json();
  assertEquals([output[0].name, "namespace" in output[0]], ["desk__open", false]);
});

Deno.test("the model is told of a namespace's functions, and of calls, by one name", async () => {
  const context = fakeContext();
  const source = "{% for t in tools %}{{ t.function.name }};{% endfor %}" +
    "{% for m in messages %}{% for c in m.tool_calls or [] %}{{ c.function.name }}{% endfor %}" +
    "{% endfor %}";
  const model = { ...context.model, chatTemplate: new JinjaChatTemplate(source, {}) };
  const called = { type: "function_call", call_id: "c1", name: "open", arguments: "{}" };
  const input = [
    { role: "user", content: "hi" },
    { ...called, namespace: "desk" },
    { type: "function_call_output", call_id: "c1", output: "done" },
  ];
  const body = { model: "tiny", tools: [DESK], input };
  assertEquals((await post({ ...context, model }, PATH, body)).status, 200);
  const prompt = String.fromCharCode(...context.engine.requests[0]?.prompt ?? []);
  assertStringIncludes(prompt, "desk__open;desk__open");
});

Deno.test("two functions of one name, and names that are too long together, are refused", async () => {
  const twice = await errorOf(await asked(saying(""), [DESK, { ...OPEN, name: "desk__open" }]));
  assertEquals([twice.status, twice.param], [400, "tools[1].name"]);
  const long = { ...DESK, name: "d".repeat(61) };
  const refused = await errorOf(await asked(saying(""), [long]));
  assertEquals([refused.status, refused.param], [400, "tools[0].tools[0].name"]);
});
