// deno-lint-ignore-file camelcase -- names of the wire format
/** Responses that are kept: gone on from, read and deleted by their tenant, counted, and expired. */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import OpenAI from "openai";
import { NO_LIMITS } from "../../../../adapters/store/store.ts";
import { createApp } from "../../../../server/http/app.ts";
import { JsonThread } from "../../../../server/http/json_thread.ts";
import { post } from "../../asked.ts";
import { fakeContext } from "../../fake_context.ts";
import { errorOf, type Json, openKeyedApp } from "../../keyed_app.ts";
import { clientOf } from "./keyed_client.ts";

const PATH = "/v1/responses";
/** An answer of a few tokens. */
const SHORT = { model: "tiny", max_output_tokens: 4, temperature: 0 };

/** What both answers have; the client adds its own. */
function bare(response: OpenAI.Responses.Response): unknown {
  return JSON.parse(JSON.stringify(response));
}

/** Whether an answer says that it is kept, which the client's types leave out. */
function storeOf(response: object): unknown {
  return "store" in response && response.store;
}

Deno.test("kept responses", async (t) => {
  await using served = await openKeyedApp();
  const client = clientOf(served, served.keys.acme);
  const { responses } = client;
  const step = (name: string, run: () => Promise<void>) => t.step(name, run);

  await step("a response is read as it was answered, whole or streamed, and deleted", async () => {
    const whole = await responses.create({ ...SHORT, input: "one", metadata: { a: "b" } });
    assertEquals([whole.status, storeOf(whole)], ["incomplete", true]);
    assertEquals(bare(await responses.retrieve(whole.id)), bare(whole));
    const stream = responses.stream({ ...SHORT, input: "one" });
    let last: OpenAI.Responses.Response | undefined;
    for await (const event of stream) {
      if (event.type === "response.incomplete") last = event.response;
    }
    assert(last !== undefined);
    const read = await responses.retrieve(last.id);
    assertEquals([read.output, read.usage], [last.output, last.usage]);
    await responses.delete(whole.id);
    await assertRejects(() => responses.retrieve(whole.id), OpenAI.NotFoundError);
    await assertRejects(() => responses.delete(whole.id), OpenAI.NotFoundError);
  });

  await step("a conversation goes on as if all of it had been sent", async () => {
    const first = await responses.create({ ...SHORT, input: "one", instructions: "Be brief." });
    const second = await responses.create({
      ...{ ...SHORT, previous_response_id: first.id },
      input: [{ role: "user", content: "two" }],
    });
    const third = await responses.create({
      ...{ ...SHORT, previous_response_id: second.id, input: "three", store: false },
    });
    const messages = [
      { role: "user" as const, content: "one" },
      { role: "assistant" as const, content: first.output_text },
      { role: "user" as const, content: "two" },
      { role: "assistant" as const, content: second.output_text },
      { role: "user" as const, content: "three" },
    ];
    const { choices, usage } = await client.chat.completions.create({
      ...{ model: "tiny", max_tokens: 4, temperature: 0, messages },
    });
    assertEquals(third.usage?.input_tokens, usage?.prompt_tokens);
    assertEquals(third.output_text, choices[0]?.message.content);
    assertEquals(third.previous_response_id, second.id);
    const count = { input: "three", previous_response_id: second.id };
    assertEquals((await responses.inputTokens.count(count)).input_tokens, usage?.prompt_tokens);
    // it was not to be kept
    await assertRejects(() => responses.retrieve(third.id), OpenAI.NotFoundError);
    await responses.delete(first.id);
    const error = await assertRejects(
      () => responses.create({ ...SHORT, previous_response_id: second.id, input: "x" }),
      OpenAI.BadRequestError,
      first.id,
    );
    assertEquals(error.code, "previous_response_not_found");
  });

  await step("input items are listed page by page, and referred to", async () => {
    const input = ["a", "b", "c"].map((content) => ({ role: "user" as const, content }));
    const { id, output } = await responses.create({ ...SHORT, input });
    const texts = async (query: OpenAI.Responses.InputItemListParams) =>
      (await Array.fromAsync(responses.inputItems.list(id, query))).map((item) =>
        item.type === "message" && item.content[0] && "text" in item.content[0]
          ? item.content[0].text
          : undefined
      );
    assertEquals(await texts({}), ["c", "b", "a"]);
    // the client asks for page after page
    assertEquals(await texts({ order: "asc", limit: 2 }), ["a", "b", "c"]);
    const page = await responses.inputItems.list(id, { order: "asc", limit: 1 });
    assertEquals(page.has_more, true);
    const [first] = page.data;
    assertEquals(await texts({ order: "asc", after: first?.id ?? "" }), ["b", "c"]);
    const list = `${PATH}/${id}/input_items`;
    const unknown = await served.ask("GET", `${list}?after=msg_1`, { key: served.keys.acme });
    assertEquals(unknown.status, 400);
    const reference = (item: string) => ({ type: "item_reference" as const, id: item });
    const referring = await responses.create({
      ...SHORT,
      input: [reference(first?.id ?? ""), reference(output[0]?.id ?? "")],
    });
    const listed = await Array.fromAsync(
      responses.inputItems.list(referring.id, { order: "asc" }),
    );
    assertEquals(listed.map((item) => "content" in item && item.content), [
      [{ type: "input_text", text: "a" }],
      output[0]?.type === "message" ? output[0].content : [],
    ] as unknown);
    const missing = { ...SHORT, input: [reference("msg_1")] };
    await assertRejects(() => responses.create(missing), OpenAI.NotFoundError, "not found");
  });

  await step("log probabilities are told once, and not kept", async () => {
    const include = ["message.output_text.logprobs" as const];
    const { id, output } = await responses.create({ ...SHORT, input: "x", include });
    const count = (items: typeof output) =>
      items.flatMap((item) =>
        item.type === "message" && item.content[0]?.type === "output_text"
          ? item.content[0].logprobs
          : []
      ).length;
    assertEquals(count(output), 4);
    assertEquals(count((await responses.retrieve(id)).output), 0);
    await assertRejects(
      () => responses.retrieve(id, { include }),
      OpenAI.BadRequestError,
      "not kept",
    );
  });

  await step("what cannot be done with a kept response is said", async () => {
    const { id } = await responses.create({ ...SHORT, input: "x" });
    await assertRejects(() => responses.cancel(id), OpenAI.BadRequestError, "background");
    const { ask, keys: { acme: key } } = served;
    for (const query of ["stream=yes", "starting_after=-1", "starting_after=x"]) {
      assertEquals((await ask("GET", `${PATH}/${id}?${query}`, { key })).status, 400, query);
    }
  });

  await step("a response is told again as events, from any of them on", async () => {
    const { id, output_text, status } = await responses.create({ ...SHORT, input: "one" });
    const whole = await responses.retrieve(id);
    const read = async (more: { readonly starting_after?: number } = {}) =>
      await Array.fromAsync(await responses.retrieve(id, { stream: true, ...more }));
    const events = await read();
    assertEquals(events.map(({ sequence_number }) => sequence_number), [...events.keys()]);
    assertEquals(events.map(({ type }) => type), [
      ...["response.created", "response.in_progress", "response.output_item.added"],
      ...["response.content_part.added", "response.output_text.delta"],
      ...["response.output_text.done", "response.content_part.done"],
      ...["response.output_item.done", `response.${status}`],
    ]);
    const [created, delta, last] = [events[0], events[4], events.at(-1)];
    assert(created?.type === "response.created" && last?.type === "response.incomplete");
    assert(delta?.type === "response.output_text.delta");
    assertEquals([created.response.status, created.response.output], ["in_progress", []]);
    assertEquals(delta.delta, output_text);
    assertEquals({ ...last.response, output_text }, bare(whole));
    assertEquals(await read({ starting_after: 6 }), events.slice(7));
    assertEquals(await read({ starting_after: 99 }), []);
    // the same types as when it was made
    const made = await responses.create({ ...SHORT, input: "one", stream: true });
    const types = (await Array.fromAsync(made)).map(({ type }) => type);
    assertEquals([...new Set(types)], events.map(({ type }) => type));
    const padded = await served.ask("GET", `${PATH}/${id}?stream=true&include_obfuscation=true`, {
      key: served.keys.acme,
    });
    assertEquals(padded.headers.get("content-type"), "text/event-stream; charset=utf-8");
    assertEquals((await padded.text()).match(/"obfuscation"/g)?.length, 1);
  });

  await step("what is no response's id is not found, and input_tokens is only posted", async () => {
    const { ask, keys: { acme: key } } = served;
    const odd = await errorOf(await ask("GET", `${PATH}/response-1`, { key }));
    assertEquals([odd.status, odd.code], [404, "response_not_found"]);
    for (const method of ["GET", "DELETE"]) {
      const response = await ask(method, `${PATH}/input_tokens`, { key });
      assertEquals([response.status, response.headers.get("allow")], [405, "POST"]);
    }
  });

  await step("a schema that cannot be held is named as the request has it", async () => {
    const { ask, keys: { acme: key } } = served;
    const schema = { type: "object", properties: { a: { type: "no such type" } } };
    const format = { type: "json_schema", name: "x", schema, strict: true };
    const tools = [{ type: "function", name: "f", parameters: schema }];
    for (
      const [more, param] of [
        [{ text: { format } }, "text.format"],
        [{ tools, tool_choice: "required" }, "tools[0].parameters"],
      ] as const
    ) {
      const json = { ...SHORT, input: "x", ...more };
      const { error } = await (await ask("POST", PATH, { key, json })).json();
      assert(String(error.param).startsWith(param), JSON.stringify(error));
      assert(!error.message.includes("response_format"), error.message);
      assert(!error.message.includes(".function"), error.message);
    }
  });

  await step("a prompt that is too long loses its beginning where that is asked for", async () => {
    const more = { ...SHORT, input: "long ".repeat(700), truncation: "auto" as const };
    const { id } = await responses.create(more);
    const { usage } = await responses.create({ ...more, input: "end", previous_response_id: id });
    assertEquals(usage?.input_tokens, served.loaded.engine.maxContext - 4);
  });

  await step("a client that leaves leaves nothing behind", async () => {
    const before = await served.store.tenants.storedBytes("acme");
    const stream = await responses.create({
      ...{ model: "tiny", input: "x", stream: true, seed: 1, max_output_tokens: 100 },
    } as OpenAI.Responses.ResponseCreateParamsStreaming);
    let id = "";
    for await (const event of stream) {
      if (event.type !== "response.created") continue;
      id = event.response.id;
      break;
    }
    await assertRejects(() => responses.retrieve(id), OpenAI.NotFoundError);
    assertEquals(await served.store.tenants.storedBytes("acme"), before);
  });

  await step("a tenant that may store no more is told before anything is generated", async () => {
    const { store, keys } = served;
    const own = clientOf(served, keys.globex).responses;
    const limits = { ...NO_LIMITS, storedBytes: 3000 };
    await store.tenants.update({ id: "globex", limits });
    const made = await own.create({ ...SHORT, input: "x" });
    assert(await store.tenants.storedBytes("globex") > 1000);
    const { promptTokens } = served.loaded.engine.stats();
    const large = { ...SHORT, input: "x".repeat(3000), truncation: "auto" as const };
    await assertRejects(() => own.create(large), OpenAI.PermissionDeniedError, "Cannot store");
    assertEquals(served.loaded.engine.stats().promptTokens, promptTokens);
    assertEquals(storeOf(await own.create({ ...large, store: false })), false);
    await own.delete(made.id);
    assertEquals(await store.tenants.storedBytes("globex"), 0);
  });

  await step("another tenant's are not there, for anything", async () => {
    const { id, output } = await responses.create({ ...SHORT, input: "secret" });
    const { responses: others } = clientOf(served, served.keys.globex);
    await assertRejects(() => others.retrieve(id), OpenAI.NotFoundError);
    await assertRejects(() => others.delete(id), OpenAI.NotFoundError);
    await assertRejects(() => others.inputItems.list(id), OpenAI.NotFoundError);
    await assertRejects(() => others.cancel(id), OpenAI.NotFoundError);
    const input = [{ type: "item_reference" as const, id: output[0]?.id ?? "" }];
    await assertRejects(() => others.create({ ...SHORT, input }), OpenAI.NotFoundError);
    const onward = { ...SHORT, input: "x", previous_response_id: id };
    await assertRejects(() => others.create(onward), OpenAI.BadRequestError, "not found");
    assertEquals((await responses.retrieve(id)).id, id);
  });
});

Deno.test("long texts, which come from a thread as bytes, are kept and gone on from", async () => {
  await using served = await openKeyedApp();
  using jsonThread = new JsonThread();
  const fake = fakeContext({ maxBody: 900_000 });
  const engine = Object.assign(fake.engine, { maxContext: 1e6 });
  const context = { ...fake, engine, jsonThread, responses: served.context.responses };
  const make = async (more: Json) => {
    const response = await post(context, PATH, { model: "tiny", ...more });
    return { status: response.status, body: await response.json() };
  };
  const long = "länge ".repeat(60_000);
  const part = [{ type: "input_text", text: long }];
  const { body: { id } } = await make({ input: long, instructions: long.slice(0, 100_000) });
  const app = createApp(context);
  const items = await (await app.request(`${PATH}/${id}/input_items`)).json();
  assertEquals(items.data[0].content, part);
  const next = { input: [{ role: "user", content: "end" }], previous_response_id: id };
  assertEquals((await make(next)).status, 200);
  const [, onward] = engine.requests.map(({ prompt }) => fake.model.tokenizer.decode([...prompt]));
  const said = `<user>${long}</user><assistant>Hello, world</assistant><user>end</user>`;
  assertEquals(onward, `${said}<assistant>`);
  // two of them are more than a body may be
  const second = await make({ input: [{ role: "user", content: part }], previous_response_id: id });
  assertEquals(second.status, 200);
  const third = await make({ ...next, previous_response_id: second.body.id });
  assertEquals([third.status, third.body.error.param], [413, "previous_response_id"]);
  assertStringIncludes(third.body.error.message, "Begin another one");
});

Deno.test("without keys, what a tenant keeps makes the tenant, and reading makes none", async () => {
  await using served = await openKeyedApp({ open: true });
  const headers = { "lembas-tenant": "newcomer" };
  const { ask, store } = served;
  const missing = await ask("GET", `${PATH}/resp_${"a".repeat(32)}`, { headers });
  assertEquals((await errorOf(missing)).code, "response_not_found");
  assertEquals(await store.tenants.find("newcomer"), undefined);
  const json = { ...SHORT, input: "x" };
  const { id } = await (await ask("POST", PATH, { headers, json })).json();
  const text = await (await ask("GET", `${PATH}/${id}`, { headers })).text();
  assertStringIncludes(text, id);
  assertEquals((await ask("GET", `${PATH}/${id}`)).status, 404);
});

Deno.test("a response is kept for so many days, and is metered as a chat", async () => {
  await using served = await openKeyedApp({ metered: true });
  const { responses } = clientOf(served, served.keys.acme);
  const { id, usage } = await responses.create({ ...SHORT, input: "x" });
  const kept = await served.store.forTenant("acme").responses.find(id);
  assertEquals((kept?.expiresAt ?? 0) - (kept?.createdAt ?? 0), 30 * 86_400_000);
  const [total] = await served.store.usage.total({ tenant: "acme", by: "model" });
  assertEquals(total, {
    ...{ key: "tiny", requests: 1, trainedTokens: 0, cachedTokens: 0 },
    promptTokens: usage?.input_tokens ?? 0,
    completionTokens: usage?.output_tokens ?? 0,
  });
});
