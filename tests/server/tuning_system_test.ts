// deno-lint-ignore-file camelcase -- names of the wire format
/** Fine-tuning through the process's ends: kill -9, SIGTERM, and a second process. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import OpenAI from "openai";
import { newDataDirectory } from "../adapters/store/test_store.ts";
import { ServerProcess } from "./server_process.ts";
import { until, upload } from "./tuning_server.ts";

const SCRIPT = new URL("./tuning_child.ts", import.meta.url);
const LONG = { n_epochs: 20, batch_size: 4, learning_rate_multiplier: 15 } as const;
const STEPS = 20 * 24 / 4;

async function start(data: string, free?: number) {
  const child = new ServerProcess(SCRIPT, {
    args: ["--port", "0", "--train-jobs", "1"],
    ...(free === undefined ? {} : { env: { LEMBAS_TEST_FREE: String(free) } }),
    data,
  });
  const baseURL = `${await child.url()}/v1`;
  return { child, client: new OpenAI({ baseURL, apiKey: "any", maxRetries: 0 }) };
}

async function withData(body: (data: string) => Promise<void>): Promise<void> {
  const data = await newDataDirectory();
  try {
    await body(data);
  } finally {
    await Deno.remove(data, { recursive: true });
  }
}

async function untilCheckpoint(client: OpenAI, id: string): Promise<void> {
  while ((await client.fineTuning.jobs.checkpoints.list(id)).data.length === 0) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

async function coreOf(client: OpenAI, id: string): Promise<Uint8Array> {
  const { result_files: [, core = ""] } = await until(client, id, "succeeded");
  return new Uint8Array(await (await client.files.content(core)).arrayBuffer());
}

/** Micro-batches of steps after which some checkpoint is written and training is not done. */
const SOME = STEPS / 3;

Deno.test("after kill -9 every job is there, and the one that ran ends with the same core", () =>
  withData(async (data) => {
    const first = await start(data, SOME);
    const training_file = await upload(first.client);
    const body = { model: "tiny", training_file, hyperparameters: LONG, seed: 5 };
    const running = await first.client.fineTuning.jobs.create({ ...body, suffix: "shelf" });
    await untilCheckpoint(first.client, running.id);
    const queued = await first.client.fineTuning.jobs.create(body);
    first.child.kill("SIGKILL");
    assertEquals((await first.child.ended()).code, 137);

    const second = await start(data);
    const { client, child } = second;
    const broken = await coreOf(client, running.id);
    const straight = await coreOf(client, queued.id);
    assertEquals(broken, straight);
    const events = await Array.fromAsync(client.fineTuning.jobs.listEvents(running.id));
    const messages = events.map(({ message }) => message);
    assertStringIncludes(messages.join("\n"), "The job's server has gone");
    const steps = messages.filter((text) => text.includes("training loss"));
    assertEquals(steps.length, new Set(steps).size);
    assert(steps.length > SOME && steps.length <= STEPS, `${steps.length} steps`);
    assertMatch(await child.line(/goes on from step/), new RegExp(running.id));
    child.kill("SIGTERM");
    assertEquals((await child.ended()).code, 0);

    const third = await start(data);
    const ids = await Array.fromAsync(third.client.models.list(), ({ id }) => id);
    assert(ids.includes(`ft:tiny:default:shelf:${running.id.slice(-8)}`), ids.join());
    const listed = await Array.fromAsync(third.client.fineTuning.jobs.list());
    assertEquals(listed.map(({ id }) => id), [queued.id, running.id]);
    third.child.kill("SIGKILL");
    await third.child.ended();
  }));

Deno.test("SIGTERM lets a job write down where it is; it goes on from there", () =>
  withData(async (data) => {
    const { child, client } = await start(data);
    const training_file = await upload(client);
    const { id } = await client.fineTuning.jobs.create({
      model: "tiny",
      training_file,
      hyperparameters: { ...LONG, n_epochs: 2000, ...{ patience: 0 } },
    });
    await untilCheckpoint(client, id);
    const { status, estimated_finish } = await client.fineTuning.jobs.retrieve(id);
    assertEquals(status, "running");
    assert((estimated_finish ?? 0) > Date.now() / 1000 - 60, `${estimated_finish}`);
    child.kill("SIGTERM");
    const { code, lines } = await child.ended();
    assertEquals(code, 0);
    assertStringIncludes(
      lines.join("\n"),
      `${id} stopped; it goes on when the server starts again`,
    );
    const again = await start(data);
    const line = await again.child.line(/goes on from step/);
    assert(Number(/step (\d+)/.exec(line)?.[1]) > 0, line);
    assertEquals((await again.client.fineTuning.jobs.cancel(id)).status, "cancelled");
    again.child.kill("SIGTERM");
    assertEquals((await again.child.ended()).code, 0);
  }));

Deno.test("a second server on the same data directory is refused with one line", () =>
  withData(async (data) => {
    const { child } = await start(data);
    const second = await new ServerProcess(SCRIPT, { args: ["--port", "0"], data }).ended();
    assertEquals([second.code, second.lines.length], [1, 1]);
    assertMatch(
      second.lines[0] ?? "",
      /Cannot use the data directory \S+: process \d+ has it\. Choose another one with --data\./,
    );
    child.kill("SIGTERM");
    assertEquals((await child.ended()).code, 0);
  }));
