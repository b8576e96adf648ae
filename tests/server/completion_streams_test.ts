// deno-lint-ignore-file camelcase -- names of the wire format
/** Streams of completions over HTTP against a fake engine: their order, usage and padding. */
import { assert, assertEquals } from "@std/assert";
import { chatChunkSchema } from "../../server/http/schema/chat.ts";
import { completionChunkSchema } from "../../server/http/schema/completions.ts";
import { fakeContext } from "./fake_context.ts";
import { events, HELLO, type Json, post } from "./asked.ts";

Deno.test("a padded stream's chunks are multiples of 64 bytes and say the same", async () => {
  for (
    const [path, more] of [
      ["/v1/chat/completions", HELLO],
      ["/v1/completions", { model: "tiny", prompt: "é" }],
      ["/v1/responses", { model: "tiny", input: "hi" }],
    ] as const
  ) {
    const ask = { ...more, stream: true };
    const texts = [];
    for (const include_obfuscation of [true, false]) {
      const body = { ...ask, stream_options: { include_obfuscation } };
      const response = await post(fakeContext(), path, body);
      const sent = (await response.text()).split(/(?<=\n\n)/)
        .filter((event) => /"delta":|"text":/.test(event) && !/done|added|completed/.test(event));
      assert(sent.length > 3, path);
      for (const event of sent) {
        assertEquals(event.includes(`"obfuscation":"`), include_obfuscation, event);
        if (include_obfuscation) {
          assertEquals(new TextEncoder().encode(event).length % 64, 0, event);
        }
      }
      texts.push(
        sent.map((event) => /"(?:content|text|delta)":"([^"]*)"/.exec(event)?.[1]).join(""),
      );
    }
    assertEquals(texts[0], texts[1]);
  }
});

Deno.test("a streamed chat says role, text, end, usage, in that order", async () => {
  const body = { ...HELLO, stream: true, stream_options: { include_usage: true } };
  const response = await post(fakeContext(), "/v1/chat/completions", body);
  const chunks = (await events(response)).map((chunk) => chatChunkSchema.parse(chunk));
  assertEquals(chunks[0]?.choices[0]?.delta.role, "assistant");
  assertEquals(
    chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join(""),
    "Hello, world",
  );
  assertEquals(chunks.at(-2)?.choices[0]?.finish_reason, "stop");
  assertEquals(chunks.at(-1)?.choices, []);
  assertEquals(chunks.at(-1)?.usage?.completion_tokens, 12);
  assertEquals(chunks[0]?.usage, null);
  assertEquals(new Set(chunks.map((chunk) => chunk.id)).size, 1);
});

Deno.test("continuous usage stats count up in every chunk", async () => {
  const stream_options = { include_usage: true, continuous_usage_stats: true };
  const body = { model: "tiny", prompt: "a", stream: true, stream_options };
  const chunks = (await events(await post(fakeContext(), "/v1/completions", body)))
    .map((chunk) => completionChunkSchema.parse(chunk));
  assertEquals(chunks.slice(0, 3).map((chunk) => chunk.usage?.completion_tokens), [1, 2, 3]);
});

Deno.test("a server may be told that every chunk of every stream carries the usage", async () => {
  const plain = fakeContext();
  const context = { ...plain, options: { ...plain.options, forceIncludeUsage: true } };
  const bodies = [
    ["/v1/completions", { model: "tiny", prompt: "a" }],
    ["/v1/chat/completions", { ...HELLO, stream_options: { include_usage: false } }],
  ] as const;
  for (const [path, body] of bodies) {
    const chunks = await events(await post(context, path, { ...body, stream: true }));
    const counts = chunks.map(({ usage }) => (usage as Json)["completion_tokens"] as number);
    const total = counts.at(-1) ?? 0;
    assertEquals([...counts].sort((a, b) => a - b), counts);
    assertEquals([new Set(counts).size >= total, chunks.at(-1)?.["choices"]], [true, []]);
  }
  assertEquals((await post(context, "/v1/chat/completions", HELLO)).status, 200);
});

Deno.test("continuous usage stats alone ask for no usage", async () => {
  const stream_options = { include_usage: false, continuous_usage_stats: true };
  const body = { model: "tiny", prompt: "a", stream: true, stream_options };
  const chunks = await events(await post(fakeContext(), "/v1/completions", body));
  assertEquals(chunks.filter((chunk) => chunk["usage"]), []);
});
