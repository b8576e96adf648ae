// deno-lint-ignore-file camelcase -- names of the wire format
/** Chat completions that are kept: listed, read, changed and deleted by their tenant alone. */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import OpenAI from "openai";
import { NO_LIMITS } from "../../../../adapters/store/store.ts";
import { createApp } from "../../../../server/http/app.ts";
import { JsonThread } from "../../../../server/http/json_thread.ts";
import { post } from "../../asked.ts";
import { fakeContext } from "../../fake_context.ts";
import { errorOf, type KeyedApp, openKeyedApp } from "../../keyed_app.ts";

const PATH = "/v1/chat/completions";
/** An answer of a few tokens. */
const SHORT = {
  ...{ model: "tiny", max_tokens: 4, temperature: 0, store: true },
  messages: [{ role: "user" as const, content: "one" }],
};

function clientOf({ app }: KeyedApp, apiKey: string): OpenAI {
  const fetch = (input: string | URL | Request, init?: RequestInit) =>
    Promise.resolve(app.request(String(input), init));
  return new OpenAI({ baseURL: "http://localhost/v1", apiKey, maxRetries: 0, fetch });
}

/** As it was answered; the client adds its own. */
function bare(answer: object): unknown {
  return JSON.parse(JSON.stringify(answer));
}

Deno.test("kept chats", async (t) => {
  await using served = await openKeyedApp();
  const { ask, keys: { acme: key } } = served;
  const { chat: { completions } } = clientOf(served, key);
  const ids = async (query: OpenAI.ChatCompletionListParams = {}) =>
    (await Array.fromAsync(completions.list(query))).map(({ id }) => id);

  await t.step("what is not asked to be kept is not", async () => {
    const { store: _, ...plain } = SHORT;
    for (const body of [plain, { ...plain, store: false }]) {
      const { id } = await completions.create(body);
      await assertRejects(() => completions.retrieve(id), OpenAI.NotFoundError, "not found");
    }
    assertEquals(await ids(), []);
    assertEquals(await served.store.tenants.storedBytes("acme"), 0);
  });

  await t.step("a chat is read as it was answered, whole or streamed, and deleted", async () => {
    const metadata = { topic: "numbers" };
    const whole = await completions.create({ ...SHORT, metadata, n: 2, seed: 3, logprobs: true });
    const read = await completions.retrieve(whole.id);
    const choices = whole.choices.map((choice) => ({ ...choice, logprobs: null }));
    assertEquals({ ...read }, { ...read, ...whole, choices });
    const { metadata: kept, seed, temperature } = read as unknown as Record<string, unknown>;
    assertEquals([kept, seed, temperature], [metadata, 3, 0]);
    const stream = await completions.create({ ...SHORT, n: 2, seed: 3, stream: true });
    const chunks = await Array.fromAsync(stream);
    const streamed = await completions.retrieve(chunks[0]?.id ?? "");
    assertEquals(streamed.choices, choices);
    assertEquals(streamed.usage, { ...whole.usage, ...streamed.usage });
    assertEquals([streamed.created, streamed.model], [chunks[0]?.created, "tiny"]);
    assertEquals(await ids(), [whole.id, streamed.id]);
    for (const { id } of [whole, streamed]) {
      const object = "chat.completion.deleted";
      assertEquals(bare(await completions.delete(id)), { object, id, deleted: true });
      await assertRejects(() => completions.retrieve(id), OpenAI.NotFoundError);
      await assertRejects(() => completions.delete(id), OpenAI.NotFoundError);
    }
    assertEquals(await served.store.tenants.storedBytes("acme"), 0);
  });

  await t.step("chats are listed by page, model and metadata, which can be changed", async () => {
    const made: string[] = [];
    for (const metadata of [{ a: "1", b: "x" }, { a: "2" }, { a: "1" }]) {
      made.push((await completions.create({ ...SHORT, metadata })).id);
    }
    const [one = "", two = "", three = ""] = made;
    assertEquals(await ids(), made);
    assertEquals(await ids({ order: "desc" }), made.toReversed());
    // the client asks for page after page
    assertEquals(await ids({ limit: 1 }), made);
    assertEquals(await ids({ after: one, limit: 1 }), [two, three]);
    assertEquals((await completions.list({ limit: 0 })).data, []);
    assertEquals(await ids({ model: "tiny" }), made);
    assertEquals(await ids({ model: "other" }), []);
    const filtered = async (query: string) => {
      const page = await (await ask("GET", `${PATH}?${query}`, { key })).json();
      return [page.data.map(({ id }: { id: string }) => id), page.has_more];
    };
    assertEquals(await filtered("metadata[a]=1"), [[one, three], false]);
    assertEquals(await filtered("metadata[a]=1&limit=1"), [[one], true]);
    assertEquals(await filtered("metadata[a]=1&metadata[b]=x"), [[one], false]);
    const changed = await completions.update(two, { metadata: { a: "1" } });
    assertEquals((changed as unknown as { metadata: unknown }).metadata, { a: "1" });
    assertEquals(bare(await completions.retrieve(two)), bare(changed));
    assertEquals(await filtered("metadata[a]=1"), [made, false]);
    await completions.update(two, { metadata: null });
    assertEquals(await filtered("metadata[a]=1"), [[one, three], false]);
    for (const id of made) await completions.delete(id);
  });

  await t.step("messages are listed as they were sent, page by page", async () => {
    const tool_calls = [{
      ...{ id: "call_1", type: "function" as const },
      function: { name: "f", arguments: "{}" },
    }];
    const messages: OpenAI.ChatCompletionMessageParam[] = [
      { role: "system", content: "Be brief.", name: "rules" },
      { role: "user", content: [{ type: "text", text: "a" }, { type: "text", text: "b" }] },
      { role: "assistant", content: "c" },
      { role: "user", content: "d" },
    ];
    const { id } = await completions.create({ ...SHORT, messages });
    const listed = await Array.fromAsync(completions.messages.list(id, { limit: 3 }));
    assertEquals(
      listed.map((message) => [message.role, message.content, message.content_parts ?? null]),
      [
        ["system", "Be brief.", null],
        ["user", null, [{ type: "text", text: "a" }, { type: "text", text: "b" }]],
        ["assistant", "c", null],
        ["user", "d", null],
      ] as unknown,
    );
    assertEquals(listed.map((message) => message.id), [0, 1, 2, 3].map((at) => `${id}-${at}`));
    const back = await completions.messages.list(id, { order: "desc", limit: 1 });
    assertEquals([back.data.map(({ content }) => content), back.has_more], [["d"], true]);
    const unknown = await ask("GET", `${PATH}/${id}/messages?after=x`, { key });
    assertEquals(unknown.status, 400);
    const called: OpenAI.ChatCompletionMessageParam[] = [
      ...messages,
      { role: "assistant", tool_calls },
      { role: "tool", tool_call_id: "call_1", content: "e" },
    ];
    const more = await completions.create({ ...SHORT, messages: called });
    const page = await ask("GET", `${PATH}/${more.id}/messages?after=${more.id}-3`, { key });
    assertEquals(
      (await page.json()).data.map((one: Record<string, unknown>) => [
        ...[one["content"], one["tool_calls"], one["tool_call_id"]],
      ]),
      [[null, tool_calls, undefined], ["e", undefined, "call_1"]],
    );
    await completions.delete(id);
    await completions.delete(more.id);
  });

  await t.step("what cannot be is named", async () => {
    const asked = async (method: string, path: string, json?: unknown) => {
      const response = await ask(method, `${PATH}${path}`, { key, json });
      const { error } = await response.json();
      return [response.status, error.param, error.code];
    };
    const missing = [404, "completion_id", "chat_completion_not_found"];
    assertEquals(await asked("GET", "/chatcmpl-1"), missing);
    assertEquals(await asked("POST", "/chatcmpl-1", { metadata: {} }), missing);
    assertEquals(await asked("DELETE", `/chatcmpl-${"a".repeat(32)}`), missing);
    assertEquals(await asked("GET", "/chatcmpl-1/messages"), missing);
    assertEquals((await asked("GET", "?limit=101"))[1], "limit");
    assertEquals((await asked("GET", "?metadata=x"))[1], "metadata");
    assertEquals((await asked("GET", "?after=chatcmpl-1"))[1], "after");
    const long = { ...SHORT, metadata: { a: "x".repeat(513) } };
    assertEquals((await asked("POST", "", long)).slice(0, 2), [400, "metadata.a"]);
    for (const method of ["GET", "DELETE"]) {
      assertEquals((await ask(method, `${PATH}/input_tokens`, { key })).status, 405);
    }
  });

  await t.step("a client that leaves leaves nothing behind", async () => {
    const stream = await completions.create({
      ...{ ...SHORT, stream: true, max_tokens: 100, temperature: 1, seed: 1 },
    });
    for await (const _ of stream) break;
    assertEquals(await ids(), []);
    assertEquals(await served.store.tenants.storedBytes("acme"), 0);
  });

  await t.step("a tenant that may store no more is told before anything is generated", async () => {
    const { store, keys } = served;
    const own = clientOf(served, keys.globex).chat.completions;
    await store.tenants.update({ id: "globex", limits: { ...NO_LIMITS, storedBytes: 3000 } });
    const { promptTokens } = served.loaded.engine.stats();
    const messages = [{ role: "user" as const, content: "x".repeat(3000) }];
    const large = { ...SHORT, messages, truncate_prompt_tokens: -1 };
    await assertRejects(() => own.create(large), OpenAI.PermissionDeniedError, "Cannot store");
    assertEquals(served.loaded.engine.stats().promptTokens, promptTokens);
    await own.create({ ...large, store: false });
    const { id } = await own.create(SHORT);
    await own.delete(id);
    assertEquals(await store.tenants.storedBytes("globex"), 0);
  });

  await t.step("another tenant's are not there, for anything", async () => {
    const { id } = await completions.create({ ...SHORT, metadata: { a: "secret" } });
    const { chat: { completions: others } } = clientOf(served, served.keys.globex);
    await assertRejects(() => others.retrieve(id), OpenAI.NotFoundError);
    await assertRejects(() => others.update(id, { metadata: {} }), OpenAI.NotFoundError);
    await assertRejects(() => others.delete(id), OpenAI.NotFoundError);
    await assertRejects(() => others.messages.list(id), OpenAI.NotFoundError);
    await assertRejects(() => others.list({ after: id }), OpenAI.BadRequestError, "not listed");
    assertEquals((await others.list()).data, []);
    assertEquals((await completions.list()).data.map((chat) => chat.id), [id]);
  });
});

Deno.test("long texts, which come from a thread as bytes, are kept and listed", async () => {
  await using served = await openKeyedApp();
  using jsonThread = new JsonThread();
  const fake = fakeContext({ maxBody: 900_000 });
  const engine = Object.assign(fake.engine, { maxContext: 1e6 });
  const context = { ...fake, engine, jsonThread, responses: served.context.responses };
  const content = "länge ".repeat(60_000);
  const messages = [{ role: "user", content: [{ type: "text", text: content }] }];
  const response = await post(context, PATH, { model: "tiny", messages, store: true });
  const { id } = await response.json();
  const { data } = await (await createApp(context).request(`${PATH}/${id}/messages`)).json();
  assertEquals(data[0].content_parts, messages[0]?.content);
});

Deno.test("a server that keeps nothing refuses to, and lists nothing", async () => {
  const context = fakeContext();
  const refused = await errorOf(await post(context, PATH, { ...SHORT }));
  assertEquals(refused.status, 400);
  assertStringIncludes(refused.message, "keeps no chats");
  assertEquals((await createApp(context).request(PATH)).status, 405);
});

Deno.test("without keys, what a tenant keeps makes the tenant, for so many days", async () => {
  await using served = await openKeyedApp({ open: true });
  const headers = { "lembas-tenant": "newcomer" };
  const { ask, store } = served;
  assertEquals((await (await ask("GET", PATH, { headers })).json()).data, []);
  assertEquals(await store.tenants.find("newcomer"), undefined);
  const { id } = await (await ask("POST", PATH, { headers, json: SHORT })).json();
  const kept = await store.forTenant("newcomer").chats.find(id);
  assert(kept !== undefined);
  assertEquals(kept.expiresAt - kept.createdAt, 30 * 86_400_000);
});
