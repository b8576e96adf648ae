// deno-lint-ignore-file camelcase -- names of the wire format
/**
 * Checkpoints whose parts do not quite fit together, over HTTP: what cannot be done is refused where
 * it is asked for, and the rest works.
 */
import { assertEquals, assertStringIncludes } from "@std/assert";
import type { ServerContext } from "../../server/context.ts";
import { chatTemplate } from "../../src/checkpoint/text/chat_template.ts";
import { FakeTokenizer } from "../fakes/tokenizer.ts";
import { errorOf, HELLO, post } from "./asked.ts";
import { engineContext } from "./engine_context.ts";

/** Knows one token more than the model's embedding has rows. */
class LongTokenizer extends FakeTokenizer {
  override get vocabSize(): number {
    return super.vocabSize + 1;
  }

  override encode(text: string): number[] {
    return text.includes("<more>") ? [super.vocabSize] : super.encode(text);
  }
}

async function withModel(
  change: Partial<ServerContext["model"]>,
  body: (context: ServerContext) => Promise<void>,
): Promise<void> {
  const { context, loaded } = await engineContext();
  try {
    await body({ ...context, model: { ...context.model, ...change } });
  } finally {
    await loaded.engine.close();
  }
}

Deno.test("a template that cannot be read refuses chat with the reason, completions work", async () => {
  await withModel({ chatTemplate: chatTemplate("{% include 'x' %}", {}) }, async (context) => {
    const error = await errorOf(await post(context, "/v1/chat/completions", HELLO));
    assertEquals([error.status, error.param], [400, "messages"]);
    assertStringIncludes(error.message, "cannot chat: Cannot read the chat template:");
    assertStringIncludes(error.message, "include");
    const completion = { model: "tiny", prompt: "hello", max_tokens: 2 };
    assertEquals((await post(context, "/v1/completions", completion)).status, 200);
  });
});

Deno.test("a token that the embedding lacks is refused where it is used", async () => {
  await withModel({ tokenizer: new LongTokenizer() }, async (context) => {
    const ask = (prompt: string) =>
      post(context, "/v1/completions", { model: "tiny", prompt, max_tokens: 2 });
    const error = await errorOf(await ask("<more>"));
    assertEquals([error.status, error.param], [400, "prompt"]);
    assertStringIncludes(error.message, "below the vocabulary's size");
    assertEquals((await ask("hello")).status, 200);
  });
});
