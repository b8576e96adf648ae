// deno-lint-ignore-file camelcase -- names of the wire format
/** The default model under `serve --jump-forward`: what is forced is whole and valid over HTTP. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import OpenAI from "openai";
import { ServerProcess } from "./server_process.ts";

const MODEL = "SmolLM2-135M-Instruct";
const MAIN = new URL("../../server/cli/serve.ts", import.meta.url);
const ORDER = {
  type: "object",
  properties: {
    customer_name: { type: "string", maxLength: 12 },
    payment_status: { enum: ["paid_in_full", "not_yet_paid"] },
  },
  required: ["customer_name", "payment_status"],
  additionalProperties: false,
};
const ask = {
  model: MODEL,
  temperature: 0,
  max_tokens: 120,
  messages: [{ role: "user" as const, content: "Mira Berg has paid her order. Note it." }],
};

function checkOrder(text: string): void {
  const { customer_name, payment_status, ...more } = JSON.parse(text);
  assertEquals([typeof customer_name, more], ["string", {}], text);
  assert(ORDER.properties.payment_status.enum.includes(payment_status), text);
}

/** Tokens that were foreseen since the start; whether the model then draws them is up to it. */
async function foreseen(url: string): Promise<number> {
  const metrics = await (await fetch(`${url}/metrics`)).text();
  const line = /^vllm:spec_decode_num_draft_tokens_total(?:\{.*\})? (\d+)/m.exec(metrics);
  assert(line !== null, metrics);
  return Number(line[1]);
}

async function checkTag({ chat }: OpenAI): Promise<void> {
  const content = { type: "json_schema", json_schema: ORDER };
  const tag = { type: "tag", begin: "<function=note_order>", content, end: "</function>" };
  const format = {
    ...{ type: "triggered_tags", triggers: ["<function="], tags: [tag] },
    ...{ at_least_one: true, stop_after_first: true },
  };
  const response_format = { type: "structural_tag", format };
  // a form that OpenAI's client does not know
  const { choices } = await chat.completions.create({ ...ask, ...{ response_format } as object });
  const [choice] = choices;
  assertEquals(choice?.finish_reason, "stop");
  const text = choice?.message.content ?? "";
  assertMatch(text, /^<function=note_order>.*<\/function>$/s);
  checkOrder(text.slice(tag.begin.length, -tag.end.length));
}

async function checkCall({ chat }: OpenAI): Promise<void> {
  const described = { name: "note_order", parameters: ORDER };
  const asked = {
    ...{ ...ask, parallel_tool_calls: false, tool_choice: "required" as const },
    tools: [{ type: "function" as const, function: described }],
  };
  const { choices } = await chat.completions.create(asked);
  const [choice] = choices;
  assertEquals(choice?.finish_reason, "tool_calls");
  const [call] = choice?.message.tool_calls ?? [];
  assert(call?.type === "function" && call.function.name === "note_order");
  checkOrder(call.function.arguments);
  const streamed = await chat.completions.stream(asked).finalChatCompletion();
  const [same] = streamed.choices[0]?.message.tool_calls ?? [];
  assert(same?.type === "function");
  checkOrder(same.function.arguments);
}

Deno.test("a structural tag and required calls come whole where forced text is foreseen", async () => {
  const limits = ["--max-batch", "2", "--max-context", "512", "--kv-memory", "256MiB"];
  const child = new ServerProcess(MAIN, { args: ["--port", "0", "--jump-forward", ...limits] });
  try {
    const url = await child.url();
    const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "any", maxRetries: 0 });
    await checkTag(client);
    const first = await foreseen(url);
    assert(first > 0, "nothing of the tag was foreseen");
    await checkCall(client);
    assert(await foreseen(url) > first, "nothing of the calls was foreseen");
  } finally {
    child.kill("SIGTERM");
    assertEquals((await child.ended()).code, 0);
  }
});
