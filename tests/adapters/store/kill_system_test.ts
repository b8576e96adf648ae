/**
 * kill -9 in the middle of uploads, publishes, jobs and usage: nothing acknowledged is lost, sums add
 * up, and the store opens soon. LEMBAS_TEST_KILLS says how often (the long run is 20).
 */
import { LONG } from "../../long.ts";
import { assert, assertEquals, assertGreaterOrEqual, assertLess } from "@std/assert";
import { openStore, type StoreLocation } from "../../../adapters/store/open_store.ts";
import type { Store } from "../../../adapters/store/store.ts";
import { query, readText } from "./cases.ts";
import { BATCH, type Promised, TENANT, TOKENS } from "./kill_child.ts";
import { onPostgres } from "../../programs/postgres.ts";
import { startPostgres } from "./postgres_server.ts";
import { keepingLog, newDataDirectory } from "./test_store.ts";

const KILLS = Number(Deno.env.get("LEMBAS_TEST_KILLS") ?? (LONG ? 2 : 1));
const KINDS = ["file", "core", "job", "usage"] as const;

/** Lets a process write a bit of everything and a while longer, kills it; returns what it promised. */
async function writeAndKill(location: StoreLocation, milliseconds: number): Promise<Promised[]> {
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "-A", "--no-check", "--quiet"],
      ...[new URL("./kill_child.ts", import.meta.url).pathname, JSON.stringify(location)],
    ],
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  let text = "";
  let timer: ReturnType<typeof setTimeout> | undefined;
  for await (const part of child.stdout.pipeThrough(new TextDecoderStream())) {
    text += part;
    if (!KINDS.every((kind) => text.includes(`"type":"${kind}"`))) continue;
    timer ??= setTimeout(() => child.kill("SIGKILL"), milliseconds);
  }
  const { signal } = await child.status;
  clearTimeout(timer);
  assertEquals(signal, "SIGKILL");
  // the last line may be torn: then nobody has read it
  return text.split("\n").slice(0, -1).map((line) => JSON.parse(line) as Promised);
}

async function checkPromises(store: Store, promised: readonly Promised[]): Promise<void> {
  const { files, jobs } = store.forTenant(TENANT);
  const attempts = new Map<string, number>();
  for (const one of promised) {
    if (one.type === "file") {
      const text = await readText(files, one.id);
      assertEquals(text.slice(0, 36), one.text);
    } else if (one.type === "core") {
      const version = { type: "number", number: one.version } as const;
      const found = await store.cores.resolve(TENANT, "bot", version);
      assertEquals(found?.digest, one.digest);
      assert((await store.cores.bytes(one.digest)).length > 0);
    } else if (one.type === "job") attempts.set(one.id, one.attempts);
  }
  for (const [id, least] of attempts) {
    const job = await jobs.find(id);
    assertGreaterOrEqual(job?.attempts ?? 0, least);
    const events = await jobs.events(id, { after: undefined, limit: Infinity, order: "desc" });
    assertGreaterOrEqual(events.items.length, job?.attempts ?? 0);
    const progress = new TextDecoder().decode(await jobs.progress(id));
    assertGreaterOrEqual(parseInt(progress), events.items.length);
  }
}

/** Usage: all that was acknowledged, at most one batch a kill that was not, each counted once. */
async function checkUsage(
  store: Store,
  promised: readonly Promised[],
  kills: number,
): Promise<void> {
  const told = promised.reduce((sum, one) => sum + (one.type === "usage" ? one.requests : 0), 0);
  const [total] = await store.usage.total({ by: "tenant" });
  assertGreaterOrEqual(total?.requests ?? 0, told);
  assertLess(total?.requests ?? 0, told + kills * BATCH + 1);
  assertEquals(total?.promptTokens, TOKENS * (total?.requests ?? 0));
}

/** What is counted for the quota is what is there, and no content is left without an owner. */
async function checkBytes(store: Store): Promise<void> {
  const [sums] = await query(
    store.database,
    `SELECT (SELECT coalesce(sum(bytes), 0) FROM files JOIN contents c ON c.id = content) AS files,
      (SELECT coalesce(sum(bytes), 0) FROM core_versions) AS cores`,
  );
  assertEquals(
    await store.tenants.storedBytes(TENANT),
    Number(sums?.files) + Number(sums?.cores),
  );
  const [row] = await query(
    store.database,
    `SELECT count(*) AS stray
    FROM contents WHERE arriving_at IS NULL AND id NOT IN (
      SELECT content FROM files UNION SELECT content FROM cores UNION
      SELECT content FROM job_progress UNION SELECT content FROM factor_sets)`,
  );
  assertEquals(row?.stray, 0);
}

async function killRuns(location: StoreLocation): Promise<void> {
  const promised: Promised[] = [];
  for (let kill = 1; kill <= KILLS; kill++) {
    promised.push(...await writeAndKill(location, (kill * 377) % 700));
    const log = keepingLog();
    await using store = await openStore(location, log);
    await checkPromises(store, promised);
    await checkUsage(store, promised, kill);
    await checkBytes(store);
    assertEquals(log.warnings, []);
  }
}

Deno.test("what was acknowledged survives kill -9 on SQLite", async () => {
  const path = await newDataDirectory();
  try {
    await killRuns({ type: "directory", path });
  } finally {
    await Deno.remove(path, { recursive: true });
  }
});

Deno.test({
  ...onPostgres("what was acknowledged survives kill -9 on PostgreSQL"),
  fn: async () => {
    await using server = await startPostgres();
    await killRuns({ type: "url", url: await server.newDatabase() });
  },
});
