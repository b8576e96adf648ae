/** What requests are allowed and what is written of them, through the application. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { NO_LIMITS, type Store, type TenantLimits } from "../../../adapters/store/store.ts";
import { createApp } from "../../../server/http/app.ts";
import type { App } from "../../../server/context.ts";
import { createLog } from "../../../server/telemetry/log.ts";
import { StoreMetering } from "../../../server/usage/metering.ts";
import { OverloadedError } from "../../../src/util/errors.ts";
import { openTestStore } from "../../adapters/store/test_store.ts";
import { type FakeContext, fakeContext } from "../fake_context.ts";
import { query } from "../../adapters/store/cases.ts";

interface Metered {
  readonly app: App;
  readonly context: FakeContext;
  readonly store: Store;
  /** Sets the default tenant's limits, before its first request. */
  limit(limits: Partial<TenantLimits>): Promise<void>;
}

type Case = (own: Metered) => Promise<void>;

/** Runs a case over an empty table of usage and no limits. */
async function metered(store: Store, test: Case): Promise<void> {
  await store.database.db.deleteFrom("usage").execute();
  await store.tenants.update({ id: "default", limits: NO_LIMITS });
  await using metering = new StoreMetering(store, createLog("silent"));
  const context = fakeContext();
  const app = createApp({ ...context, metering });
  await test({
    ...{ app, context, store },
    limit: (limits) => store.tenants.update({ id: "default", limits: { ...NO_LIMITS, ...limits } }),
  });
}

function post(app: App, path: string, body: object, signal?: AbortSignal): Promise<Response> {
  return Promise.resolve(app.request(path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ model: "tiny", ...body }),
    ...(signal !== undefined && { signal }),
  }));
}

const CHAT = { messages: [{ role: "user", content: "Hi" }] };

async function rows(store: Store): Promise<Record<string, unknown>[]> {
  const columns = "id, tenant, key_id, model, kind, prompt_tokens, cached_tokens, " +
    "completion_tokens, trained_tokens, request_id";
  return await query(store.database, `SELECT ${columns} FROM usage ORDER BY at, id`);
}

async function answered(response: Response): Promise<Record<string, unknown>> {
  const body = await response.json();
  assertEquals(response.status, 200, JSON.stringify(body));
  return body;
}

const CASES = new Map<string, Case>();

CASES.set(
  "an answer's usage is in the store when the answer comes, as the answer says it",
  async ({ app, context, store }) => {
    context.adapters.add("default/haiku");
    const chat = await answered(await post(app, "/v1/chat/completions", CHAT));
    assertEquals((await rows(store)).map(({ id }) => id), [chat["id"]]);
    const two = { prompt: ["one", "three"], n: 2, model: "default/haiku@1" };
    const text = await answered(await post(app, "/v1/completions", two));
    const kept = new Map((await rows(store)).map((row) => [row["id"], row]));
    for (const [answer, kind, model] of [[chat, "chat", "tiny"], [text, "completion", ""]]) {
      const { id, usage } = answer as { id: string; usage: Record<string, number> };
      const row = kept.get(id);
      assertEquals([row?.["kind"], row?.["model"]], [kind, model || "default/haiku"]);
      assertEquals([row?.["tenant"], row?.["key_id"]], ["default", null]);
      assertEquals(row?.["prompt_tokens"], usage["prompt_tokens"]);
      assertEquals(row?.["completion_tokens"], usage["completion_tokens"]);
      assertMatch(String(row?.["request_id"]), /^req_/);
    }
    assertEquals(kept.size, 2);
  },
);

CASES.set(
  "a stream's last choice waits until its usage is durable, the others do not",
  async ({ context, store }) => {
    const { promise: gate, resolve: open } = Promise.withResolvers<void>();
    const { tenants, changes } = store;
    const usage = {
      total: store.usage.total.bind(store.usage),
      trained: store.usage.trained.bind(store.usage),
      add: async (records: Parameters<Store["usage"]["add"]>[0]) => {
        await gate;
        await store.usage.add(records);
      },
    };
    await using metering = new StoreMetering({ tenants, changes, usage }, createLog("silent"));
    const app = createApp({ ...context, metering });
    const response = await post(app, "/v1/chat/completions", { ...CHAT, stream: true });
    let text = "";
    const reading = (async () => {
      for await (const part of response.body?.pipeThrough(new TextDecoderStream()) ?? []) {
        text += part;
      }
    })();
    while (text.split("data: ").length <= 11) await new Promise((go) => setTimeout(go, 1));
    await new Promise((go) => setTimeout(go, 20));
    const ends = [`"finish_reason":"`, "[DONE]"].filter((end) => text.includes(end));
    assertEquals([ends, await rows(store)], [[], []]);
    open();
    await reading;
    assert(text.endsWith("[DONE]\n\n"));
    assertEquals((await rows(store)).map((row) => row["completion_tokens"]), [12]);
  },
);

CASES.set(
  "what a client cuts off is recorded as far as it went, what is refused is not",
  async ({ app, context, store }) => {
    const { promise: stuck, resolve: go } = Promise.withResolvers<void>();
    let steps = 0;
    context.engine.pace = () => ++steps > 4 ? stuck : Promise.resolve();
    const response = await post(app, "/v1/chat/completions", { ...CHAT, stream: true });
    const reader = response.body?.getReader();
    for (let i = 0; i < 4; i++) await reader?.read();
    const left = reader?.cancel();
    go();
    await left;
    while ((await rows(store)).length === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    context.engine.refusal = new OverloadedError("full", 1);
    assertEquals((await post(app, "/v1/chat/completions", CHAT)).status, 429);
    context.engine.refusal = undefined;
    assertEquals((await post(app, "/v1/chat/completions", { messages: [] })).status, 400);
    assertEquals((await rows(store)).map((row) => row["completion_tokens"]), [4]);
  },
);

CASES.set(
  "requests a minute: headers on answers, streams and refusals; 429 by the limit",
  async ({ app, limit }) => {
    await limit({ requestsPerMinute: 3, tokensPerMinute: 1000 });
    const first = await post(app, "/v1/chat/completions", { ...CHAT, max_tokens: 100 });
    assertEquals(first.headers.get("x-ratelimit-limit-requests"), "3");
    assertEquals(first.headers.get("x-ratelimit-remaining-requests"), "2");
    assertEquals(first.headers.get("x-ratelimit-limit-tokens"), "1000");
    assert(Number(first.headers.get("x-ratelimit-remaining-tokens")) < 900);
    assertMatch(first.headers.get("x-ratelimit-reset-requests") ?? "", /^20s$|^19\.\d+s$/);
    await first.body?.cancel();
    const stream = await post(app, "/v1/chat/completions", { ...CHAT, stream: true });
    assertEquals(stream.headers.get("x-ratelimit-remaining-requests"), "1");
    await stream.text();
    const broken = await post(app, "/v1/completions", { prompt: "x".repeat(500) });
    assertEquals([broken.status, broken.headers.get("x-ratelimit-remaining-requests")], [400, "0"]);
    const refused = await post(app, "/v1/chat/completions", CHAT);
    const { error } = await refused.json();
    assertEquals([refused.status, error.type, error.code], [
      429,
      "requests",
      "rate_limit_exceeded",
    ]);
    assert(Number(refused.headers.get("retry-after")) >= 1);
    assertEquals(refused.headers.get("x-ratelimit-remaining-requests"), "0");
  },
);

CASES.set(
  "tokens a minute: what was not used comes back when the answer has ended",
  async ({ app, limit }) => {
    await limit({ tokensPerMinute: 200 });
    const ask = (tokens: number) =>
      post(app, "/v1/completions", { prompt: "0123456789", max_tokens: tokens });
    // 10 + 150 asked for, 10 + 12 used
    await answered(await ask(150));
    await answered(await ask(150));
    const refused = await ask(190);
    const { error } = await refused.json();
    assertEquals([refused.status, error.type], [429, "tokens"]);
    assertMatch(error.message, /Limit 200, Used \d+, Requested 200\. Please try again in \d/);
    const large = await ask(191);
    assertMatch((await large.json()).error.message, /context length|Request too large/);
  },
);

CASES.set(
  "a tenant's standing reaches the engine; its own full queue is its rate limit",
  async ({ app, context, limit }) => {
    await limit({ weight: 2.5, priority: -1, concurrency: 3, queued: 4 });
    await answered(await post(app, "/v1/chat/completions", CHAT));
    assertEquals(context.engine.requests.at(-1)?.standing, {
      ...{ weight: 2.5, priority: -1, concurrency: 3, queued: 4 },
    });
    context.engine.refusal = new OverloadedError("4 of at most 4 wait", 2, "tenant");
    const refused = await post(app, "/v1/chat/completions", CHAT);
    const { error } = await refused.json();
    assertEquals([refused.status, error.code, refused.headers.get("retry-after")], [
      429,
      "rate_limit_exceeded",
      "2",
    ]);
  },
);

Deno.test("what requests may use and have used, over one store", async (t) => {
  await using opened = await openTestStore();
  for (const [name, test] of CASES) await t.step(name, () => metered(opened.store, test));
});
