// deno-lint-ignore-file camelcase no-console -- names of the wire format; a measured time
/** Several servers on one PostgreSQL: what one is told the others do, and what one leaves they end. */
import {
  assert,
  assertEquals,
  assertLess,
  assertNotEquals,
  assertStringIncludes,
} from "@std/assert";
import type OpenAI from "openai";
import { onPostgres } from "../programs/postgres.ts";
import { ask, clientOfAll, coreFiles, type Replica, Replicas, untilHolds } from "./replicas.ts";
import { until, upload } from "./tuning_server.ts";

/** "Within a second", and a second for a machine that is busy. */
const SOON_MS = 2000;
/** A lease's ten seconds, the looks behind it, and a machine that is busy. */
const TAKEOVER_MS = 40_000;
const LONG = { n_epochs: 20, batch_size: 4, learning_rate_multiplier: 15 } as const;
const STEPS = 20 * 24 / 4;

function replicaTest(name: string, fn: (replicas: Replicas) => Promise<void>): void {
  Deno.test({
    ...onPostgres(name),
    fn: async () => {
      await using replicas = await Replicas.open();
      await fn(replicas);
    },
  });
}

async function say({ client }: Replica, model: string, max_tokens = 12): Promise<string> {
  const body = { model, prompt: "hello", max_tokens, temperature: 0 };
  return (await client.completions.create(body)).choices[0]?.text ?? "";
}

/** Whether a server answers a name, and how. */
async function answer(replica: Replica, model: string): Promise<string | undefined> {
  const body = { model, prompt: "hello", max_tokens: 12, temperature: 0 };
  const { status, json } = await ask(replica, "POST", "/v1/completions", body);
  if (status === 404) return undefined;
  assertEquals(status, 200, JSON.stringify(json));
  const [choice] = json["choices"] as { readonly text: string }[];
  return choice?.text;
}

replicaTest("what is published, rolled back and removed on one is so on the other", async (all) => {
  const [here, there] = await Promise.all([all.start({ runMs: 5 }), all.start({ runMs: 5 })]);
  const [first, second] = await coreFiles(2);
  const path = "/v1/cores/shelf";
  const becomes = async (text: string | undefined) => {
    const ms = await untilHolds(async () => await answer(there, "shelf") === text, SOON_MS);
    assertLess(ms, SOON_MS);
  };
  assertEquals(await answer(there, "shelf"), undefined);
  assertEquals((await ask(here, "POST", path, { cores: first })).status, 200);
  const one = await say(here, "shelf");
  await becomes(one);
  assertEquals((await ask(here, "POST", path, { cores: second })).status, 200);
  const two = await say(here, "shelf");
  assertNotEquals(one, two);
  await becomes(two);
  assertEquals((await ask(here, "POST", `${path}/rollback`)).status, 200);
  await becomes(one);
  assertEquals((await ask(here, "POST", `${path}/publish`, { version: 2 })).status, 200);
  await becomes(two);
  const stream = await there.client.completions.create({
    ...{ model: "shelf", prompt: "hello", max_tokens: 100, stream: true },
    stream_options: { include_usage: true },
  });
  const events = stream[Symbol.asyncIterator]();
  await events.next();
  assertEquals((await ask(here, "DELETE", path)).status, 200);
  await becomes(undefined);
  let last: OpenAI.Completion | undefined;
  for (let event = await events.next(); !event.done; event = await events.next()) {
    last = event.value;
  }
  assert((last?.usage?.completion_tokens ?? 0) > 0);
});

replicaTest("a killed server fails what it had in flight; the other ends its jobs", async (all) => {
  const first = await all.start({ free: STEPS / 3, trainJobs: 1, runMs: 2 });
  const training_file = await upload(first.client);
  const body = { model: "tiny", training_file, hyperparameters: LONG, seed: 5 };
  const { jobs } = first.client.fineTuning;
  const { id: lost } = await jobs.create({ ...body, suffix: "shelf" });
  await untilHolds(async () => (await jobs.checkpoints.list(lost)).data.length > 0, TAKEOVER_MS);
  const second = await all.start({ trainJobs: 1, runMs: 2 });
  const { id: straight } = await jobs.create(body);

  const load = loadOf([first, second]);
  await load.requests(20);
  assertEquals((await all.end(first, "SIGKILL")).code, 137);
  const killed = performance.now();
  await load.requests(20);
  const { answers, failures } = await load.stop();
  second.process.line(/goes on from step/).then(() => {
    const seconds = ((performance.now() - killed) / 1000).toFixed(1);
    console.log(`a killed server's job ran elsewhere after ${seconds} s`);
  });
  assert(answers.every((text) => text === answers[0]) && answers.length >= 40);
  assertEquals(failures, []);

  const { fine_tuned_model } = await until(second.client, lost, "succeeded");
  assertLess(performance.now() - killed, TAKEOVER_MS);
  await until(second.client, straight, "succeeded");
  const cores = [await coreOf(second, lost), await coreOf(second, straight)];
  assertEquals(cores[0], cores[1]);
  const events = await Array.fromAsync(second.client.fineTuning.jobs.listEvents(lost));
  const messages = events.map(({ message }) => message);
  assertStringIncludes(messages.join("\n"), "The job's server has gone");
  const steps = messages.filter((text) => text.includes("training loss"));
  assertEquals(steps.length, new Set(steps).size);
  await say(second, fine_tuned_model ?? "");
  assertEquals((await all.end(second, "SIGTERM")).code, 0);
});

/** Clients that ask all servers in turn; a request that one breaks off is sent to the next. */
function loadOf(replicas: readonly Replica[]) {
  const client = clientOfAll(replicas);
  const body = { model: "tiny", prompt: "hello", max_tokens: 20, temperature: 0 };
  const answers: string[] = [];
  const failures: string[] = [];
  let stopped = false;
  const one = async () => {
    try {
      answers.push((await client.completions.create(body)).choices[0]?.text ?? "");
    } catch (error) {
      failures.push(String(error));
    }
  };
  const clients = Array.from({ length: 4 }, async () => {
    while (!stopped) await one();
  });
  return {
    /** Resolves after so many more. */
    requests: async (count: number) => {
      const wanted = answers.length + failures.length + count;
      const done = () => Promise.resolve(answers.length + failures.length >= wanted);
      await untilHolds(done, TAKEOVER_MS);
    },
    stop: async () => {
      stopped = true;
      await Promise.all(clients);
      return { answers, failures };
    },
  };
}

async function coreOf({ client }: Replica, id: string): Promise<Uint8Array> {
  const { result_files: [, core = ""] } = await client.fineTuning.jobs.retrieve(id);
  return new Uint8Array(await (await client.files.content(core)).arrayBuffer());
}

replicaTest("a server that stops hands its jobs over at once; any of them cancels", async (all) => {
  const first = await all.start({ stepMs: 20 });
  const training_file = await upload(first.client);
  const { id } = await first.client.fineTuning.jobs.create({
    ...{ model: "tiny", training_file },
    hyperparameters: { ...LONG, n_epochs: 2000, ...{ patience: 0 } },
  });
  await until(first.client, id, "running");
  await first.process.line(/starts/);
  const second = await all.start({ stepMs: 20 });
  assertEquals((await all.end(first, "SIGTERM")).code, 0);
  const stopped = performance.now();
  const line = await second.process.line(/goes on from step/);
  assertLess(performance.now() - stopped, SOON_MS);
  assert(Number(/step (\d+)/.exec(line)?.[1]) > 0, line);

  const third = await all.start();
  assertEquals((await third.client.fineTuning.jobs.cancel(id)).status, "cancelled");
  await second.process.line(new RegExp(`${id} cancelled`));
  const { data } = await third.client.fineTuning.jobs.listEvents(id, { limit: 9 });
  assert(data.some(({ message }) => message === "The job was cancelled"));
});
