/** Texts of megabytes: what cannot fit is refused unread, what may is encoded in a thread of its own. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { openCheckpoint } from "../../src/checkpoint/open.ts";
import { type Conversation, type Prompt, promptTokens } from "../../src/checkpoint/text/prompt.ts";
import { createApp } from "../../server/http/app.ts";
import { OverloadedError } from "../../src/util/errors.ts";
import { NO_LIMITS } from "../../adapters/store/store.ts";
import { RateLimits } from "../../server/limits/tenant_limits.ts";
import { Metering } from "../../server/usage/metering.ts";
import { TextTurns } from "../../server/generate/text_turns.ts";
import { errorOf, post } from "./asked.ts";
import { fakeContext } from "./fake_context.ts";

const FIXTURE = new URL("../fixtures/checkpoint/qwen3", import.meta.url).pathname;
const MIB = 2 ** 20;

/** A context whose tokenizer counts what it is asked to encode. */
function counting() {
  const context = fakeContext({ maxBody: 16 * MIB });
  const asked: number[] = [];
  const tokenizer = {
    ...context.model.tokenizer,
    encode: (text: string) => {
      asked.push(text.length);
      return context.model.tokenizer.encode(text);
    },
  };
  return { context: { ...context, model: { ...context.model, tokenizer } }, asked };
}

Deno.test("a text that cannot fit is refused before it is encoded", async () => {
  const { context, asked } = counting();
  const text = "é".repeat(4 * MIB);
  const requests: readonly (readonly [string, Record<string, unknown>, string])[] = [
    ["/v1/completions", { prompt: text }, "prompt"],
    ["/v1/completions", { prompt: ["short", text] }, "prompt"],
    ["/v1/chat/completions", { messages: [{ role: "user", content: text }] }, "messages"],
    ["/tokenize", { prompt: text }, "prompt"],
    ["/tokenize", { messages: [{ role: "user", content: text }] }, "messages"],
  ];
  for (const [path, body, param] of requests) {
    const answer = await post(context, path, { model: "tiny", ...body });
    const { status, code, message, ...error } = await errorOf(answer);
    assertEquals([path, status, code, error.param], [
      path,
      400,
      "context_length_exceeded",
      param,
    ]);
    assertStringIncludes(message, "at least 838");
  }
  assertEquals(asked, [5]);
});

Deno.test("a body of more values than any context has tokens is refused before its schema", async () => {
  const { context } = counting();
  const prompt = `[${"1,".repeat(2 ** 21)}1]`;
  const answer = await post(context, "/v1/completions", `{"model":"tiny","prompt":${prompt}}`);
  const { status, code, message } = await errorOf(answer);
  assertEquals([status, code], [400, "invalid_json"]);
  assertStringIncludes(message, "more than 1049576 values");
});

Deno.test("the bound is the vocabulary's: no text has fewer tokens", async () => {
  using checkpoint = await openCheckpoint(FIXTURE);
  const { tokenizer } = checkpoint;
  assert(tokenizer.leastTokens("a".repeat(100_000)) > 10);
  const texts = [
    "the quick brown fox",
    " ".repeat(500),
    "\u00e9\u4e16\u{1f642}".repeat(9),
    "<s></s>",
  ];
  for (let id = 0; id < tokenizer.vocabSize; id++) texts.push(tokenizer.decode([id]).repeat(3));
  for (const text of texts) {
    const least = tokenizer.leastTokens(text);
    const ids = tokenizer.encode(text, { addSpecialTokens: false });
    assert(ids.length >= least, `${JSON.stringify(text)}: ${ids.length} tokens, bound ${least}`);
  }
});

/** Who asks, as long as nobody leaves. */
const ALONE = { tenant: "shire", signal: new AbortController().signal };
const PLAIN = { addSpecialTokens: false, room: MIB };
const bytesOf = (text: string) => new TextEncoder().encode(text);

/** A conversation as its template writes it. */
function conversation(content: string): Conversation {
  const options = { addGenerationPrompt: true };
  return { messages: [{ role: "user", content }], options, end: "template" };
}

Deno.test("the thread reads texts and conversations as the checkpoint does, as strings or bytes", async () => {
  using checkpoint = await openCheckpoint(FIXTURE);
  using turns = new TextTurns(FIXTURE);
  const text = "\ufeffOne ring.\n  Two\u00e9 \u{1f642}";
  const chat = conversation(text);
  const open: Conversation = { ...chat, options: {}, end: "message" };
  const messages = [{ role: "user", content: bytesOf(text) }];
  const pairs: readonly (readonly [Prompt, () => Prompt])[] = [
    [text, () => bytesOf(text)],
    ...[chat, open].map((one) => [one, () => structuredClone({ ...one, messages })] as const),
  ];
  for (const addSpecialTokens of [true, false]) {
    for (const [prompt, asBytes] of pairs) {
      const options = { addSpecialTokens, room: MIB };
      const expected = promptTokens(checkpoint, prompt, options);
      assertEquals(expected.type, "ids");
      assertEquals(await turns.read(ALONE, prompt, options), expected);
      assertEquals(await turns.read(ALONE, asBytes(), options), expected);
    }
  }
});

Deno.test("the thread says what does not fit, what the template refuses, and who left", async () => {
  using checkpoint = await openCheckpoint(FIXTURE);
  using turns = new TextTurns(FIXTURE);
  const long = "a".repeat(MIB);
  const atLeast = checkpoint.tokenizer.leastTokens(long);
  const expected = { type: "too long", atLeast } as const;
  assertEquals(await turns.read(ALONE, bytesOf(long), { ...PLAIN, room: atLeast - 1 }), expected);
  // JSON cannot say it, and the template cannot concatenate it
  const odd = {
    ...conversation(""),
    messages: [{ role: "user", content: 5n as unknown as string }],
  };
  const refusal = await turns.read(ALONE, odd, PLAIN);
  assert(refusal.type === "refused" && refusal.fault === "messages", JSON.stringify(refusal));
  assertStringIncludes(refusal.reason, "Cannot apply the chat template");
  const gone = new AbortController();
  gone.abort(new Error("the client left"));
  const left = { tenant: "shire", signal: gone.signal };
  assertEquals(await turns.read(left, "x", PLAIN).catch(String), "Error: the client left");
});

Deno.test("the event loop turns while a long text is encoded", async () => {
  using checkpoint = await openCheckpoint(FIXTURE);
  using turns = new TextTurns(FIXTURE);
  const { tokenizer } = checkpoint;
  const plain = fakeContext({ maxBody: 16 * MIB });
  const context = {
    ...plain,
    engine: Object.assign(plain.engine, { maxContext: 16 * MIB }),
    model: {
      ...plain.model,
      tokenizer,
      vocabSize: tokenizer.vocabSize,
      thread: turns,
    },
  };
  await turns.read(ALONE, "warm", PLAIN);
  // one piece for the merges: no space to cut at
  const text = "ab".repeat(MIB / 4);
  const before = performance.now();
  const expected = tokenizer.encode(text);
  const alone = performance.now() - before;
  let [times, over] = [0, false];
  const answer = post(context, "/tokenize", { prompt: text }).finally(() => over = true);
  let [last, longest] = [performance.now(), 0];
  while (!over) {
    await new Promise((go) => setTimeout(go, 1));
    longest = Math.max(longest, performance.now() - last);
    last = performance.now();
    times++;
  }
  const { tokens } = await (await answer).json();
  assertEquals(tokens, expected);
  assert(times > 10, `${times} turns in the time of ${alone} ms of encoding`);
  assert(longest < alone / 2, `the loop stood still for ${longest} of ${alone} ms`);
});

/** Texts of tenants over the real thread, and who was served in which order. */
function askingOf(turns: TextTurns) {
  const served: string[] = [];
  const { signal } = new AbortController();
  const ask = async (tenant: string, text = "One ring. ".repeat(1000)) => {
    const tokens = await turns.read({ tenant, signal }, text, PLAIN);
    served.push(tenant);
    return tokens.type === "ids" ? tokens.ids.length : 0;
  };
  return { served, ask };
}

Deno.test("tenants take turns at the thread, however many texts one of them sends", async () => {
  using turns = new TextTurns(FIXTURE);
  const { served, ask } = askingOf(turns);
  const mordor = Array.from({ length: 6 }, () => ask("mordor"));
  await Promise.all([...mordor, ask("shire"), ask("rohan"), ask("shire")]);
  assertEquals(served.slice(0, 6), ["mordor", "mordor", "shire", "rohan", "mordor", "shire"]);
  assertEquals(served.length, 9);
});

Deno.test("a tenant whose texts wait in numbers is refused more of them, and others are not", async () => {
  using turns = new TextTurns(FIXTURE);
  const { served, ask } = askingOf(turns);
  const first = Array.from({ length: 17 }, () => ask("mordor"));
  const refusal = await ask("mordor").catch((error) => error);
  assert(refusal instanceof OverloadedError, String(refusal));
  assertEquals([refusal.scope, refusal.retryAfterSeconds > 0], ["tenant", true]);
  assertStringIncludes(refusal.message, "16 of this tenant");
  const others = Array.from({ length: 7 }, (_, i) => `hobbit${i}`).flatMap((tenant) =>
    Array.from({ length: 16 }, () => ask(tenant, "One ring."))
  );
  const full = await ask("late").catch((error) => error);
  assert(full instanceof OverloadedError, String(full));
  assertEquals(full.scope, "server");
  await Promise.all([...first, ...others]);
  assertEquals(served.length, 17 + 7 * 16);
  // who leaves, or is refused by the template, hands the thread on
  const gone = new AbortController();
  gone.abort(new Error("the client left"));
  const left = { tenant: "shire", signal: gone.signal };
  assertEquals(
    await turns.read(left, conversation(""), PLAIN).catch(String),
    "Error: the client left",
  );
  assert(await ask("shire") > 0);
});

Deno.test("more ids than the context has tokens are not decoded", async () => {
  const context = fakeContext();
  const { maxContext } = context.engine;
  const decode = (count: number) =>
    post(context, "/detokenize", { tokens: Array(count).fill(104) });
  const whole = await decode(maxContext);
  assertEquals([whole.status, (await whole.json()).prompt], [200, "h".repeat(maxContext)]);
  const { status, code, param, message } = await errorOf(await decode(maxContext + 1));
  assertEquals([status, code, param], [400, "array_above_max_length", "tokens"]);
  assertStringIncludes(message, `at most ${maxContext} items`);
});

Deno.test("tokenising counts among a tenant's requests of a minute", async () => {
  const limits = { ...NO_LIMITS, requestsPerMinute: 2 };
  const metering = new Metering({
    limits: { limitsOf: () => Promise.resolve(limits) },
    rates: new RateLimits(),
  });
  const app = createApp({ ...fakeContext(), metering });
  const ask = (path: string, body: unknown) =>
    app.request(path, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
    });
  const first = await ask("/tokenize", { prompt: "hi" });
  assertEquals([first.status, first.headers.get("x-ratelimit-remaining-requests")], [200, "1"]);
  assertEquals((await ask("/detokenize", { tokens: [104] })).status, 200);
  const { status, code } = await errorOf(await ask("/tokenize", { prompt: "hi" }));
  assertEquals([status, code], [429, "rate_limit_exceeded"]);
});
