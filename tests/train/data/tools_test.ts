/** Training data with tools: the calls carry loss, behind the very prompt that the server makes. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { callParser } from "../../../src/calls/formats.ts";
import type { TextSource } from "../../../src/train/data/render.ts";
import { readDataset } from "../../../src/train/data/dataset.ts";
import { encodeChat } from "../../../server/generate/plan.ts";
import { fakeContext } from "../../server/fake_context.ts";
import { fileOf, templateSource, tinySource } from "../sources.ts";

const PARAMETERS = { type: "object", properties: { city: { type: "string" } } };
const TOOLS = [{
  type: "function" as const,
  function: { name: "weather", description: "Tells it", strict: true, parameters: PARAMETERS },
}];
const CALL = {
  id: "call00001",
  type: "function" as const,
  function: { name: "weather", arguments: `{"city": "Oslo", "n": [1, true, null]}` },
};
const MESSAGES = [
  { role: "user", content: "How cold is it in Oslo?" },
  { role: "assistant", content: null, tool_calls: [CALL] },
  { role: "tool", tool_call_id: CALL.id, content: "-3" },
  { role: "assistant", content: "It is -3." },
];

/** A template that knows tools, in Qwen's form. */
const KNOWING = "{% if tools %}{{ '<|im_start|>system\\n' + (tools | tojson) + '<|im_end|>\\n' }}" +
  "{% endif %}{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content }}" +
  "{% for c in m.tool_calls or [] %}{{ '<tool_call>' + (c.function | tojson) + '</tool_call>' }}" +
  "{% endfor %}{{ '<|im_end|>\\n' }}{% endfor %}" +
  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

function sources(): readonly TextSource[] {
  return [KNOWING, templateSource("chatml")].map((template) =>
    tinySource({ tokenizer: "smollm", template })
  );
}

async function serverPrompt(source: TextSource, count: number): Promise<readonly number[]> {
  const { model } = fakeContext();
  const { tokenizer, chatTemplate } = source;
  const caller = { tenant: "shire", signal: new AbortController().signal };
  return await encodeChat(
    { ...model, tokenizer, chatTemplate },
    { messages: MESSAGES.slice(0, count) as never, tools: TOOLS },
    { maxContext: Infinity, maxTokens: undefined, caller },
  );
}

Deno.test("a call carries loss behind the server's prompt, and the answer after its result too", async () => {
  for (const source of sources()) {
    const file = fileOf({ messages: MESSAGES, tools: TOOLS });
    const { examples: [row, ...more], warnings } = readDataset(file, { source, maxContext: 4096 });
    assertEquals([more.length, warnings], [0, []]);
    assert(row !== undefined);
    const first = row.weights.findIndex((weight) => weight > 0);
    assertEquals([...row.tokens.subarray(0, first)], await serverPrompt(source, 1));
    const whole = await serverPrompt(source, 3);
    assertEquals([...row.tokens.subarray(0, whole.length)], whole);
    const taught = [...row.tokens].filter((_, i) => (row.weights[i] ?? 0) > 0);
    const text = source.tokenizer.decode(taught, { skipSpecialTokens: false });
    assertMatch(text, /^<tool_call>[^]*"Oslo"[^]*<\/tool_call><\|im_end\|>It is -3.<\|im_end\|>$/);
    const events = callParser("hermes", ["weather"]).push(text);
    const args = events.map((event) => event.type === "arguments" ? event.text : "").join("");
    assertEquals(JSON.parse(args), JSON.parse(CALL.function.arguments));
  }
});

Deno.test("tools change the prompt, and null or none do not", () => {
  for (const source of sources()) {
    const rows = (more: Record<string, unknown>) =>
      readDataset(fileOf({ messages: [MESSAGES[0], MESSAGES[3]], ...more }), {
        ...{ source, maxContext: 4096 },
      }).examples;
    assertEquals(rows({ tools: null }), rows({}));
    assertEquals(rows({ tools: [] }), rows({}));
    const [told, plain] = [rows({ tools: TOOLS }), rows({})];
    assert((told[0]?.tokens.length ?? 0) > (plain[0]?.tokens.length ?? 0) + 10);
  }
});
