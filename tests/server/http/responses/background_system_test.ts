// deno-lint-ignore-file camelcase -- names of the wire format
/** Responses in the background: read while they run, heard from any event on, cancelled, lost. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import OpenAI from "openai";
import { NO_LIMITS } from "../../../../adapters/store/store.ts";
import { Sealer } from "../../../../server/access/sealing.ts";
import { createApp } from "../../../../server/http/app.ts";
import { keepingLog, newDataDirectory, openTestStore } from "../../../adapters/store/test_store.ts";
import { errorOf, type Json, post } from "../../asked.ts";
import { type FakeContext, fakeContext } from "../../fake_context.ts";
import { openKeyedApp } from "../../keyed_app.ts";
import { ServerProcess } from "../../server_process.ts";
import { clientOf } from "./keyed_client.ts";

type Response = OpenAI.Responses.Response;
type Event = OpenAI.Responses.ResponseStreamEvent;

const ASK = { model: "tiny", input: "hi", background: true };
const ENDED = ["completed", "incomplete", "failed", "cancelled"];

/** A server that keeps responses, whose engine stands still until it is let go. */
async function slowServer() {
  const opened = await openTestStore(keepingLog());
  const { store } = opened;
  const fake: FakeContext = fakeContext();
  let gate = Promise.withResolvers<void>();
  let free = 0;
  fake.engine.pace = () => free-- > 0 ? Promise.resolve() : gate.promise;
  const context = { ...fake, responses: { store, sealer: new Sealer("x"), days: 30 } };
  const app = createApp(context);
  const fetch = (input: string | URL | Request, init?: RequestInit) =>
    Promise.resolve(app.request(String(input), init));
  const { responses, conversations } = new OpenAI({
    ...{ baseURL: "http://localhost/v1", apiKey: "any", maxRetries: 0, fetch },
  });
  return {
    ...{ app, store, context, engine: fake.engine, responses, conversations },
    /** Lets so many steps run, or all that come. */
    go: (steps = Infinity) => {
      free = steps;
      gate.resolve();
      gate = Promise.withResolvers<void>();
    },
    [Symbol.asyncDispose]: async () => {
      await context.lifecycle.drain();
      await opened[Symbol.asyncDispose]();
    },
  };
}

async function untilEnd(responses: OpenAI.Responses, id: string): Promise<Response> {
  return await until(responses, id, ENDED);
}

async function until(responses: OpenAI.Responses, id: string, statuses: readonly string[]) {
  for (;;) {
    const response = await responses.retrieve(id);
    if (statuses.includes(response.status ?? "")) return response;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** What each answer has; the client adds its own. */
function bare(response: Response): Json {
  const { output_text: _, ...told } = JSON.parse(JSON.stringify(response));
  return told;
}

Deno.test("one answers at once, and ends as it would have with somebody waiting", async () => {
  await using server = await slowServer();
  const { responses, store, go } = server;
  const queued = await responses.create(ASK);
  assertEquals([queued.status, queued.background, queued.output], ["queued", true, []]);
  const error = await errorOf(
    await post(server.context, "/v1/responses", { ...ASK, previous_response_id: queued.id }),
  );
  assertEquals([error.status, error.code], [400, "previous_response_in_progress"]);
  go(1);
  const running = await until(responses, queued.id, ["in_progress"]);
  assertEquals(running.output, []);
  go();
  const ended = await untilEnd(responses, queued.id);
  go();
  const whole = await responses.create({ ...ASK, background: false });
  const { id: _, created_at, completed_at, output, ...rest } = bare(ended);
  assert(Number(completed_at) >= Number(created_at));
  const { output: told, ...same } = bare(whole);
  assertEquals(rest, { ...rest, ...pick(same, ["status", "usage", "model"]), background: true });
  assertEquals(ended.output_text, whole.output_text);
  assertEquals([(output as Json[]).length, (told as Json[]).length], [1, 1]);
  assertEquals((await responses.inputItems.list(queued.id)).data.length, 1);
  // what a running one counts beside what it has, an ended one does not
  const rows = await Promise.all(
    [ended, whole].map(({ id }) => store.forTenant("default").responses.find(id)),
  );
  const sizes = rows.map((row) => `${row?.input}${row?.output}${row?.body}`.length);
  const all = sizes.reduce((sum, size) => sum + size, 0);
  assertEquals(await store.tenants.storedBytes("default"), all);
});

function pick(from: Json, names: readonly string[]): Json {
  return Object.fromEntries(names.map((name) => [name, from[name]]));
}

Deno.test("it is heard by many, from any event on, while it runs and afterwards", async () => {
  await using server = await slowServer();
  const { responses, engine, go } = server;
  const stream = await responses.create({ ...ASK, stream: true });
  const heard: Event[] = [];
  const all = (async () => {
    for await (const event of stream) heard.push(event);
  })();
  go(3);
  while (heard.length < 6) await new Promise((resolve) => setTimeout(resolve, 5));
  const [created] = heard;
  assert(created?.type === "response.created");
  const { id } = created.response;
  const hear = async (after: number) =>
    await Array.fromAsync(
      await responses.retrieve(id, { stream: true, starting_after: after }),
    );
  const late = hear(4);
  // whoever leaves takes nothing away
  const leaving = await responses.retrieve(id, { stream: true });
  for await (const event of leaving) if (event.sequence_number === 3) break;
  assertEquals([engine.running, engine.aborted], [1, 0]);
  go();
  await all;
  assertEquals(heard.map(({ sequence_number }) => sequence_number), heard.map((_, at) => at));
  assertEquals(heard.slice(0, 3).map(({ type }) => type), [
    ...["response.created", "response.queued", "response.in_progress"],
  ]);
  assertEquals(await late, heard.slice(5));
  assertEquals(await hear(7), heard.slice(8));
  const last = heard.at(-1);
  assert(last?.type === "response.completed");
  assertEquals(bare(last.response), bare(await responses.retrieve(id)));
  // another server has only what is kept: other numbers, and the same end
  const elsewhere = createApp(server.context);
  const told = await elsewhere.request(`/v1/responses/${id}?stream=true&starting_after=30`);
  const [event, ...more] = (await told.text()).trim().split("\n\n");
  assertEquals(more, []);
  assert(event?.startsWith(`event: response.completed\ndata: {"type":"response.completed"`));
});

Deno.test("cancelling ends the work, twice as once, and only what runs", async () => {
  await using server = await slowServer();
  const { responses, conversations, engine, go, store } = server;
  const { id: conversation } = await conversations.create();
  const { id } = await responses.create({ ...ASK, conversation });
  const events = Array.fromAsync(await responses.retrieve(id, { stream: true }));
  go(2);
  await until(responses, id, ["in_progress"]);
  const cancelled = await responses.cancel(id);
  assertEquals([cancelled.status, cancelled.output], ["cancelled", []]);
  assertEquals(bare(await responses.cancel(id)), bare(cancelled));
  go();
  const last = (await events).at(-1);
  assert(last?.type === "response.failed");
  assertEquals(last.response.status, "cancelled");
  assertEquals([engine.running, engine.aborted], [0, 1]);
  assertEquals(bare(await responses.retrieve(id)), bare(cancelled));
  assertEquals((await conversations.items.list(conversation)).data, []);
  const { id: second } = await responses.create(ASK);
  go();
  await untilEnd(responses, second);
  const done = () => responses.cancel(second);
  await assertRejects(done, OpenAI.BadRequestError, "status is 'completed'");
  const { id: third } = await responses.create({ ...ASK, background: false });
  await assertRejects(() => responses.cancel(third), OpenAI.BadRequestError, "'background'");
  const { id: fourth } = await responses.create(ASK);
  await responses.delete(fourth);
  go();
  await server.context.lifecycle.drain();
  assertEquals(await store.forTenant("default").responses.find(fourth), undefined);
});

Deno.test("what cannot run in the background is refused, and leaves nothing", async () => {
  await using server = await slowServer();
  server.go();
  const cases: readonly (readonly [Json, string])[] = [
    [{ store: false }, "background"],
    [{ model: "nobody" }, "model"],
    [{ input: "x".repeat(300) }, "input"],
  ];
  for (const [more, param] of cases) {
    const refused = await post(server.context, "/v1/responses", { ...ASK, ...more });
    assertEquals((await errorOf(refused)).param, param);
  }
  const keepsNothing = await errorOf(await post(fakeContext(), "/v1/responses", ASK));
  assertEquals([keepsNothing.status, keepsNothing.param], [400, "background"]);
  assertEquals(await server.store.tenants.storedBytes("default"), 0);
});

Deno.test("a tenant's limits hold before anything is kept, and in its end", async () => {
  await using served = await openKeyedApp({ metered: true });
  const { store, keys } = served;
  const { responses } = clientOf(served, keys.acme);
  const ask = { ...ASK, max_output_tokens: 4, temperature: 0 };
  const limits = { ...NO_LIMITS, requestsPerMinute: 1 };
  await store.tenants.update({ id: "acme", limits });
  const { id } = await responses.create(ask);
  await assertRejects(() => responses.create(ask), OpenAI.RateLimitError);
  const { usage, status } = await untilEnd(responses, id);
  assertEquals(status, "incomplete");
  const [total] = await store.usage.total({ tenant: "acme", by: "model" });
  assertEquals([total?.requests, total?.completionTokens], [1, usage?.output_tokens]);
  const { responses: others } = clientOf(served, keys.globex);
  await assertRejects(() => others.retrieve(id, { stream: true }), OpenAI.NotFoundError);
  await assertRejects(() => others.cancel(id), OpenAI.NotFoundError);
});

Deno.test("one whose answer the tenant may not store has failed, and says why", async () => {
  await using server = await slowServer();
  const { store, responses, engine, go } = server;
  Object.assign(engine, { maxContext: 5000, reply: () => "x".repeat(3000) });
  const { id } = await responses.create(ASK);
  const storedBytes = await store.tenants.storedBytes("default");
  await store.tenants.update({ id: "default", limits: { ...NO_LIMITS, storedBytes } });
  go();
  const { status, error } = await untilEnd(responses, id);
  assertEquals([status, error?.message.startsWith("Cannot store")], ["failed", true]);
});

Deno.test("one whose server was killed has failed for whoever asks then", async () => {
  const path = await newDataDirectory();
  const script = new URL("../../serve_child.ts", import.meta.url);
  const launch = async () => {
    const process = new ServerProcess(script, { args: ["--port", "0"], data: path });
    const baseURL = `${await process.url()}/v1`;
    return { process, ...new OpenAI({ baseURL, apiKey: "any", maxRetries: 0 }) };
  };
  try {
    const first = await launch();
    // its model stands still after a few tokens
    const { id } = await first.responses.create({ ...ASK, max_output_tokens: 50 });
    await until(first.responses, id, ["in_progress"]);
    first.process.kill("SIGKILL");
    await first.process.ended();
    const second = await launch();
    const lost = await second.responses.retrieve(id);
    assertEquals([lost.status, lost.error?.code], ["failed", "server_error"]);
    const told = await Array.fromAsync(await second.responses.retrieve(id, { stream: true }));
    assertEquals(told.at(-1)?.type, "response.failed");
    const cancelling = () => second.responses.cancel(id);
    await assertRejects(cancelling, OpenAI.BadRequestError, "status is 'failed'");
    second.process.kill("SIGTERM");
    assertEquals((await second.process.ended()).code, 0);
  } finally {
    await Deno.remove(path, { recursive: true });
  }
});
