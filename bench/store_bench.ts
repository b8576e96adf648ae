/**
 * Micro-benches of the store beside 100,000 registered cores: looking a name up, fetching a core,
 * putting one, writing usage, opening. On SQLite in a temporary directory, or, with DATABASE_URL, on
 * PostgreSQL in a database that is made for this and may be thrown away.
 */
import { sql } from "kysely";
import { readCore, writeCore } from "../adapters/lotr/format.ts";
import { openStore, type StoreLocation } from "../adapters/store/open_store.ts";
import type { Store, UsageRecord } from "../adapters/store/store.ts";
import { benchCore, benchFactors, STACK } from "./cores.ts";

const NAMES = 100_000;
const CORES = 64;
const TENANT = "default";
const LOG = { info: () => {}, warning: () => {} };
const META = { source: "bench", publish: "now" } as const;

/** Names that share one content: a look-up by name does not see the difference. */
async function register({ database: { db } }: Store, stored: string): Promise<void> {
  const numbers = sql`WITH RECURSIVE numbers (i) AS (
    SELECT 1 UNION ALL SELECT i + 1 FROM numbers WHERE i < ${sql.lit(NAMES)})`;
  // digests of the right length, that differ
  const digest = sql`CAST(1000000000 + i AS text) || ${sql.lit(stored.slice(10))}`;
  await sql`INSERT INTO cores ${numbers} SELECT ${digest}, base, factors, rank, state, content
    FROM numbers, cores WHERE digest = ${stored}`.execute(db);
  await sql`INSERT INTO core_names ${numbers} SELECT ${sql.lit(TENANT)}, 'n' || i, 1, 1
    FROM numbers`.execute(db);
  await sql`INSERT INTO core_versions ${numbers}
    SELECT ${sql.lit(TENANT)}, 'n' || i, 1, ${digest}, 1, 0, 'bench'
    FROM numbers`.execute(db);
}

async function defineBenches(location: StoreLocation): Promise<void> {
  let store = await openStore(location, LOG);
  const factors = benchFactors(STACK, 32);
  const files = Array.from({ length: CORES }, (_, i) => writeCore(benchCore(factors, i)));
  const digests = files.map((file) => readCore(file).digest);
  for (const [i, file] of files.entries()) await store.cores.put(TENANT, `real${i}`, file, META);
  await register(store, digests[0] ?? "");

  const group = `${store.kind}, ${NAMES} names, cores of ${files[0]?.length} bytes`;
  let turn = 0;

  Deno.bench("look a name up", { group }, async () => {
    const name = `n${1 + (turn++ * 7919) % NAMES}`;
    await store.cores.resolve(TENANT, name, { type: "latest" });
  });

  Deno.bench("fetch a core, its digest checked", { group }, async () => {
    await store.cores.bytes(digests[turn++ % CORES] ?? "");
  });

  Deno.bench("put a core and publish it", { group, n: 100 }, async (b) => {
    const file = writeCore(benchCore(factors, 1000 + turn++));
    b.start();
    await store.cores.put(TENANT, "put", file, META);
    b.end();
  });

  Deno.bench("list a page of 100", { group }, async () => {
    await store.cores.list(TENANT, { after: `${TENANT}/n5`, limit: 100, order: "asc" });
  });

  Deno.bench("write a request's usage down", { group }, async () => {
    await store.usage.add([usageOf(crypto.randomUUID())]);
  });

  Deno.bench("open", { group, n: 5, warmup: 1 }, async (b) => {
    await store[Symbol.asyncDispose]();
    b.start();
    store = await openStore(location, LOG);
    b.end();
  });
}

function usageOf(id: string): UsageRecord {
  return {
    ...{ id, at: Date.now(), tenant: TENANT, keyId: null, model: "m", kind: "chat" },
    ...{ promptTokens: 9, cachedTokens: 0, completionTokens: 9, trainedTokens: 0, requestId: id },
  };
}

const url = Deno.env.get("DATABASE_URL");
const path = await Deno.makeTempDir();
globalThis.addEventListener("unload", () => Deno.removeSync(path, { recursive: true }));
await defineBenches(url ? { type: "url", url } : { type: "directory", path });
