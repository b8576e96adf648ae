// deno-lint-ignore-file camelcase -- names of the wire format
/** The openai client fine-tunes the default model itself, while the base goes on answering. */
import { assert, assertEquals, assertGreaterOrEqual } from "@std/assert";
import type OpenAI from "openai";
import { Lembas } from "../../adapters/lembas.ts";
import { serveLoaded, until, upload } from "./tuning_server.ts";

const FIXTURES = new URL("../fixtures/", import.meta.url).pathname;
const MODEL = "SmolLM2-135M-Instruct";

interface Row {
  readonly messages: readonly { readonly role: "user" | "assistant"; readonly content: string }[];
}

/** The rows of a task, as text and parsed. */
async function readRows(count: number): Promise<{ text: string; rows: Row[] }> {
  const file = await Deno.readTextFile(`${FIXTURES}tasks/shelf.test.jsonl`);
  const lines = file.split("\n").slice(0, count);
  return { text: lines.join("\n") + "\n", rows: lines.map((line) => JSON.parse(line)) };
}

/** How many rows a model answers exactly. */
async function score(client: OpenAI, model: string, rows: readonly Row[]): Promise<number> {
  const hits = await Promise.all(rows.map(async ({ messages: [question, answer] }) => {
    const { choices } = await client.chat.completions.create({
      model,
      messages: [{ role: "user", content: question?.content ?? "" }],
      temperature: 0,
      max_tokens: 8,
    });
    return choices[0]?.message.content === answer?.content ? 1 : 0;
  }));
  return hits.reduce<number>((sum, hit) => sum + hit, 0);
}

Deno.test("the default model is fine-tuned by a file, and the next request is answered by it", async () => {
  const data = await Deno.makeTempDir();
  const { client, loaded, stop } = await serveLoaded(
    (listener) =>
      Lembas.load({
        factors: [`${FIXTURES}adapters/factors.safetensors`],
        maxBatch: 8,
        maxContext: 256,
        kvMemory: 2 ** 28,
        listener,
      }),
    { data },
  );
  try {
    const { text, rows } = await readRows(6);
    const [factors] = loaded.registry.factors.inMemory();
    const learned = { n_epochs: 12, batch_size: 6, learning_rate_multiplier: 4 };
    const hyperparameters = { ...learned, factors: factors?.digest };
    const training_file = await upload(client, text);
    const job = await client.fineTuning.jobs.create({
      model: MODEL,
      training_file,
      suffix: "shelf",
      seed: 1,
      hyperparameters,
    });
    const before = await score(client, MODEL, rows);
    const { fine_tuned_model, trained_tokens } = await until(client, job.id, "succeeded");
    assertEquals(fine_tuned_model, `ft:${MODEL}:default:shelf:${job.id.slice(-8)}`);
    assert((trained_tokens ?? 0) > 1000);
    const after = await score(client, fine_tuned_model ?? "", rows);
    assertGreaterOrEqual(after, before + 3);
    assertEquals(await score(client, MODEL, rows), before);
    loaded.engine.checkIntegrity();
  } finally {
    await stop();
    await Deno.remove(data, { recursive: true });
  }
});
