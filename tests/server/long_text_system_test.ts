/** Texts of megabytes: what cannot fit is refused unread, what may is encoded in a thread of its own. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { openCheckpoint } from "../../src/checkpoint/open.ts";
import { TextThread } from "../../src/checkpoint/text/text_thread.ts";
import { createApp } from "../../server/http/app.ts";
import { OverloadedError } from "../../src/util/errors.ts";
import { NO_LIMITS } from "../../adapters/store/store.ts";
import { RateLimits } from "../../server/limits/rate_limits.ts";
import { Metering } from "../../server/usage/metering.ts";
import { TextTurns } from "../../server/generate/text_turns.ts";
import { errorOf, post } from "./asked.ts";
import { fakeContext } from "./fake_context.ts";

const FIXTURE = new URL("../fixtures/checkpoint/qwen3", import.meta.url).pathname;
const MIB = 2 ** 20;

/** A context whose tokenizer counts what it is asked to encode. */
function counting() {
  const context = fakeContext({ maxBodyBytes: 16 * MIB });
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

Deno.test("the thread encodes and renders as the checkpoint does, and passes its refusals on", async () => {
  using checkpoint = await openCheckpoint(FIXTURE);
  using thread = new TextThread(FIXTURE);
  for (const addSpecialTokens of [true, false]) {
    const text = "One ring.\n  Two\u00e9 \u{1f642}";
    assertEquals(
      await thread.encode(text, { addSpecialTokens }),
      checkpoint.tokenizer.encode(text, { addSpecialTokens }),
    );
  }
  const user = { role: "user", content: "hi" };
  assertEquals(
    await thread.render([user], { addGenerationPrompt: true }),
    checkpoint.chatTemplate?.render([user], { addGenerationPrompt: true }),
  );
  // JSON cannot say it, and the template cannot concatenate it
  const odd = [{ role: "user", content: 5n as unknown as string }];
  const refusal = await thread.render(odd, {}).catch((error) => error);
  assert(refusal instanceof TypeError, String(refusal));
  assertStringIncludes(refusal.message, "Cannot apply the chat template");
  const gone = new AbortController();
  gone.abort(new Error("the client left"));
  const late = await thread.encode("x", { addSpecialTokens: false }, gone.signal).catch(String);
  assertEquals(late, "Error: the client left");
});

Deno.test("the event loop turns while a long text is encoded", async () => {
  using checkpoint = await openCheckpoint(FIXTURE);
  using thread = new TextThread(FIXTURE);
  const { tokenizer } = checkpoint;
  const plain = fakeContext({ maxBodyBytes: 16 * MIB });
  const context = {
    ...plain,
    engine: Object.assign(plain.engine, { maxContext: 16 * MIB }),
    model: {
      ...plain.model,
      tokenizer,
      vocabSize: tokenizer.vocabSize,
      thread: new TextTurns(thread),
    },
  };
  await thread.encode("warm", { addSpecialTokens: false });
  // one piece for the merges: no space to cut at
  const text = "ab".repeat(MIB / 4);
  const before = performance.now();
  const expected = tokenizer.encode(text);
  const alone = performance.now() - before;
  let [turns, over] = [0, false];
  const answer = post(context, "/tokenize", { prompt: text }).finally(() => over = true);
  let [last, longest] = [performance.now(), 0];
  while (!over) {
    await new Promise((go) => setTimeout(go, 1));
    longest = Math.max(longest, performance.now() - last);
    last = performance.now();
    turns++;
  }
  const { tokens } = await (await answer).json();
  assertEquals(tokens, expected);
  assert(turns > 10, `${turns} turns in the time of ${alone} ms of encoding`);
  assert(longest < alone / 2, `the loop stood still for ${longest} of ${alone} ms`);
});

/** Texts of tenants over the real thread, and who was served in which order. */
function turnsOf(thread: TextThread) {
  const turns = new TextTurns(thread);
  const served: string[] = [];
  const { signal } = new AbortController();
  const ask = async (tenant: string, text = "One ring. ".repeat(1000)) => {
    const ids = await turns.encode({ tenant, signal }, text, { addSpecialTokens: false });
    served.push(tenant);
    return ids.length;
  };
  return { turns, served, ask };
}

Deno.test("tenants take turns at the thread, however many texts one of them sends", async () => {
  using thread = new TextThread(FIXTURE);
  const { served, ask } = turnsOf(thread);
  const mordor = Array.from({ length: 6 }, () => ask("mordor"));
  await Promise.all([...mordor, ask("shire"), ask("rohan"), ask("shire")]);
  assertEquals(served.slice(0, 6), ["mordor", "mordor", "shire", "rohan", "mordor", "shire"]);
  assertEquals(served.length, 9);
});

Deno.test("a tenant whose texts wait in numbers is refused more of them, and others are not", async () => {
  using thread = new TextThread(FIXTURE);
  const { turns, served, ask } = turnsOf(thread);
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
  assertEquals(await turns.render(left, [], {}).catch(String), "Error: the client left");
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
  const metering = new Metering({ limits: { limitsOf: () => limits }, rates: new RateLimits() });
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
