// deno-lint-ignore-file camelcase -- names of the wire format
/** What the Messages API refuses, in Anthropic's shape, and where it takes keys from. */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { createApp } from "../../server/http/app.ts";
import { messageErrorSchema } from "../../server/http/messages/schema.ts";
import { type Json, post } from "./asked.ts";
import { fakeContext } from "./fake_context.ts";

const PATH = "/v1/messages";
const COUNT = "/v1/messages/count_tokens";
const MESSAGES = [{ role: "user", content: "hi" }];
const ASK = { model: "tiny", max_tokens: 100, messages: MESSAGES };
const WEATHER = { name: "weather", input_schema: { type: "object" } };

async function refused(
  response: Response,
): Promise<{ status: number; type: string; text: string }> {
  const { error, request_id } = messageErrorSchema.parse(await response.json());
  assertEquals(request_id, response.headers.get("request-id"));
  return { status: response.status, type: error.type, text: error.message };
}

Deno.test("refusals have Anthropic's shape and name the field", async () => {
  const image = { type: "image", source: { type: "base64", media_type: "image/png", data: "" } };
  const result = { type: "tool_result", tool_use_id: "t9", content: "" };
  const use = { type: "tool_use", id: "t1", name: "weather", input: {} };
  const user = (block: Json) => ({ messages: [{ role: "user", content: [block] }] });
  const cases: readonly (readonly [Json, string])[] = [
    [{ max_tokens: undefined }, "'max_tokens'"],
    [{ max_tokens: 1000 }, "maximum context length is 200"],
    [{ messages: [{ role: "tool", content: "x" }] }, "'messages[0].role'"],
    [user(image), `'messages[0].content[0].type'`],
    [user({ type: "document" }), `"document"`],
    [user(result), "'messages[0].content[0].tool_use_id'"],
    [user(use), "'messages[0].content[0]'"],
    [{ messages: [...MESSAGES, { role: "assistant", content: [use] }] }, "'tool_result' after it"],
    [{ thinking: { type: "between_tools" } }, "'thinking.type'"],
    [{ thinking: { type: "enabled" } }, "'thinking.budget_tokens'"],
    [{ output_config: { effort: "none" } }, "'output_config.effort'"],
    [{ tool_choice: { type: "any" } }, "'tool_choice'"],
    [{ tools: [WEATHER, WEATHER] }, "'tools[1].name'"],
    [{ tools: [{ type: "web_search_20250305", name: "web_search" }] }, "'tools[0].type'"],
    [{ tools: [WEATHER], tool_choice: { type: "tool", name: "x" } }, "named 'x'"],
    [{ stop_sequences: "x" }, "'stop_sequences'"],
  ];
  for (const [more, named] of cases) {
    const { status, type, text } = await refused(
      await post(fakeContext(), PATH, { ...ASK, ...more }),
    );
    assertEquals([status, type], [400, "invalid_request_error"], text);
    assertStringIncludes(text, named);
  }
  const context = fakeContext();
  const model = await refused(await post(context, PATH, { ...ASK, model: "nobody" }));
  assertEquals([model.status, model.type], [404, "not_found_error"]);
  const count = await refused(await post(context, COUNT, { ...ASK, model: "nobody" }));
  assertEquals([count.status, count.type], [404, "not_found_error"]);
  assertEquals((await refused(await createApp(context).request(PATH))).status, 405);
});

Deno.test("x-api-key is a key, and Authorization wins over it", async () => {
  const context = fakeContext({ apiKey: "secret" });
  const ask = (headers: HeadersInit) => post(context, PATH, ASK, headers);
  assertEquals((await ask({ "x-api-key": "secret" })).status, 200);
  assertEquals((await ask({ authorization: "Bearer secret" })).status, 200);
  for (const headers of [{}, { "x-api-key": "" }, { "x-api-key": "wrong" }]) {
    const { status, type } = await refused(await ask(headers));
    assertEquals([status, type], [401, "authentication_error"]);
  }
  const both = { "x-api-key": "secret", authorization: "Bearer wrong" };
  assertEquals((await ask(both)).status, 401);
  const chat = await post(context, "/v1/chat/completions", ASK, { "x-api-key": "secret" });
  assertEquals(chat.status, 200);
});
