// deno-lint-ignore-file camelcase -- names of the wire format
/** Tools in words, for chat templates that know none. */
import { assert, assertEquals } from "@std/assert";
import { JinjaChatTemplate } from "../../../src/checkpoint/text/chat_template.ts";

Deno.test("a template without tools is told of them in the system's message, or the user's", () => {
  const tools = [{ type: "function", function: { name: "weather" } }];
  const shown = '<tools>\n{"type": "function", "function": {"name": "weather"}}\n</tools>';
  const bare = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}";
  const system = { role: "system", content: "Be brief." };
  const user = { role: "user", content: "Hi" };
  const render = (source: string, ...messages: { role: string; content: string }[]) =>
    new JinjaChatTemplate(source, {}).render(messages, { tools });
  assert(render(bare, user).startsWith("[system]# Tools"));
  assert(render(bare, user).endsWith("</tool_call>[user]Hi"));
  assert(render(bare, system, user).startsWith("[system]Be brief.\n\n# Tools"));
  assert(render(bare, user).includes(shown));
  const strict =
    "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" +
    bare;
  assert(render(strict, user).startsWith("[user]# Tools"));
  assert(render(strict, user).endsWith("</tool_call>\n\nHi"));
  const results = [1, 2].map((n) => ({ role: "tool", content: `r${n}` }));
  const call = {
    role: "assistant",
    content: "So:",
    tool_calls: [{ function: { name: "f", arguments: {} } }],
  };
  const text = new JinjaChatTemplate(bare, {}).render([user, call, ...results]);
  assertEquals(
    text,
    '[user]Hi[assistant]So:\n<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>' +
      "[user]<tool_response>\nr1\n</tool_response>\n<tool_response>\nr2\n</tool_response>",
  );
});
