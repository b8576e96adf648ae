// deno-lint-ignore-file camelcase -- names of the wire format
/** The openai client has files of requests answered: batches from their file to their answers. */
import {
  assert,
  assertEquals,
  assertMatch,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import OpenAI from "openai";
import { NO_LIMITS } from "../../adapters/store/store.ts";
import { openStore } from "../../adapters/store/open_store.ts";
import { keepingLog, newDataDirectory } from "../adapters/store/test_store.ts";
import { answers, type Batch, batchThat, createBatch, ended, line, lines } from "./batch_client.ts";
import { actingFor, startServer, type TuningServer, withServer } from "./tuning_server.ts";

Deno.test("a batch answers each line as the endpoint does, in the file's order", () =>
  withServer(async ({ client, store }) => {
    const requests = [
      line("a"),
      line("core", { model: "shelf" }),
      line("much", { max_tokens: -1 }),
      line("nobody", { model: "nobody/nothing" }),
      line("b", { max_tokens: 2 }),
    ];
    const created = await createBatch(client, requests, { metadata: { of: "test" } });
    assertMatch(created.id, /^batch_\w{24}$/);
    assertEquals([created.object, created.status, created.metadata], [
      "batch",
      "validating",
      { of: "test" },
    ]);
    assertEquals((created.expires_at ?? 0) - created.created_at, 24 * 3600);
    const batch = await batchThat(client, created.id, ended);
    assertEquals(batch.status, "completed");
    assertEquals(batch.request_counts, { total: 5, completed: 2, failed: 3 });
    for (const at of [batch.in_progress_at, batch.finalizing_at, batch.completed_at]) {
      assert((at ?? 0) >= batch.created_at);
    }
    const out = await answers(client, batch.output_file_id);
    assertEquals(out.map(({ custom_id }) => custom_id), ["a", "b"]);
    for (const { id, response, error, custom_id } of out) {
      assertMatch(id, /^batch_req_\w{24}$/);
      assertMatch(response?.request_id ?? "", /^req_\w+$/);
      assertEquals([response?.status_code, error], [200, null]);
      const direct = await client.completions.create({
        ...{ model: "tiny", prompt: `say ${custom_id}`, temperature: 0 },
        max_tokens: custom_id === "a" ? 4 : 2,
      });
      assertEquals(response?.body.choices, direct.choices);
    }
    const refused = await answers(client, batch.error_file_id);
    assertEquals(
      refused.map(({ custom_id, response, error }) => [
        custom_id,
        response?.status_code,
        response?.body.error.param,
        error,
      ]),
      [
        ["core", 404, "model", null],
        ["much", 400, "max_tokens", null],
        ["nobody", 404, "model", null],
      ],
    );
    const file = await client.files.retrieve(batch.output_file_id ?? "");
    assertEquals([file.purpose, file.filename], ["batch_output", `${batch.id}_output.jsonl`]);
    // what was used is counted like any request's
    const [used] = await store.usage.total({ tenant: "default", by: "model" });
    assertEquals(used?.promptTokens, 2 * (batch.usage?.input_tokens ?? 0)); // and asked directly
    assertEquals(
      batch.usage?.total_tokens,
      out.reduce((sum, one) => sum + one.response?.body.usage.total_tokens, 0),
    );
  }));

Deno.test("a file that cannot be run fails its batch, each line by number and parameter", () =>
  withServer(async ({ client }) => {
    const requests = [
      line("a"),
      "{broken",
      line("a"),
      line("b", {}, { url: "/v1/chat/completions" }),
      line("c", {}, { method: "GET" }),
      JSON.stringify({ method: "POST", url: "/v1/completions", body: {} }),
      line("d", { stream: true }),
      "[1]",
    ];
    const { id } = await createBatch(client, requests);
    const batch = await batchThat(client, id, ended);
    assertEquals([batch.status, batch.errors?.object], ["failed", "list"]);
    assert((batch.failed_at ?? 0) >= batch.created_at);
    assertEquals(batch.errors?.data?.map(({ line, code, param }) => [line, code, param]), [
      [2, "invalid_json_line", null],
      [3, "duplicate_custom_id", "custom_id"],
      [4, "invalid_value", "url"],
      [5, "invalid_value", "method"],
      [6, "missing_required_parameter", "custom_id"],
      [7, "invalid_value", "body.stream"],
      [8, "invalid_json_line", null],
    ]);
    for (const { message = "" } of batch.errors?.data ?? []) assert(message.length > 10);
    assertEquals([batch.output_file_id, batch.error_file_id], [null, null] as never);
    const blank = await batchThat(client, (await createBatch(client, [""])).id, ended);
    assertEquals(blank.errors?.data?.map(({ code, line }) => [code, line]), [["empty_file", null]]);
  }));

Deno.test("a batch that cannot be is refused by its field", () =>
  withServer(async ({ client }) => {
    const refused = async (more: object, param: string, text: string) => {
      const error = await assertRejects(
        () => createBatch(client, lines(1), more),
        OpenAI.BadRequestError,
      );
      assertEquals(error.param, param);
      assertStringIncludes(error.message, text);
    };
    await refused({ input_file_id: "file-none" }, "input_file_id", "no file 'file-none'");
    await refused({ endpoint: "/v1/moderations" }, "endpoint", "supported values");
    await refused({ completion_window: "1h" }, "completion_window", '"24h"');
    await refused({ metadata: { a: "x".repeat(600) } }, "metadata.a", "512");
    const late = { anchor: "created_at", seconds: 1 };
    await refused({ output_expires_after: late }, "output_expires_after.seconds", "3600");
    const file = new File(["{}"], "rows.jsonl");
    const { id } = await client.files.create({ file, purpose: "fine-tune" });
    await refused({ input_file_id: id }, "input_file_id", "'fine-tune', not 'batch'");
    await assertRejects(() => client.batches.retrieve("batch_x"), OpenAI.NotFoundError);
    await assertRejects(() => client.batches.cancel("batch_x"), OpenAI.NotFoundError);
    await assertRejects(() => client.batches.list({ after: "batch_x" }), OpenAI.BadRequestError);
  }));

Deno.test("batches are listed by page; their files may expire", () =>
  withServer(async ({ client }) => {
    const output_expires_after = { anchor: "created_at", seconds: 3600 } as const;
    const made: Batch[] = [];
    for (let i = 0; i < 3; i++) {
      made.push(await createBatch(client, lines(1), { output_expires_after }));
    }
    const listed = await Array.fromAsync(client.batches.list({ limit: 2 }), ({ id }) => id);
    assertEquals(listed, made.map(({ id }) => id).toReversed());
    const { output_file_id } = await batchThat(client, made[0]?.id ?? "", ended);
    const file = await client.files.retrieve(output_file_id ?? "");
    assertEquals((file.expires_at ?? 0) - file.created_at, 3600);
  }));

/** A gate before each run of the engine: so many pass, then all wait until it is opened. */
class Gate {
  #left: number;
  #open: () => void = () => {};
  #opened: Promise<void>;

  constructor(runs: number) {
    this.#left = runs;
    this.#opened = new Promise((resolve) => this.#open = resolve);
  }

  readonly pass = async () => {
    if (this.#left-- <= 0) await this.#opened;
  };

  open(): void {
    this.#open();
  }
}

Deno.test("a cancelled batch keeps what it has done, and says which lines were not run", async () => {
  const gate = new Gate(30);
  await withServer(async ({ client }) => {
    const { id, input_file_id } = await createBatch(client, lines(40));
    const some = await batchThat(client, id, (batch) => (batch.request_counts?.completed ?? 0) > 0);
    assertEquals(some.status, "in_progress");
    const busy = await assertRejects(() => client.files.delete(input_file_id), OpenAI.APIError);
    assertEquals([busy.status, busy.code], [409, "file_in_use"]);
    const cancelling = await client.batches.cancel(id);
    assert(["cancelling", "cancelled"].includes(cancelling.status));
    assert(cancelling.cancelling_at);
    gate.open();
    const batch = await batchThat(client, id, ended);
    assertEquals(batch.status, "cancelled");
    assert((batch.cancelled_at ?? 0) >= (batch.cancelling_at ?? Infinity));
    const out = await answers(client, batch.output_file_id);
    assertEquals(out.length, batch.request_counts?.completed);
    assert(out.length > 0 && out.length < 40);
    const rest = await answers(client, batch.error_file_id);
    assertEquals(new Set(rest.map(({ error }) => error?.code)), new Set(["batch_cancelled"]));
    checkOnce([...out, ...rest], 40);
    const again = await assertRejects(() => client.batches.cancel(id), OpenAI.ConflictError);
    assertStringIncludes(again.message, "'cancelled'");
    await client.files.delete(input_file_id);
  }, { run: gate.pass });
});

function checkOnce(found: readonly { readonly custom_id: string }[], count: number): void {
  const ids = found.map(({ custom_id }) => custom_id).toSorted();
  assertEquals(ids, Array.from({ length: count }, (_, i) => `r${i}`).toSorted());
}

/** Stops a server in the middle of a batch of 60 lines; `after` meets the directory it leaves. */
async function stoppedHalfway(after: (data: string, id: string) => Promise<void>): Promise<void> {
  const data = await newDataDirectory();
  try {
    const gate = new Gate(40);
    const server = await startServer({ data, run: gate.pass });
    const { id } = await createBatch(server.client, lines(60));
    await batchThat(server.client, id, (batch) => (batch.request_counts?.completed ?? 0) > 0);
    const stopped = server.stop();
    gate.open();
    await stopped;
    await after(data, id);
  } finally {
    await Deno.remove(data, { recursive: true });
  }
}

async function restarted(
  data: string,
  body: (server: TuningServer) => Promise<void>,
): Promise<void> {
  const server = await startServer({ data });
  try {
    await body(server);
  } finally {
    await server.stop();
  }
}

Deno.test("a server that stops leaves a batch between lines, and the next start goes on", () =>
  stoppedHalfway((data, id) =>
    restarted(data, async ({ client, loaded }) => {
      const batch = await batchThat(client, id, ended);
      assertEquals(batch.request_counts, { total: 60, completed: 60, failed: 0 });
      const out = await answers(client, batch.output_file_id);
      assertEquals(out.map(({ custom_id }) => custom_id), lines(60).map((_, i) => `r${i}`));
      const ran = loaded.engine.stats().finished.length + loaded.engine.stats().finished.stop;
      assert(ran > 0 && ran < 60, `${ran} of 60 lines ran after the start`);
    })
  ));

Deno.test("a batch whose time is over keeps what it has done", () =>
  stoppedHalfway(async (data, id) => {
    {
      await using store = await openStore({ type: "directory", path: data }, keepingLog());
      const { batches } = store.forTenant("default");
      await batches.change(id, () => ({ expiresAt: Date.now() - 1 }));
    }
    await restarted(data, async ({ client }) => {
      const batch = await batchThat(client, id, ended);
      assertEquals(batch.status, "expired");
      assert((batch.expired_at ?? 0) >= batch.created_at);
      const out = await answers(client, batch.output_file_id);
      assert(out.length > 0 && out.length < 60);
      const rest = await answers(client, batch.error_file_id);
      assertEquals(new Set(rest.map(({ error }) => error?.code)), new Set(["batch_expired"]));
      checkOnce([...out, ...rest], 60);
    });
  }));

Deno.test("a request that somebody waits for takes the rows of a batch's lines", () =>
  withServer(async ({ client, loaded: { engine } }) => {
    const long = { max_tokens: 60, ignore_eos: true };
    const { id } = await createBatch(client, lines(24, long));
    while (engine.stats().running < 4) await new Promise((resolve) => setTimeout(resolve, 1));
    assertEquals(engine.stats().preemptions, 0);
    const asked = { model: "tiny", prompt: "now", temperature: 0 };
    await client.completions.create({ ...asked, ...long });
    // all but one of the four rows gave way
    assert(engine.stats().preemptions >= 3, `${engine.stats().preemptions} rows gave way`);
    const before = await client.batches.retrieve(id);
    assert((before.request_counts?.completed ?? 0) < 20);
    const batch = await batchThat(client, id, ended);
    assertEquals(batch.request_counts, { total: 24, completed: 24, failed: 0 });
  }));

Deno.test("lines wait for their tenant's limit, and leave half of it to others", () =>
  withServer(async ({ client, store }) => {
    const limits = { ...NO_LIMITS, requestsPerMinute: 600 };
    await store.tenants.update({ id: "default", limits });
    const { id } = await createBatch(client, lines(310, { max_tokens: 1 }));
    await batchThat(client, id, (batch) => (batch.request_counts?.completed ?? 0) >= 300);
    const asked = { model: "tiny", prompt: "now", max_tokens: 1 };
    for (let i = 0; i < 20; i++) await client.completions.create(asked);
    await store.tenants.update({ id: "default", limits: NO_LIMITS });
    const batch = await batchThat(client, id, ended);
    assertEquals(batch.request_counts, { total: 310, completed: 310, failed: 0 });
  }));

Deno.test("a batch whose answers are more than its tenant may store fails with those it has", () =>
  withServer(async ({ client, store }) => {
    const file = new File([lines(30).join("\n")], "in.jsonl");
    const { id: input_file_id, bytes } = await client.files.create({ file, purpose: "batch" });
    const limits = { ...NO_LIMITS, storedBytes: bytes + 3000 };
    await store.tenants.update({ id: "default", limits });
    const { id } = await batchOf(client, input_file_id);
    const batch = await batchThat(client, id, ended);
    assertEquals(batch.status, "failed");
    assertEquals(batch.errors?.data?.map(({ code }) => code), ["storage_quota_exceeded"]);
    const out = await answers(client, batch.output_file_id);
    assertEquals(out.length, batch.request_counts?.completed);
    assert(out.length > 0 && out.length < 30);
    const stored = await store.tenants.storedBytes("default");
    assert(stored > bytes && stored <= bytes + 3000);
  }));

function batchOf(client: OpenAI, input_file_id: string): Promise<Batch> {
  const endpoint = "/v1/completions";
  return client.batches.create({ input_file_id, endpoint, completion_window: "24h" });
}

Deno.test("every endpoint of a batch answers as over HTTP", () =>
  withServer(async ({ client }) => {
    const chat = { messages: [{ role: "user", content: "hello" }], max_tokens: 3, temperature: 0 };
    const bodies = {
      "/v1/chat/completions": chat,
      "/v1/responses": { input: "hello", store: false, max_output_tokens: 3, temperature: 0 },
    } as const;
    for (const [endpoint, body] of Object.entries(bodies)) {
      const head = { custom_id: "a", method: "POST", url: endpoint };
      const request = JSON.stringify({ ...head, body: { model: "tiny", ...body } });
      const more = { endpoint: endpoint as keyof typeof bodies };
      const batch = await batchThat(client, (await createBatch(client, [request], more)).id, ended);
      assertEquals(batch.request_counts, { total: 1, completed: 1, failed: 0 });
      const [answer] = await answers(client, batch.output_file_id);
      const { choices, output } = answer?.response?.body ?? {};
      const text = choices?.[0].message.content ?? output?.[0].content[0].text;
      assert(text.length > 0);
      assert((batch.usage?.output_tokens ?? 0) > 0);
    }
  }));

Deno.test("one tenant's batches, and their files, are not there for another", () =>
  withServer(async ({ client }) => {
    const [acme, globex] = [actingFor(client, "acme"), actingFor(client, "globex")];
    const { id, input_file_id } = await createBatch(acme, lines(2));
    const { output_file_id } = await batchThat(acme, id, ended);
    await assertRejects(() => globex.batches.retrieve(id), OpenAI.NotFoundError);
    await assertRejects(() => globex.batches.cancel(id), OpenAI.NotFoundError);
    await assertRejects(() => globex.files.content(output_file_id ?? ""), OpenAI.NotFoundError);
    await assertRejects(
      () => createBatch(globex, lines(1), { input_file_id }),
      OpenAI.BadRequestError,
    );
    assertEquals((await globex.batches.list()).data, []);
  }));
