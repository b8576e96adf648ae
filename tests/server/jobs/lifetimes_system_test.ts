// deno-lint-ignore-file camelcase -- names of the wire format
/** How jobs and what they made fare: cancelled, paused, damaged, lost with their server, tried again. */
import {
  assertEquals,
  assertExists,
  assertMatch,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import OpenAI from "openai";
import { newDataDirectory } from "../../adapters/store/test_store.ts";
import {
  actingFor,
  FAST,
  ROWS,
  say,
  startServer,
  type TuningServer,
  until,
  upload,
  withServer,
} from "../tuning_server.ts";
import { damage } from "../../adapters/store/cases.ts";

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

/** The version that a name stands for. */
async function versionOf(client: OpenAI, name: string): Promise<unknown> {
  const model: object = await client.models.retrieve(name);
  return Reflect.get(model, "full_name");
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

/** How a job is told: a paused one is OpenAI's `queued`. */
function stateOf(job: object): unknown[] {
  return ["status", "paused"].map((field) => Reflect.get(job, field));
}

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
    assertEquals(stateOf(await pausing), ["queued", true]);
    const { status } = await jobs.resume(id);
    assertEquals(status, "queued");
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
    assertEquals(roots, ["tiny", "acme/shelf", first, second]);
    assertEquals(await versionOf(client, "acme/shelf"), "acme/shelf@2");
    const deleted = await client.models.delete(second);
    assertEquals({ ...deleted }, { id: second, object: "model", deleted: true });
    assertEquals(await versionOf(client, "acme/shelf"), "acme/shelf@1");
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
    assertEquals(loaded.registry.factors.inMemory().length, 2);
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
  await damage(second.store, "cores", `digest = '${record?.core}'`);
  await assertRejects(() => say(second.client, one), OpenAI.InternalServerError);
  const error = await assertRejects(() => say(second.client, one), OpenAI.InternalServerError);
  assertEquals(error.code, "adapter_damaged");
  const ids = await Array.fromAsync(second.client.models.list(), ({ id }) => id);
  assertEquals(ids, ["tiny", "acme/shelf", "globex/shelf", one, two, three]);
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

Deno.test("a job whose server was lost again and again without a step kept is given up", async () => {
  const data = await newDataDirectory();
  const first = await startServer({ data, contrary: true });
  const training_file = await upload(first.client);
  const { id } = await first.client.fineTuning.jobs.create({
    ...{ model: "tiny", training_file },
    hyperparameters: FAST,
  });
  await until(first.client, id, "failed");
  await first.tuning.stop();
  const { jobs } = first.store.forTenant("default");
  await jobs.change(id, { status: "running", finishedAt: null, error: null, attempts: 5 });
  await first.stop();
  const second = await startServer({ data, contrary: true });
  const { error } = await until(second.client, id, "failed");
  assertEquals(error?.code, "server_error");
  assertStringIncludes(error?.message ?? "", "The job was begun 5 times");
  await second.stop();
  await Deno.remove(data, { recursive: true });
});

Deno.test("where the server fails and not the job, it is tried again", async () => {
  let failures = 1;
  const pace = () => {
    if (failures-- > 0) throw new Error("the device is gone");
  };
  await withServer(async ({ client, lines }) => {
    const { id } = await client.fineTuning.jobs.create({
      ...{ model: "tiny", training_file: await upload(client) },
      hyperparameters: FAST,
    });
    await until(client, id, "succeeded");
    const events = await Array.fromAsync(client.fineTuning.jobs.listEvents(id));
    const told = events.find(({ message }) => message.includes("the job goes on in 2 seconds"));
    assertEquals(told?.level, "warn");
    assertStringIncludes(lines.join("\n"), "the device is gone");
  }, { pace });
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
    assertEquals(listed.filter((id) => id.startsWith("shelf")), ["shelf"]);
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
