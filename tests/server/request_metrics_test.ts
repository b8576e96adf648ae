// deno-lint-ignore-file camelcase -- names of the wire format
/** vLLM's `metrics` of an answer, from a fake engine whose times are known. */
import { assertEquals } from "@std/assert";
import { chatCompletionSchema } from "../../server/http/schema/chat.ts";
import { completionSchema } from "../../server/http/schema/completions.ts";
import { fakeContext } from "./fake_context.ts";
import { events, HELLO, type Json, post } from "./asked.ts";

const TEXT = { model: "tiny", prompt: "a", max_tokens: 4 };
/** The fake engine's: 5 ms in the queue, 20 to the first of four tokens, 60 from there to the last. */
const METRICS = {
  time_to_first_token_ms: 20,
  generation_time_ms: 60,
  queue_time_ms: 5,
  mean_itl_ms: 20,
  tokens_per_second: 50,
};

async function answerOf(path: string, body: Json, requestTimes: boolean): Promise<Json> {
  return await (await post(fakeContext({ requestTimes }), path, body)).json();
}

Deno.test("an answer of one sample tells its times where the server is told to", async () => {
  const chat = { ...HELLO, max_tokens: 4 };
  const told = await answerOf("/v1/chat/completions", chat, true);
  assertEquals(chatCompletionSchema.parse(told).metrics, METRICS);
  const text = await answerOf("/v1/completions", TEXT, true);
  assertEquals(completionSchema.parse(text).metrics, METRICS);
  assertEquals("metrics" in await answerOf("/v1/completions", TEXT, false), false);
});

Deno.test("one token has no time to the next", async () => {
  const { metrics } = await answerOf("/v1/completions", { ...TEXT, max_tokens: 1 }, true);
  assertEquals(Object.keys(metrics as Json).includes("mean_itl_ms"), false);
});

Deno.test("several samples, or prompts, have no times of their own", async () => {
  for (const more of [{ n: 2 }, { prompt: ["a", "b"] }, { max_tokens: 0 }]) {
    assertEquals("metrics" in await answerOf("/v1/completions", { ...TEXT, ...more }, true), false);
  }
});

Deno.test("a stream tells the times with the usage, and only there", async () => {
  const stream = { stream: true, stream_options: { include_usage: true } };
  for (
    const [path, body] of [["/v1/completions", TEXT], ["/v1/chat/completions", HELLO]] as const
  ) {
    const context = fakeContext({ requestTimes: true });
    const chunks = await events(await post(context, path, { ...body, max_tokens: 4, ...stream }));
    assertEquals(chunks.pop()?.["metrics"], METRICS);
    assertEquals(chunks.filter((chunk) => "metrics" in chunk), []);
  }
});
