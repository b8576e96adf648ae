// deno-lint-ignore-file camelcase -- names of the wire format
/** How much a model is to reason: what its chat template reads of that, and what is named or refused. */
import { assertEquals } from "@std/assert";
import { JinjaChatTemplate } from "../../../src/checkpoint/text/chat_template.ts";
import { chatCompletionSchema } from "../../../server/http/schema/chat.ts";
import { errorOf, HELLO, type Json, post } from "../asked.ts";
import { type FakeContext, fakeContext } from "../fake_context.ts";

const CHAT = "/v1/chat/completions";

function saying(reply: string, reasoning: "qwen3" | "none", template: string): FakeContext {
  const context = fakeContext(reasoning === "none" ? {} : { reasoning });
  context.engine.reply = () => reply;
  const chatTemplate = new JinjaChatTemplate(template, {});
  return { ...context, model: { ...context.model, chatTemplate } };
}

/** Templates that read an effort, or whether to think, or neither. */
const EFFORT = "{{ reasoning_effort }}/{{ enable_thinking }}";
const THINKING = "{% if enable_thinking %}think{% else %}speak{% endif %}";
const NEITHER = "reasoning_effort";

Deno.test("an effort is the template's variable, with thinking on unless it is none", async () => {
  const asked: readonly (readonly [Json, string])[] = [
    [{ reasoning_effort: "xhigh" }, "xhigh/True"],
    [{ reasoning_effort: "none" }, "none/False"],
    [{ reasoning_effort: "low", chat_template_kwargs: { enable_thinking: false } }, "low/False"],
    [{ reasoning_effort: "low", chat_template_kwargs: { reasoning_effort: "b" } }, "low/True"],
    [{ chat_template_kwargs: { reasoning_effort: "b" } }, "b/"],
    [{ reasoning_effort: null }, "/"],
  ];
  const context = saying("ok", "qwen3", EFFORT);
  const promptOf = async (path: string, body: Json) => {
    assertEquals((await post(context, path, body)).status, 200);
    return context.model.tokenizer.decode(context.engine.requests.at(-1)?.prompt ?? []);
  };
  for (const [more, prompt] of asked) {
    assertEquals(await promptOf(CHAT, { ...HELLO, ...more }), prompt);
  }
  for (const effort of ["minimal", "medium", "none"]) {
    const body = { input: "hi", reasoning: { effort, summary: "detailed" } };
    assertEquals(
      await promptOf("/v1/responses", body),
      `${effort}/${effort === "none" ? "False" : "True"}`,
    );
    const answer = await (await post(context, "/v1/responses", body)).json();
    assertEquals(answer.reasoning, body.reasoning);
    const counted = await post(context, "/v1/responses/input_tokens", body);
    assertEquals(
      (await counted.json()).input_tokens,
      context.engine.requests.at(-1)?.prompt.length,
    );
  }
});

Deno.test("an effort that the template does not read is named, or refused where that is strict", async () => {
  const cases: readonly (readonly [FakeContext, string, boolean])[] = [
    [saying("x", "qwen3", EFFORT), "low", true],
    [saying("x", "qwen3", THINKING), "low", false],
    [saying("x", "qwen3", THINKING), "none", true],
    [saying("x", "qwen3", NEITHER), "none", false],
    [saying("x", "none", NEITHER), "none", true],
    [saying("x", "none", NEITHER), "medium", false],
  ];
  for (const [index, [context, effort, heeded]] of cases.entries()) {
    const paths: readonly (readonly [string, Json, string])[] = [
      [CHAT, { ...HELLO, reasoning_effort: effort }, "reasoning_effort"],
      [
        `${CHAT}/batch`,
        { messages: [HELLO.messages], reasoning_effort: effort },
        "reasoning_effort",
      ],
      ["/v1/responses", { input: "hi", reasoning: { effort } }, "reasoning.effort"],
      ["/v1/responses/input_tokens", { input: "hi", reasoning: { effort } }, "reasoning.effort"],
    ];
    const strict = { ...context, options: { ...context.options, strict: true } };
    for (const [path, body, named] of paths) {
      const answer = await post(context, path, body);
      const about = `case ${index}, ${path}`;
      const header = answer.headers.get("lembas-ignored");
      assertEquals([answer.status, header], [200, heeded ? null : named], about);
      await answer.body?.cancel();
      const refused = await post(strict, path, body);
      if (heeded) {
        assertEquals(refused.status, 200, about);
        continue;
      }
      const { status, param, code } = await errorOf(refused);
      assertEquals([status, param, code], [400, named, "unsupported_parameter"], about);
    }
  }
});

Deno.test("an effort of none has the text be the answer, where the template can do without", async () => {
  const none = { reasoning_effort: "none" };
  const plain = "Just words.";
  const said = async (template: string) => {
    const answer = await post(saying(plain, "qwen3", template), CHAT, { ...HELLO, ...none });
    return chatCompletionSchema.parse(await answer.json()).choices[0]?.message;
  };
  assertEquals((await said(THINKING))?.content, plain);
  // this model thinks whatever it is told
  assertEquals((await said(NEITHER))?.reasoning, plain);
});
