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
import { readCore } from "../../adapters/format.ts";
import type { Store } from "../../adapters/store/store.ts";
import { newDataDirectory } from "../adapters/store/test_store.ts";
import {
  actingFor,
  ROWS,
  rowsOf,
  startServer,
  type TuningServer,
  until,
  upload,
  withServer,
} from "./tuning_server.ts";

const FAST = { n_epochs: 3, batch_size: 4, learning_rate_multiplier: 15 } as const;

/** How many contents the store has, whole or arriving. */
async function contentsOf({ database }: Store): Promise<number> {
  const { rows: [row] } = await database.executeSql("SELECT count(*) AS n FROM contents");
  return Number(row.n);
}

/** Says what a model answers, greedily. */
async function say(client: OpenAI, model: string): Promise<string> {
  const { choices } = await client.completions.create({
    model,
    prompt: "hello",
    max_tokens: 12,
    temperature: 0,
  });
  return choices[0]?.text ?? "";
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
    assertEquals(ids, ["tiny", "default/shelf@1", model]);
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
    const create = (body: object) =>
      assertRejects(
        () => client.files.create(body as OpenAI.FileCreateParams),
        OpenAI.APIError,
      );
    const file = new File(["x"], "x.jsonl");
    assertEquals((await create({ file, purpose: "assistants" })).param, "purpose");
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
    assertEquals(await contentsOf(store), 0);
  }, { maxFile: 2000 }));

Deno.test("a client that leaves in mid-upload leaves nothing behind", () =>
  withServer(async ({ url, store }) => {
    const staged = () => contentsOf(store);
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

/** Steps that wait until they are let go. */
function gate() {
  let free = Infinity;
  let waiting: (() => void)[] = [];
  return {
    hold: (after: number) => void (free = after),
    release: () => {
      free = Infinity;
      for (const go of waiting) go();
      waiting = [];
    },
    pace: () => {
      if (free-- > 0) return;
      return new Promise<void>((resolve) => waiting.push(resolve));
    },
  };
}

async function untilStep(server: TuningServer, id: string): Promise<void> {
  while (true) {
    const { data } = await server.client.fineTuning.jobs.listEvents(id, { limit: 1 });
    if (data[0]?.type === "metrics") return;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

Deno.test("cancel ends a running job, a queued one, and no finished one", async () => {
  const gated = gate();
  gated.hold(4);
  await withServer(async (server) => {
    const { client } = server;
    const { jobs } = client.fineTuning;
    const training_file = await upload(client);
    const running = await jobs.create({ model: "tiny", training_file, hyperparameters: FAST });
    await untilStep(server, running.id);
    const queued = await jobs.create({ model: "tiny", training_file });
    await until(client, queued.id, "queued");
    const busy = await assertRejects(() => client.files.delete(training_file), OpenAI.APIError);
    assertEquals([busy.status, busy.code], [409, "file_in_use"]);
    assertEquals((await jobs.cancel(queued.id)).status, "cancelled");
    const cancelling = jobs.cancel(running.id);
    gated.release();
    const cancelled = await cancelling;
    assertEquals([cancelled.status, cancelled.fine_tuned_model], ["cancelled", null]);
    assertExists(cancelled.finished_at);
    for (const action of ["cancel", "pause", "resume"] as const) {
      const error = await assertRejects(() => jobs[action](running.id), OpenAI.BadRequestError);
      assertStringIncludes(error.message, "its status is 'cancelled'");
    }
    assertEquals((await Array.fromAsync(client.models.list())).length, 1);
    await client.files.delete(training_file);
  }, { ...gated, maxJobs: 1 });
});

Deno.test("a paused job goes on where it was, and ends as if it had not been paused", async () => {
  const gated = gate();
  await withServer(async (server) => {
    const { client, store } = server;
    const { jobs } = client.fineTuning;
    const training_file = await upload(client);
    const body = { model: "tiny", training_file, hyperparameters: FAST, seed: 3 };
    const straight = await until(client, (await jobs.create(body)).id, "succeeded");
    gated.hold(4);
    const { id } = await jobs.create(body);
    await untilStep(server, id);
    const pausing = jobs.pause(id);
    gated.release();
    assertEquals((await pausing).status as string, "paused");
    assertEquals((await jobs.resume(id)).status, "queued");
    const resumed = await until(client, id, "succeeded");
    assertEquals(resumed.trained_tokens, straight.trained_tokens);
    const cores = (await store.models.all()).map(({ core }) => core);
    assertEquals(cores[0], cores[1]);
    const events = await Array.fromAsync(jobs.listEvents(id));
    const steps = events.map(({ data }) => Object(data)).filter((data) =>
      "train_loss" in data && !("sample_loss" in data)
    );
    assertEquals(steps.length, 18);
    const fresh = await jobs.create(body);
    await jobs.pause(fresh.id);
    await jobs.resume(fresh.id);
    await until(client, fresh.id, "succeeded");
  }, { ...gated, maxJobs: 1 });
});

Deno.test("a tenant's models are its own; a name again is the next version; deleting takes it away", () =>
  withServer(async ({ client, url, store }) => {
    await store.tenants.create({ id: "acme" });
    const acme = actingFor(client, "acme");
    const training_file = await upload(acme);
    const body = { model: "tiny", training_file, suffix: "shelf", hyperparameters: FAST };
    const create = async (seed: number) => {
      const { id } = await acme.fineTuning.jobs.create({ ...body, seed, ...{ tenant: "acme" } });
      return (await until(acme, id, "succeeded")).fine_tuned_model ?? "";
    };
    const first = await create(1);
    const second = await create(2);
    assertMatch(first, /^ft:tiny:acme:shelf:\w{8}$/);
    const roots = await Array.fromAsync(client.models.list(), ({ id }) => id);
    assertEquals(roots, ["tiny", "acme/shelf@2", first, second]);
    assertEquals((await client.models.retrieve("acme/shelf")).id, "acme/shelf@2");
    const deleted = await client.models.delete(second);
    assertEquals({ ...deleted }, { id: second, object: "model", deleted: true });
    assertEquals((await client.models.retrieve("acme/shelf")).id, "acme/shelf@1");
    await assertRejects(() => say(client, second), OpenAI.NotFoundError);
    await say(client, first);
    await assertRejects(() => client.models.delete("tiny"), OpenAI.BadRequestError);
    const unloaded = await fetch(`${url}/v1/unload_lora_adapter`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ lora_name: first }),
    });
    assertEquals(unloaded.status, 400);
    assertStringIncludes(await unloaded.text(), `DELETE /v1/models/${first}`);
    await assertRejects(() => client.models.delete("nothing"), OpenAI.NotFoundError);
  }));

Deno.test("the paper's method makes a factor set of its own, and its core is served with it", () =>
  withServer(async ({ client, loaded }) => {
    const training_file = await upload(client);
    const hyperparameters = { ...FAST, method: "lotr", rank: 2 };
    const { id } = await client.fineTuning.jobs.create({
      model: "tiny",
      training_file,
      hyperparameters,
    });
    const job = await until(client, id, "succeeded");
    assertEquals(loaded.registry.factorSets().length, 2);
    await say(client, job.fine_tuned_model ?? "");
  }));

Deno.test("metrics count tokens and jobs by status", () =>
  withServer(async ({ client, url }) => {
    const training_file = await upload(client);
    const { id } = await client.fineTuning.jobs.create({
      model: "tiny",
      training_file,
      hyperparameters: FAST,
    });
    const { trained_tokens } = await until(client, id, "succeeded");
    const text = await (await fetch(`${url}/metrics`)).text();
    assertMatch(text, new RegExp(`^lembas_training_tokens_total\\S* ${trained_tokens}$`, "m"));
    assertMatch(text, /^lembas_training_jobs\{status="succeeded"\S* 1$/m);
    assertMatch(text, /^lembas_training_jobs\{status="queued"\S* 0$/m);
  }));

/** Changes a byte of a stored core. */
async function damage({ database }: Store, digest: string): Promise<void> {
  await database.executeSql(
    `UPDATE chunks SET data = set_byte(data, length(data) - 1, 255 - get_byte(data, length(data) - 1))
      WHERE content = (SELECT content FROM cores WHERE digest = $1)`,
    [digest],
  );
}

Deno.test("published models outlive the server; a damaged one is named, the others serve", async () => {
  const data = await newDataDirectory();
  const first = await startServer({ data });
  const models: string[] = [];
  for (const [seed, tenant] of [[1, "acme"], [2, "globex"], [3, "acme"]] as const) {
    await first.store.tenants.ensure(tenant);
    const client = actingFor(first.client, tenant);
    const { id } = await client.fineTuning.jobs.create({
      model: "tiny",
      training_file: await upload(client),
      suffix: "shelf",
      seed,
      hyperparameters: FAST,
    });
    models.push((await until(client, id, "succeeded")).fine_tuned_model ?? "");
  }
  const [one = "", two = "", three = ""] = models;
  const text = await say(first.client, three);
  const [record] = await first.store.models.all();
  await first.stop();
  const second = await startServer({ data });
  await damage(second.store, record?.core ?? "");
  await assertRejects(() => say(second.client, one), OpenAI.InternalServerError);
  const error = await assertRejects(() => say(second.client, one), OpenAI.InternalServerError);
  assertEquals(error.code, "adapter_damaged");
  const ids = await Array.fromAsync(second.client.models.list(), ({ id }) => id);
  assertEquals(ids, ["tiny", "acme/shelf@2", "globex/shelf@1", one, two, three]);
  assertEquals(await say(second.client, three), text);
  assertMatch(second.lines.join("\n"), /quarantined core \w+ \(acme\/shelf@1\)/);
  await second.stop();
  await Deno.remove(data, { recursive: true });
});

Deno.test("a crash between publishing and the job's last word loses neither", async () => {
  const data = await newDataDirectory();
  const first = await startServer({ data });
  const training_file = await upload(first.client);
  const { id } = await first.client.fineTuning.jobs.create({
    model: "tiny",
    training_file,
    hyperparameters: FAST,
  });
  const before = await until(first.client, id, "succeeded");
  await first.tuning.stop();
  const nothing = { fineTunedModel: null, trainedTokens: null, resultFiles: [], finishedAt: null };
  const { jobs } = first.store.forTenant("default");
  await jobs.change(id, { ...nothing, status: "running" });
  await first.stop();
  const trained = () => Promise.reject(new Error("it trained again"));
  const second = await startServer({ data, pace: trained });
  const after = await until(second.client, id, "succeeded");
  const { finished_at: _before, ...was } = before;
  const { finished_at, ...is } = after;
  assertEquals(is, was);
  assertExists(finished_at);
  await say(second.client, after.fine_tuned_model ?? "");
  await second.stop();
  await Deno.remove(data, { recursive: true });
});

Deno.test("many jobs run at once and each gets its own model", () =>
  withServer(async ({ client }) => {
    const training_file = await upload(client);
    const ids = await Promise.all(Array.from({ length: 12 }, async (_, seed) => {
      const body = { model: "tiny", training_file, suffix: "shelf", hyperparameters: FAST, seed };
      return (await client.fineTuning.jobs.create(body)).id;
    }));
    const jobs = await Promise.all(ids.map((id) => until(client, id, "succeeded")));
    const listed = await Array.fromAsync(client.models.list(), ({ id }) => id);
    assertEquals(new Set(jobs.map((job) => job.fine_tuned_model)).size, 12);
    assertEquals(listed.filter((id) => id.startsWith("default/shelf@")), ["default/shelf@12"]);
    assertEquals(listed.length, 14);
  }, { maxJobs: 5 }));

Deno.test("a server that cannot train says so, and still serves what was trained", async () => {
  const data = await newDataDirectory();
  const trains = await startServer({ data });
  const training_file = await upload(trains.client, ROWS);
  const { id } = await trains.client.fineTuning.jobs.create({
    model: "tiny",
    training_file,
    hyperparameters: FAST,
  });
  const { fine_tuned_model } = await until(trains.client, id, "succeeded");
  const text = await say(trains.client, fine_tuned_model ?? "");
  await trains.stop();
  const serves = await startServer({ data, serveOnly: true });
  assertEquals(await say(serves.client, fine_tuned_model ?? ""), text);
  const error = await assertRejects(
    () => serves.client.fineTuning.jobs.create({ model: "tiny", training_file }),
    OpenAI.BadRequestError,
  );
  assertEquals(error.code, "training_unavailable");
  await serves.stop();
  await Deno.remove(data, { recursive: true });
});
