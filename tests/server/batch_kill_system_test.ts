/**
 * kill -9 of a server in the middle of a batch: the next one goes on, no line is lost or doubled, and
 * lines that were kept do not run again. LEMBAS_TEST_KILLS says how often it is killed.
 */
import { LONG } from "../long.ts";
import { assert, assertEquals } from "@std/assert";
import OpenAI from "openai";
import { openStore, type StoreLocation } from "../../adapters/store/open_store.ts";
import { onPostgres } from "../programs/postgres.ts";
import { startPostgres } from "../adapters/store/postgres_server.ts";
import { keepingLog, newDataDirectory } from "../adapters/store/test_store.ts";
import { answers, batchThat, createBatch, ended, lines } from "./batch_client.ts";
import { ServerProcess } from "./server_process.ts";

const SCRIPT = new URL("./tuning_child.ts", import.meta.url);
const KILLS = Number(Deno.env.get("LEMBAS_TEST_KILLS") ?? (LONG ? 4 : 2));
const API_KEY = "the-administrators-key-of-this-test";
const COUNT = 120;
/** Rows of the child's engine: lines that run at once. */
const ROWS = 4;

async function launch(
  location: StoreLocation,
): Promise<{ process: ServerProcess; client: OpenAI }> {
  const args = ["--port", "0", "--open=false", "--api-key", API_KEY];
  const pace = { LEMBAS_TEST_RUN_MS: "3" };
  const process = location.type === "url"
    ? new ServerProcess(SCRIPT, { args, env: { ...pace, DATABASE_URL: location.url } })
    : new ServerProcess(SCRIPT, { args, env: pace, data: location.path });
  const baseURL = `${await process.url()}/v1`;
  return { process, client: new OpenAI({ baseURL, apiKey: API_KEY, maxRetries: 0 }) };
}

async function checkKilled(location: StoreLocation): Promise<void> {
  let { process, client } = await launch(location);
  const { id } = await createBatch(client, lines(COUNT));
  for (let kill = 1; kill <= KILLS; kill++) {
    const least = Math.floor(kill * COUNT / (KILLS + 2));
    const batch = await batchThat(
      client,
      id,
      (batch) => (batch.request_counts?.completed ?? 0) >= least,
    );
    assertEquals(batch.status, "in_progress");
    process.kill("SIGKILL");
    assertEquals((await process.ended()).code, 137);
    ({ process, client } = await launch(location));
    const kept = (await client.batches.retrieve(id)).request_counts?.completed ?? 0;
    assert(kept >= least, `${kept} lines are kept, ${least} were told of`);
  }
  const batch = await batchThat(client, id, ended);
  assertEquals([batch.status, batch.error_file_id], ["completed", null] as never);
  assertEquals(batch.request_counts, { total: COUNT, completed: COUNT, failed: 0 });
  const out = await answers(client, batch.output_file_id);
  // each once, in their order
  assertEquals(out.map(({ custom_id }) => custom_id), lines(COUNT).map((_, i) => `r${i}`));
  const files = await Array.fromAsync(client.files.list(), ({ purpose }) => purpose);
  assertEquals(files.toSorted(), ["batch", "batch_output"]);
  process.kill("SIGTERM");
  assertEquals((await process.ended()).code, 0);
  await checkStore(location);
}

async function checkStore(location: StoreLocation): Promise<void> {
  await using store = await openStore(location, keepingLog());
  const [used] = await store.usage.total({ tenant: "default", by: "model" });
  const requests = used?.requests ?? 0;
  const most = COUNT + KILLS * ROWS;
  assert(requests >= COUNT && requests <= most, `${requests} lines ran, at most ${most} should`);
  const { items } = await store.forTenant("default").files
    .list({ after: undefined, limit: 10, order: "desc", purpose: undefined });
  const bytes = items.reduce((sum, file) => sum + file.bytes, 0);
  assertEquals(await store.tenants.storedBytes("default"), bytes);
}

Deno.test("a batch goes on after kill -9 with every line once, on SQLite", async () => {
  const path = await newDataDirectory();
  try {
    await checkKilled({ type: "directory", path });
  } finally {
    await Deno.remove(path, { recursive: true });
  }
});

Deno.test({
  ...onPostgres("a batch goes on after kill -9 with every line once, on PostgreSQL"),
  fn: async () => {
    await using server = await startPostgres();
    await checkKilled({ type: "url", url: await server.newDatabase() });
  },
});
