// deno-lint-ignore-file camelcase -- names of the wire format
/** The openai client fine-tunes: files up, jobs, events, checkpoints, and the model at the end. */
import {
  assert,
  assertEquals,
  assertExists,
  assertLess,
  assertMatch,
  assertNotEquals,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import OpenAI from "openai";
import { readCore } from "../../adapters/lotr/format.ts";
import type { Store } from "../../adapters/store/store.ts";
import { FAST, rowsOf, say, until, upload, withServer } from "./tuning_server.ts";
import { query } from "../adapters/store/cases.ts";

/** How many contents the store has, whole or arriving. */
async function contentsOf({ database }: Store): Promise<number> {
  const [row] = await query(database, "SELECT count(*) AS n FROM contents");
  return Number(row?.n);
}

Deno.test("a file and a job make a model that the next request may name", () =>
  withServer(async ({ client }) => {
    const training_file = await upload(client);
    const validation_file = await upload(client, rowsOf(6), "valid.jsonl");
    const created = await client.fineTuning.jobs.create({
      model: "tiny",
      training_file,
      validation_file,
      suffix: "shelf",
      seed: 7,
      metadata: { task: "shelf" },
      method: { type: "supervised", supervised: { hyperparameters: FAST } },
    });
    assertMatch(created.id, /^ftjob-\w{24}$/);
    assertEquals(
      [created.object, created.status, created.model, created.seed, created.fine_tuned_model],
      ["fine_tuning.job", "validating_files", "tiny", 7, null],
    );
    assertEquals([created.trained_tokens, created.finished_at, created.error], [null, null, null]);
    const job = await until(client, created.id, "succeeded");
    const model = `ft:tiny:default:shelf:${created.id.slice(-8)}`;
    assertEquals([job.fine_tuned_model, job.error], [model, null]);
    assertEquals(job.metadata, { task: "shelf" });
    const { n_epochs, batch_size, learning_rate_multiplier } = job.hyperparameters;
    assertEquals([n_epochs, batch_size, learning_rate_multiplier], [3, 4, 15]);
    assertEquals(job.method?.supervised?.hyperparameters, job.hyperparameters);
    assert((job.trained_tokens ?? 0) > 0 && (job.finished_at ?? 0) >= job.created_at);
    const ids = await Array.fromAsync(client.models.list(), ({ id }) => id);
    assertEquals(ids, ["tiny", "shelf", model]);
    assertEquals((await client.models.retrieve(model)).owned_by, "default");
    const texts = [];
    for (const name of ["tiny", model, "shelf", "default/shelf@1"]) {
      texts.push(await say(client, name));
    }
    assertNotEquals(texts[0], texts[1]);
    assertEquals(texts.slice(1), Array(3).fill(texts[1]));
  }));

Deno.test("a job's events and results tell every step, its checkpoints can be used", () =>
  withServer(async ({ client }) => {
    const training_file = await upload(client);
    const validation_file = await upload(client, rowsOf(6));
    const { id } = await client.fineTuning.jobs.create({
      model: "tiny",
      training_file,
      validation_file,
      hyperparameters: FAST,
    });
    const job = await until(client, id, "succeeded");
    const events = await Array.fromAsync(client.fineTuning.jobs.listEvents(id, { limit: 4 }));
    assertEquals(new Set(events.map((event) => event.id)).size, events.length);
    assert(
      events.every(({ object, id }) =>
        object === "fine_tuning.job.event" && /^ftevent-\w{24}$/.test(id)
      ),
    );
    assertEquals(events[0]?.message, "The job has successfully completed");
    assertEquals(events.at(-1)?.message, `Created fine-tuning job: ${id}`);
    const metrics = events.filter(({ type }) => type === "metrics").toReversed()
      .map(({ data }) => data as Record<string, number>);
    const steps = metrics.filter((data) => !("valid_loss" in data));
    assertEquals(steps.map(({ step }) => step), Array.from({ length: 18 }, (_, i) => i + 1));
    assertLess(steps.at(-1)?.["train_loss"] ?? NaN, steps[0]?.["train_loss"] ?? NaN);
    assert(metrics.some((data) => "full_valid_mean_token_accuracy" in data));
    await checkResults(client, job.result_files);
    await checkCheckpoints(client, id);
  }));

async function checkResults(client: OpenAI, ids: readonly string[]): Promise<void> {
  const [csv = "", core = "", factors = ""] = ids;
  const text = await (await client.files.content(csv)).text();
  const lines = text.trimEnd().split("\n");
  assertEquals(lines[0], "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy");
  assertEquals(lines.length, 19);
  assertMatch(lines.at(-1) ?? "", /^18,[\d.]+,[\d.]+,[\d.]+,[\d.]+$/);
  const bytes = new Uint8Array(await (await client.files.content(core)).arrayBuffer());
  assertEquals(readCore(bytes).rank, 4);
  const file = await client.files.retrieve(factors);
  assertEquals([file.purpose, file.filename], ["fine-tune-results", "factors.safetensors"]);
}

async function checkCheckpoints(client: OpenAI, id: string): Promise<void> {
  const { checkpoints } = client.fineTuning.jobs;
  const all = await Array.fromAsync(checkpoints.list(id, { limit: 2 }));
  assert(all.length > 2, `${all.length} checkpoints`);
  const steps = all.map(({ step_number }) => step_number);
  assertEquals(steps, steps.toSorted((a, b) => b - a));
  const [newest] = all;
  assertExists(newest);
  assertMatch(newest.id, /^ftckpt-\w{24}$/);
  const name = `ft:tiny:default::${id.slice(-8)}:ckpt-step-${newest.step_number}`;
  assertEquals([newest.fine_tuned_model_checkpoint, newest.fine_tuning_job_id], [name, id]);
  assertEquals(newest.metrics.step, newest.step_number);
  assert((newest.metrics.full_valid_loss ?? 0) > 0 && (newest.metrics.train_loss ?? 0) > 0);
  assertEquals((await client.models.retrieve(name)).id, name);
  assertNotEquals(await say(client, name), await say(client, "tiny"));
}

Deno.test("files are listed by page and purpose, read back, and deleted", () =>
  withServer(async ({ client, url }) => {
    const ids: string[] = [];
    for (const text of ["a", "b", "c"]) ids.push(await upload(client, text, `${text}.jsonl`));
    const listed = await Array.fromAsync(client.files.list({ limit: 2 }), ({ id }) => id);
    assertEquals(listed, ids.toReversed());
    const rising = await client.files.list({ order: "asc", limit: 2, purpose: "fine-tune" });
    assertEquals([rising.data.map(({ id }) => id), rising.has_more], [ids.slice(0, 2), true]);
    assertEquals((await client.files.list({ purpose: "batch" })).data, []);
    const [first = ""] = ids;
    const { created_at, ...file } = await client.files.retrieve(first);
    assert(Math.abs(created_at - Date.now() / 1000) < 60);
    assertEquals(file, {
      id: first,
      object: "file",
      bytes: 1,
      filename: "a.jsonl",
      purpose: "fine-tune",
      status: "processed",
    });
    assertMatch(first, /^file-\w{24}$/);
    assertEquals(await (await client.files.content(first)).text(), "a");
    assertEquals({ ...await client.files.delete(first) }, {
      id: first,
      object: "file",
      deleted: true,
    });
    await assertRejects(() => client.files.retrieve(first), OpenAI.NotFoundError);
    await assertRejects(() => client.files.delete(first), OpenAI.NotFoundError);
    const unknown = await fetch(`${url}/v1/files?colour=red`);
    assertStringIncludes(await unknown.text(), "Unrecognized request argument supplied: colour");
  }));

Deno.test("an upload that cannot be is refused by name, and leaves nothing behind", () =>
  withServer(async ({ client, url, store }) => {
    const before = await contentsOf(store);
    const create = (body: object) =>
      assertRejects(
        () => client.files.create(body as OpenAI.FileCreateParams),
        OpenAI.APIError,
      );
    const file = new File(["x"], "x.jsonl");
    assertEquals((await create({ file, purpose: "fine-tune-results" })).param, "purpose");
    assertEquals((await create({ file: new File([""], "x"), purpose: "fine-tune" })).param, "file");
    const big = await create({ file: new File(["x".repeat(3000)], "x"), purpose: "fine-tune" });
    assertEquals([big.status, big.code], [413, "request_too_large"]);
    const post = async (body: BodyInit, type: string) => {
      const headers = { "content-type": type };
      const response = await fetch(`${url}/v1/files`, { method: "POST", body, headers });
      return [response.status, (await response.json()).error.code];
    };
    assertEquals(await post("{}", "application/json"), [415, "unsupported_media_type"]);
    const cut = '--b\r\ncontent-disposition: form-data; name="file"; filename="x"\r\n\r\nabc';
    const multipart = "multipart/form-data; boundary=b";
    assertEquals(await post(cut, multipart), [400, "invalid_multipart"]);
    assertEquals(await post("--b--\r\n", multipart), [400, "missing_required_parameter"]);
    const all = { after: undefined, limit: 9, order: "asc", purpose: undefined } as const;
    const { files } = store.forTenant("default");
    assertEquals(await files.list(all), { items: [], hasMore: false });
    assertEquals(await contentsOf(store), before);
  }, { maxFile: 2000 }));

Deno.test("a client that leaves in mid-upload leaves nothing behind", () =>
  withServer(async ({ url, store }) => {
    // a factor set is kept from the start
    const before = await contentsOf(store);
    const staged = async () => await contentsOf(store) - before;
    const leave = new AbortController();
    async function* body() {
      const head = 'content-disposition: form-data; name="file"; filename="x"';
      yield new TextEncoder().encode(`--b\r\n${head}\r\n\r\n${"x".repeat(100_000)}`);
      while (await staged() === 0) await new Promise((resolve) => setTimeout(resolve, 2));
      leave.abort();
      await new Promise(() => {});
    }
    const sent = fetch(`${url}/v1/files`, {
      method: "POST",
      headers: { "content-type": "multipart/form-data; boundary=b" },
      body: ReadableStream.from(body()),
      signal: leave.signal,
    });
    await assertRejects(() => sent, DOMException);
    while (await staged() > 0) await new Promise((resolve) => setTimeout(resolve, 2));
  }));

Deno.test("the description of the API has files and jobs, with lembas' own fields", () =>
  withServer(async ({ url }) => {
    const { paths, components } = await (await fetch(`${url}/openapi.json`)).json();
    const { parameters } = paths["/v1/files"].get;
    const limit = parameters.find(({ name }: { readonly name: string }) => name === "limit");
    assertEquals(limit.schema, { type: "integer", minimum: 0, maximum: 10_000 });
    const job = "/v1/fine_tuning/jobs/{fine_tuning_job_id}";
    for (const path of ["/v1/files", "/v1/files/{file_id}/content", job, `${job}/events`]) {
      assertExists(paths[path], path);
    }
    const query = paths["/v1/fine_tuning/jobs"].get.parameters;
    assertEquals(query.map(({ name }: { name: string }) => name), ["after", "limit", "metadata"]);
    const { properties } = components.schemas.FineTuningHyperparameters;
    assertMatch(properties.method.description, /lembas/);
    const form = paths["/v1/files"].post.requestBody.content["multipart/form-data"].schema;
    assertStringIncludes(JSON.stringify(form), "CreateFileRequest");
  }));

Deno.test("jobs are listed newest first by page and by metadata", () =>
  withServer(async ({ client }) => {
    const training_file = await upload(client);
    const ids: string[] = [];
    for (const metadata of [{ a: "1" }, null, { a: "1", b: "2" }, { a: "2" }]) {
      const job = await client.fineTuning.jobs.create({ model: "tiny", training_file, metadata });
      ids.unshift(job.id);
    }
    const list = (query: OpenAI.FineTuning.JobListParams) =>
      Array.fromAsync(client.fineTuning.jobs.list(query), ({ id }) => id);
    assertEquals(await list({ limit: 3 }), ids);
    assertEquals(await list({ metadata: { a: "1" } }), [ids[1], ids[3]]);
    const page = await client.fineTuning.jobs.list({ limit: 2 });
    assertEquals([page.data.length, page.has_more], [2, true]);
    const none = await client.fineTuning.jobs.list({}, { query: { metadata: "null" } });
    assertEquals(none.data.map(({ id }) => id), [ids[2]]);
    await assertRejects(() => list({ after: "ftjob-none" }), OpenAI.BadRequestError);
    await Promise.all(ids.map((id) => until(client, id, "succeeded", "failed")));
  }));

Deno.test("a job that cannot be is refused by the field at fault", () =>
  withServer(async ({ client }) => {
    const training_file = await upload(client);
    const good = { model: "tiny", training_file };
    const cases: readonly [object, string, string?][] = [
      [{ model: "tiny" }, "training_file", "missing_required_parameter"],
      [{ ...good, training_file: "file-none" }, "training_file", "file_not_found"],
      [{ ...good, validation_file: "file-none" }, "validation_file", "file_not_found"],
      [{ ...good, method: { type: "dpo", dpo: {} } }, "method.type"],
      [{ ...good, method: { type: "reinforcement" } }, "method.type"],
      [{ ...good, integrations: [{ type: "wandb" }] }, "integrations", "unsupported_parameter"],
      [{ ...good, suffix: "a b" }, "suffix"],
      [{ ...good, tenant: "a/b" }, "tenant"],
      [{ ...good, seed: -1 }, "seed"],
      [{ ...good, hyperparameters: { n_epochs: 0 } }, "hyperparameters.n_epochs"],
      [{ ...good, hyperparameters: { rank: 65 } }, "hyperparameters.rank"],
      [{ ...good, hyperparameters: { beta: 1 } }, "hyperparameters.beta", "unknown_parameter"],
      [{ ...good, hyperparameters: { factors: "0".repeat(64) } }, "hyperparameters.factors"],
      [{ ...good, metadata: { ["k".repeat(65)]: "v" } }, `metadata.${"k".repeat(65)}`],
      [{
        ...good,
        hyperparameters: FAST,
        method: { type: "supervised", supervised: { hyperparameters: FAST } },
      }, "hyperparameters"],
    ];
    for (const [body, param, code] of cases) {
      const create = () => client.fineTuning.jobs.create(body as OpenAI.FineTuning.JobCreateParams);
      const error = await assertRejects(create, OpenAI.BadRequestError, undefined);
      assertEquals(error.param, param, JSON.stringify(body));
      if (code !== undefined) assertEquals(error.code, code, JSON.stringify(body));
    }
    const other = () => client.fineTuning.jobs.create({ ...good, model: "gpt-4o-mini" });
    await assertRejects(other, OpenAI.NotFoundError);
    const unknown = await assertRejects(
      () => client.fineTuning.jobs.retrieve("ftjob-none"),
      OpenAI.NotFoundError,
    );
    assertEquals(unknown.code, "fine_tune_not_found");
    assertEquals((await client.fineTuning.jobs.list()).data, []);
  }));

Deno.test("a broken line fails the job in validation, naming file, line and reason", () =>
  withServer(async ({ client }) => {
    const training_file = await upload(client, rowsOf(3) + '{"prompt": "x"}\n' + rowsOf(2));
    const { id } = await client.fineTuning.jobs.create({ model: "tiny", training_file });
    const { status, error, fine_tuned_model } = await until(client, id, "failed");
    assertEquals([status, fine_tuned_model], ["failed", null]);
    assertEquals([error?.code, error?.param], ["invalid_training_file", "training_file"]);
    assertMatch(error?.message ?? "", /file-\w+.*line 4/s);
    const events = await client.fineTuning.jobs.listEvents(id);
    assertEquals([events.data[0]?.level, events.data[0]?.message], ["error", error?.message]);
  }));

Deno.test("a core that is not better than the base is kept as a checkpoint, not published", () =>
  withServer(async ({ client }) => {
    const training_file = await upload(client);
    const { id } = await client.fineTuning.jobs.create({
      model: "tiny",
      training_file,
      suffix: "worse",
      hyperparameters: { ...FAST, n_epochs: 1 },
    });
    const job = await until(client, id, "failed");
    assertEquals([job.error?.code, job.fine_tuned_model], ["not_better_than_base", null]);
    assertStringIncludes(job.error?.message ?? "", "not below the base's own");
    assert((job.trained_tokens ?? 0) > 0 && job.result_files.length > 0);
    assertEquals((await Array.fromAsync(client.models.list())).length, 1);
    const { data } = await client.fineTuning.jobs.checkpoints.list(id);
    assert(data.length > 0);
    await say(client, data[0]?.fine_tuned_model_checkpoint ?? "");
  }, { contrary: true }));
