// deno-lint-ignore-file camelcase -- names of the wire format
/**
 * Jobs that follow a LoRA which the same server serves, over a tiny real model: what the job says of
 * itself, that its core is nearer to the LoRA, that it goes on where it was, and whose LoRAs it may follow.
 */
import { assert, assertEquals, assertLess, assertMatch, assertRejects } from "@std/assert";
import type OpenAI from "openai";
import { Lembas } from "../../adapters/lembas.ts";
import { readCore } from "../../adapters/lotr/format.ts";
import { randomFactors } from "../../adapters/lotr/make/makers.ts";
import { type Stack, stackOf } from "../../adapters/lotr/stack.ts";
import { openCheckpoint } from "../../src/checkpoint/open.ts";
import { smallLora } from "../adapters/lora/small_loras.ts";
import { folderOf, randomPrompt } from "../engine/tiny.ts";
import { actingFor, serveLoaded, type TuningServer, until, upload } from "./tuning_server.ts";

const PROMPTS = Array.from({ length: 40 }, (_, i) => {
  const prompt = randomPrompt(5, i).map((id) => String.fromCharCode(97 + id % 26)).join("");
  return `${JSON.stringify({ prompt })}\n`;
}).join("");

const LEARNT = { n_epochs: 8, batch_size: 8, rank: 16 };

async function stackOfTiny(): Promise<Stack> {
  using checkpoint = await openCheckpoint(folderOf("llama"));
  return stackOf(await checkpoint.digest(), checkpoint.config);
}

/** A server with the LoRAs default/teacher and other/secret. */
async function withSchool(body: (server: TuningServer<Lembas>) => Promise<void>): Promise<void> {
  const root = await Deno.makeTempDir();
  try {
    const stack = await stackOfTiny();
    await Deno.mkdir(`${root}/adapters/default`, { recursive: true });
    await Deno.mkdir(`${root}/adapters/other`);
    await Deno.writeFile(`${root}/adapters/default/teacher.safetensors`, smallLora(stack, 5));
    await Deno.writeFile(`${root}/adapters/other/secret.safetensors`, smallLora(stack, 6));
    const modules = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj"] as const;
    const server = await serveLoaded(
      (listener) =>
        Lembas.load({
          ...{ model: folderOf("llama"), adapters: `${root}/adapters`, dtype: "fp32", listener },
          ...{ device: "cpu", maxBatch: 8, maxContext: 64, kvMemory: 2 ** 24 },
          factors: [randomFactors({ stack, rank: 16, modules })],
        }),
      { data: `${root}/data` },
    );
    try {
      await body(server);
    } finally {
      await server.stop();
    }
  } finally {
    await Deno.remove(root, { recursive: true });
  }
}

/** Asks for a job; its `method` is none that OpenAI's client knows. */
async function ask(
  { client, loaded }: TuningServer<Lembas>,
  distillation: Record<string, unknown>,
  acting: OpenAI = client,
) {
  const [factors] = loaded.registry.factors.inMemory();
  const hyperparameters = { ...LEARNT, factors: factors.digest };
  const job: unknown = {
    model: loaded.checkpoint.id,
    training_file: await upload(acting, PROMPTS),
    seed: 1,
    suffix: "follower",
    method: { type: "distillation", distillation: { hyperparameters, ...distillation } },
  };
  return await acting.fineTuning.jobs.create(
    job as OpenAI.FineTuning.Jobs.JobCreateParams,
  );
}

async function messagesOf({ client }: TuningServer<Lembas>, id: string): Promise<string> {
  const { data } = await client.fineTuning.jobs.listEvents(id, { limit: 100 });
  return data.map(({ message }) => message).reverse().join("\n");
}

Deno.test("a job follows a served LoRA on prompts alone, and its core is published as it is nearer", () =>
  withSchool(async (server) => {
    const { client, loaded } = server;
    const how = { on: "sampled", teacher_tokens: 8, max_tokens: 6 };
    const { id, method } = await ask(server, { teacher: "teacher", ...how });
    const { hyperparameters: _, ...said } = Reflect.get(Object(method), "distillation");
    const [teacher] = loaded.registry.list().filter(({ model }) => model === "default/teacher");
    assertEquals(said, { teacher: teacher.name, ...how, temperature: 1 });
    const done = await until(client, id, "succeeded");
    assertMatch(done.fine_tuned_model ?? "", /^ft:.*:default:follower:/);
    const messages = await messagesOf(server, id);
    assertMatch(messages, /default\/teacher\S* says what it expects of 40 rows\n/);
    assertMatch(messages, /Its 8 likeliest tokens hold \d+\.\d\d% of its probability\n/);
    assertMatch(messages, /Training 36 examples/);
    const losses = Array.from(
      messages.matchAll(/loss[^\d]*(\d+\.\d+)/g),
      ([, loss]) => Number(loss),
    );
    assertLess(Math.min(...losses.slice(1)), losses[0]);
    const answer = await client.completions.create({
      model: done.fine_tuned_model ?? "",
      prompt: "abc",
      max_tokens: 2,
    });
    assertEquals(answer.usage?.completion_tokens, 2);
    loaded.engine.checkIntegrity();
  }));

Deno.test("a job that is paused and goes on ends with the core of one that is not", () =>
  withSchool(async (server) => {
    const { client } = server;
    const coreOf = async (job: OpenAI.FineTuning.Jobs.FineTuningJob) => {
      const names = await Promise.all(job.result_files.map((id) => client.files.retrieve(id)));
      const file = names.find(({ filename }) => filename === "core.safetensors");
      const content = await client.files.content(file?.id ?? "");
      return readCore(new Uint8Array(await content.arrayBuffer())).digest;
    };
    const how = { teacher: "default/teacher", max_tokens: 6 };
    const whole = await until(client, (await ask(server, how)).id, "succeeded");
    const { id } = await ask(server, how);
    while (!/Checkpoint created/.test(await messagesOf(server, id))) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    await client.fineTuning.jobs.pause(id);
    await client.fineTuning.jobs.resume(id);
    const resumed = await until(client, id, "succeeded");
    assertEquals(await coreOf(resumed), await coreOf(whole));
    assertEquals((await messagesOf(server, id)).match(/says what it expects/g)?.length, 1);
  }));

Deno.test("another tenant's LoRA is no teacher, nor is the base, nor one that has gone", () =>
  withSchool(async (server) => {
    const { client, loaded } = server;
    const refusal = async (teacher: string, acting?: OpenAI, more = {}) => {
      const error = await assertRejects(() => ask(server, { teacher, ...more }, acting), Error);
      return `${Reflect.get(error, "status")} ${Reflect.get(error, "param")} ${error.message}`;
    };
    const guest = actingFor(client, "guest");
    assertMatch(await refusal("nobody"), /^404 /);
    assertMatch(await refusal("default/teacher", guest), /^(404|400 method.distillation.teacher) /);
    assertMatch(await refusal("other/secret"), /^(404|400 method.distillation.teacher) /);
    assertMatch(await refusal(loaded.checkpoint.id), /^400 method.distillation.teacher .*LoRA/);
    assertMatch(await refusal("teacher", client, { on: "all" }), /^400 method.distillation.on /);
    const { id } = await ask(server, { teacher: "teacher" }, actingFor(client, "default"));
    await client.fineTuning.jobs.pause(id);
    const { status } = await client.fineTuning.jobs.retrieve(id);
    assert(status === "queued" || status === "running");
    loaded.registry.remove("default/teacher");
    await client.fineTuning.jobs.resume(id);
    await assertRejects(() => until(client, id, "succeeded"), Error, "teacher_not_found");
  }));
