/** Long JSON bodies in their thread: the event loop turns meanwhile, and answers stay the same. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { createApp } from "../../../server/http/app.ts";
import { JsonThread } from "../../../server/http/json_thread.ts";
import { OverloadedError } from "../../../src/util/errors.ts";
import { errorOf, post } from "../asked.ts";
import { fakeContext, FakeEngine } from "../fake_context.ts";

const MIB = 2 ** 20;
const plain = fakeContext({ maxBody: 64 * MIB, strict: true });
const bytesOf = (text: string) => new TextEncoder().encode(text);
const askPrompt = (jsonThread: JsonThread, prompt: string) =>
  post({ ...plain, jsonThread }, "/tokenize", { prompt });

Deno.test("the event loop turns while a long body is parsed", async () => {
  using jsonThread = new JsonThread();
  await jsonThread.parse(() => bytesOf('"warm"'));
  // escapes take long to read, and little comes of them
  const body = `{"prompt":"${"\\u00e9".repeat(5 * MIB)}"}`;
  let [turns, over] = [0, false];
  const answer = post({ ...plain, jsonThread }, "/tokenize", body).finally(() => over = true);
  while (!over) {
    await new Promise((go) => setTimeout(go, 1));
    turns++;
  }
  assertEquals((await errorOf(await answer)).code, "context_length_exceeded");
  assert(turns > 20, `${turns} turns of others`);
});

Deno.test("a long body is answered alike with a thread and without", async () => {
  using jsonThread = new JsonThread();
  const long = "a".repeat(MIB);
  const bodies: readonly (readonly [string | Uint8Array<ArrayBuffer>, string])[] = [
    [`{"prompt":"${long}"}`, "context_length_exceeded"],
    [`{"prompt":"hi","tail":"${long}"}`, "unknown_parameter"],
    [`{"prompt":["${long}"`, "invalid_json"],
    [`{"prompt":["${long}"]}`, "invalid_type"],
    [`{"prompt":"hi","messages":[{"role":"user","content":5,"name":"${long}"}]}`, "invalid_type"],
    [`{"prompt":"${long}\\ud800"}`, "invalid_unicode"],
    [`${"[".repeat(200)}"${long}"${"]".repeat(200)}`, "invalid_json"],
    [`{"prompt":"hi","add_special_tokens":[${"1,".repeat(MIB + 1000)}1]}`, "invalid_json"],
    [`{"prompt":"hi","add_special_tokens":[${"1,".repeat(MIB / 2)}1]}`, "invalid_type"],
    [bytesOf(`{"prompt":"${long}\u4e16`).slice(0, -1), "invalid_json"],
  ];
  for (const [body, expected] of bodies) {
    const ask = async (context: typeof plain) => {
      const headers = { "content-type": "application/json" };
      const app = createApp(context);
      return await errorOf(await app.request("/tokenize", { method: "POST", headers, body }));
    };
    const here = await ask(plain);
    assertEquals(await ask({ ...plain, jsonThread }), here);
    assertEquals([here.status, here.code], [400, expected], here.message);
  }
});

Deno.test("a long text arrives whole wherever a prompt may have one", async () => {
  using jsonThread = new JsonThread();
  const long = "One ring. \u00e9\u4e16\u{1f642} ".repeat(2 ** 14);
  const chat = (...contents: readonly unknown[]) => ({
    messages: contents.map((content) => ({ role: "user", content })),
  });
  const parts = ["short", long, long].map((text) => ({ type: "text", text }));
  const use = { type: "tool_use", id: "t", name: "f", input: { long } };
  const answered = (content: unknown) => ({
    messages: [
      { role: "user", content: "short" },
      { role: "assistant", content: [use] },
      { role: "user", content: [{ type: "tool_result", tool_use_id: "t", content }] },
    ],
  });
  const bodies: readonly (readonly [string, object])[] = [
    ["/v1/completions", { prompt: long }],
    ["/v1/completions", { prompt: long, echo: true }],
    ["/v1/completions", { prompt: ["short", long, long], echo: true }],
    ["/v1/chat/completions", chat("short", long)],
    ["/v1/chat/completions", chat(parts, [{ type: "text", text: long }])],
    ["/v1/chat/completions", { ...chat(long), continue_final_message: true }],
    ["/v1/messages", { ...chat(long, parts), system: long, max_tokens: 9 }],
    ["/v1/messages", { ...chat("short"), system: parts, max_tokens: 9 }],
    ["/v1/messages/count_tokens", answered(long)],
    ["/v1/messages/count_tokens", answered(parts)],
    ["/tokenize", { prompt: long }],
    ["/tokenize", chat(parts)],
  ];
  const ask = async (context: typeof plain, path: string, body: object) => {
    const engine = Object.assign(new FakeEngine(), { maxContext: 64 * MIB });
    const answer = await post({ ...context, engine }, path, { model: "tiny", ...body });
    const { id: _, created: __, ...rest } = await answer.json();
    return [answer.status, rest, engine.requests.map(({ prompt }) => prompt)];
  };
  for (const [path, body] of bodies) {
    const here = await ask(plain, path, body);
    assertEquals(here[0], 200, JSON.stringify(here[1]).slice(0, 200));
    assertEquals(await ask({ ...plain, jsonThread }, path, body), here);
  }
});

Deno.test("a body is answered though its thread ends under it, and the next one starts another", async () => {
  using jsonThread = new JsonThread();
  const text = "a".repeat(MIB);
  const answer = askPrompt(jsonThread, text);
  const others = [askPrompt(jsonThread, text), askPrompt(jsonThread, text)];
  for (let i = 0; i < 20; i++) await new Promise((go) => setTimeout(go, 0));
  jsonThread[Symbol.dispose]();
  for (const one of [answer, ...others]) {
    assertEquals((await errorOf(await one)).code, "context_length_exceeded");
  }
});

Deno.test("bodies that wait in numbers are refused more of them, and none is lost", async () => {
  using thread = new JsonThread();
  const parse = () => thread.parse(() => bytesOf('{"prompt":"hi"}'));
  const first = Array.from({ length: 128 }, parse);
  const refusal = await assertRejects(parse, OverloadedError, "Too many long bodies wait");
  assertEquals([refusal.scope, refusal.retryAfterSeconds > 0], ["server", true]);
  const expected = { type: "value" as const, value: { prompt: "hi" } };
  assertEquals(await Promise.all(first), Array(128).fill(expected));
  assertEquals(await parse(), expected);
});

Deno.test("every route with a JSON body says in its description that it may be refused for now", async () => {
  const { paths } = await (await createApp(plain).request("/openapi.json")).json();
  const posts: { requestBody?: { content: object }; responses: object }[] = Object.values(paths)
    .flatMap((path) => Object.values(path as object));
  const bodies = posts.filter(({ requestBody }) =>
    Object.keys(requestBody?.content ?? {}).includes("application/json")
  );
  assert(bodies.length > 5);
  assertEquals(bodies.filter(({ responses }) => !("429" in responses)), []);
});
