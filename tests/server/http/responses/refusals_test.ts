// deno-lint-ignore-file camelcase -- names of the wire format
/** What the Responses API refuses: each field by its own name, and what would be right. */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { createApp } from "../../../../server/http/app.ts";
import { IGNORED_HEADER } from "../../../../server/http/unknown_arguments.ts";
import { errorOf, type Json, post } from "../../asked.ts";
import { fakeContext } from "../../fake_context.ts";

const PATH = "/v1/responses";
const ASK = { model: "tiny", input: "hi" };
const WEATHER = { type: "function", name: "weather" };

Deno.test("refusals name the field of the request, and what is possible", async () => {
  const result = { type: "function_call_output", call_id: "c9", output: "" };
  const user = (part: Json) => ({ input: [{ role: "user", content: [part] }] });
  const tool = (type: string) => ({ tools: [{ type }] });
  const logprobs = ["message.output_text.logprobs"];
  const cases: readonly (readonly [Json, string, string])[] = [
    [{ input: 5 }, "input", "a string or an array"],
    [{ input: [{ role: "tool", content: "x" }] }, "input[0].role", "'input[0].role'"],
    [{ input: [{ type: "web_search_call" }] }, "input[0].type", `"message", "function_call", `],
    [user({ type: "input_image" }), "input[0].content[0].type", `"input_text"`],
    [user({ type: "input_file" }), "input[0].content[0].type", `"input_text"`],
    [{ input: [result] }, "input[0].call_id", "no 'function_call' before it"],
    [{ input: [{ type: "item_reference", id: "msg_1" }] }, "input[0].id", "keeps no responses"],
    [{ input: "x".repeat(300) }, "input", "reduce the length of the input"],
    [{ max_output_tokens: 1000 }, "input", "maximum context length is 200"],
    [{ max_output_tokens: 0 }, "max_output_tokens", ">= 1"],
    [{ previous_response_id: "resp_1" }, "previous_response_id", "keeps no responses"],
    [tool("web_search"), "tools[0].type", `"function"`],
    [tool("file_search"), "tools[0].type", `"function"`],
    [tool("mcp"), "tools[0].type", `"function"`],
    [tool("image_generation"), "tools[0].type", `"function"`],
    [{ tools: [WEATHER, WEATHER] }, "tools[1].name", "'tools[1].name'"],
    [{ tool_choice: "required" }, "tool_choice", "'tools'"],
    [{ tools: [WEATHER], tool_choice: { type: "function", name: "x" } }, "tool_choice", "'x'"],
    [{ tools: [WEATHER], tool_choice: { type: "web_search" } }, "tool_choice.type", `"function"`],
    [{ text: { verbosity: "loud" } }, "text.verbosity", `"medium"`],
    [{ reasoning: { effort: "utmost" } }, "reasoning.effort", `"xhigh"`],
    [{ reasoning: { summary: "long" } }, "reasoning.summary", `"concise"`],
    [{ top_logprobs: 3 }, "top_logprobs", logprobs[0] ?? ""],
    [{ include: logprobs, top_logprobs: 21 }, "top_logprobs", "<= 20"],
    [{ include: ["everything"] }, "include[0]", logprobs[0] ?? ""],
    [{ background: true }, "background", "false"],
    [{ conversation: "conv_1" }, "conversation", "keeps no responses"],
    [{ prompt: { id: "pmpt_1" } }, "prompt", "'prompt' is not supported"],
    [{ service_tier: "flex" }, "service_tier", `"default"`],
    [{ truncation: "some" }, "truncation", `"auto"`],
    [{ stream_options: {} }, "stream_options", "'stream'"],
    [{ metadata: { a: "x".repeat(513) } }, "metadata.a", "512"],
  ];
  for (const [more, param, named] of cases) {
    const error = await errorOf(await post(fakeContext(), PATH, { ...ASK, ...more }));
    const about = `${JSON.stringify(more)}: ${error.message}`;
    assertEquals([error.status, error.param], [400, param], about);
    assertStringIncludes(error.message, named);
  }
  const context = fakeContext();
  for (const path of [PATH, `${PATH}/input_tokens`]) {
    const model = await errorOf(await post(context, path, { ...ASK, model: "nobody" }));
    assertEquals([model.status, model.code], [404, "model_not_found"]);
  }
  // nothing is kept, so there is nothing to be found
  assertEquals((await createApp(context).request(`${PATH}/resp_1`)).status, 404);
});

Deno.test("arguments that ask for nothing are taken; unknown ones are named, or refused", async () => {
  const neutral = {
    ...{ background: false, service_tier: "auto", reasoning: { effort: null, summary: "auto" } },
    ...{ include: ["reasoning.encrypted_content"], store: true, truncation: "disabled" },
    ...{ text: { format: { type: "text" } }, prompt_cache_retention: "24h", conversation: null },
    ...{ parallel_tool_calls: true, stream: false, tools: [], tool_choice: "auto" },
    safety_identifier: "s",
  };
  const plain = await post(fakeContext(), PATH, { ...ASK, ...neutral });
  assertEquals([plain.status, plain.headers.get(IGNORED_HEADER)], [200, null]);
  const unknown = { ...ASK, wishes: 3 };
  const ignored = await post(fakeContext(), PATH, unknown);
  assertEquals([ignored.status, ignored.headers.get(IGNORED_HEADER)], [200, "wishes"]);
  const strict = await errorOf(await post(fakeContext({ strict: true }), PATH, unknown));
  assertEquals([strict.status, strict.param], [400, "wishes"]);
  const modelless = await post(fakeContext(), PATH, { input: "hi" });
  assertEquals((await modelless.json()).model, "tiny");
});
