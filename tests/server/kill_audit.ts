// deno-lint-ignore-file camelcase -- names of the wire format
/**
 * What must hold after kills: everything acknowledged is there, what was under way happened wholly or
 * not at all, and usage adds up. It owns the checks, over HTTP and in the store; what was
 * acknowledged the ledger says.
 */
import { assert, assertEquals, assertLessOrEqual } from "@std/assert";
import type { JobRecord, Store } from "../../adapters/store/store.ts";
import {
  type Answer,
  Client,
  CORE,
  digestOf,
  exchange,
  type Ledger,
  newCore,
  type SeenCore,
  type Tenant,
  textOf,
  type TrafficOptions,
} from "./kill_traffic.ts";
import { query, readFile } from "../adapters/store/cases.ts";
import { untilHolds } from "./replicas.ts";

/** A lease of ten seconds, jobs before it, and a machine that is busy. */
const JOB_MS = 90_000;

interface Version {
  readonly version: number;
  readonly digest: string;
  readonly current: boolean;
}

/** A server that answers, and a key of it. */
interface Door {
  readonly url: string;
  readonly key: string;
}

/** A name's versions are those acknowledged, and it stands for the last one. @throws AssertionError */
export async function settleCores(
  tenants: readonly Tenant[],
  { ledger, url }: TrafficOptions,
): Promise<void> {
  for (const { id, key } of tenants) {
    const seen = ledger.cores.get(id) ?? newCore();
    ledger.cores.set(id, seen);
    const known = await versionsOf({ url, key });
    checkVersions(seen, known);
    for (const { version, digest } of known) seen.digests.set(version, digest);
    seen.current = known.find(({ current }) => current)?.version ?? 0;
    seen.pending = undefined;
  }
}

async function versionsOf(door: Door): Promise<readonly Version[]> {
  const list = JSON.parse(textOf(await exchange(door, "GET", "/v1/cores?limit=1000")));
  if (!list.data.some(({ name }: { readonly name: string }) => name === CORE)) return [];
  return JSON.parse(textOf(await exchange(door, "GET", `/v1/cores/${CORE}`))).data;
}

function checkVersions({ digests, current, pending }: SeenCore, known: readonly Version[]): void {
  const found = new Map(known.map(({ version, digest }) => [version, digest]));
  for (const [version, digest] of digests) assertEquals(found.get(version), digest);
  const others = known.filter(({ version }) => !digests.has(version));
  assertLessOrEqual(others.length, pending?.digest === undefined ? 0 : 1);
  for (const { digest } of others) assertEquals(digest, pending?.digest);
  const now = known.find((one) => one.current)?.version ?? 0;
  const allowed = others.length > 0
    // a put that is there is published too, where it was to be
    ? [pending?.current]
    : pending === undefined || pending.digest !== undefined
    ? [current]
    : [current, pending.current];
  assert(allowed.includes(now), `${now} is current, not ${allowed.join(" or ")}`);
}

/** Waits for the jobs' ends; files, jobs and cores are what was acknowledged. */
export async function checkServed(
  tenants: readonly Tenant[],
  options: TrafficOptions,
): Promise<void> {
  for (const tenant of tenants) {
    await settleJobs(tenant, options);
    await checkFiles(tenant, options);
    await checkResponses(tenant, options);
    await checkCoreServed({ url: options.url, key: tenant.key }, options.ledger);
  }
}

async function settleJobs(tenant: Tenant, options: TrafficOptions): Promise<void> {
  const client = new Client(tenant, options);
  const door = { url: options.url, key: tenant.key };
  for (const [id, seen] of options.ledger.jobs) {
    if (seen.tenant !== tenant.id) continue;
    if (seen.end !== undefined) {
      const job = textOf(await exchange(door, "GET", `/v1/fine_tuning/jobs/${id}`));
      assertEquals(JSON.parse(job), JSON.parse(seen.end));
    }
    await untilHolds(async () => {
      await client.look(id, seen);
      return seen.end !== undefined;
    }, JOB_MS);
    if (!seen.cancelling && seen.status === "cancelled") continue;
    const ends = seen.cancelling ? ["succeeded", "cancelled"] : ["succeeded"];
    assert(ends.includes(seen.status), seen.end);
  }
}

async function checkFiles(tenant: Tenant, { url, ledger }: TrafficOptions): Promise<void> {
  const door = { url, key: tenant.key };
  const list = textOf(await exchange(door, "GET", "/v1/files?purpose=fine-tune&limit=10000"));
  const known = new Set((JSON.parse(list).data as { id: string }[]).map(({ id }) => id));
  for (const [id, { tenant: owner, digest }] of ledger.files) {
    if (owner !== tenant.id) continue;
    assertEquals(known.has(id), digest !== undefined, id);
    if (digest === undefined) continue;
    const bytes = await exchange(door, "GET", `/v1/files/${id}/content`);
    assertEquals(await digestOf(bytes), digest, id);
  }
}

async function checkResponses(tenant: Tenant, { url, ledger }: TrafficOptions): Promise<void> {
  for (const [id, { tenant: owner, output }] of ledger.responses) {
    if (owner !== tenant.id) continue;
    const kept = textOf(await exchange({ url, key: tenant.key }, "GET", `/v1/responses/${id}`));
    assertEquals(JSON.parse(kept).output, JSON.parse(output), id);
  }
}

/** The name answers as the version does that it stands for. */
async function checkCoreServed(door: Door, ledger: Ledger): Promise<void> {
  const current = (await versionsOf(door)).find((one) => one.current)?.version;
  if (current === undefined) return;
  const say = async (model: string) => {
    const body = { model, prompt: "hello", max_tokens: 12, temperature: 0 };
    ledger.checks++;
    return JSON.parse(textOf(await exchange(door, "POST", "/v1/completions", body))).choices[0];
  };
  assertEquals(await say(CORE), await say(`${CORE}@${current}`));
}

interface UsageRow {
  readonly id: string;
  readonly tenant: string;
  readonly key: string | null;
  readonly kind: string;
  readonly model: string;
  readonly prompt: number;
  readonly cached: number;
  readonly completion: number;
  readonly trained: number;
  readonly job: string;
}

/** Usage and jobs as they lie in the store of a server that has stopped. */
export async function checkStored(
  store: Store,
  tenants: readonly Tenant[],
  { ledger }: Pick<TrafficOptions, "ledger">,
): Promise<{ readonly unseen: number }> {
  const rows = await query(
    store.database,
    `SELECT id, tenant, key_id AS key, kind, model, prompt_tokens AS prompt, cached_tokens AS cached,
      completion_tokens AS completion, trained_tokens AS trained, request_id AS job FROM usage`,
  );
  const usage = rows as UsageRow[];
  const unseen = checkAnswers(usage, tenants, ledger);
  await checkJobs(store, usage, tenants, ledger);
  await checkTotals(store, usage);
  for (const { id } of tenants) await checkBytes(store, id);
  return { unseen };
}

/** Each answer is counted once as it was; beside them at most those that broke off. */
function checkAnswers(
  rows: readonly UsageRow[],
  tenants: readonly Tenant[],
  { answers, broken, checks }: Ledger,
): number {
  const keys = new Map(tenants.map(({ id, keyId }) => [id, keyId]));
  const counted = rows.filter(({ kind }) => kind !== "training");
  const kept = new Map(counted.map((row) => [row.id, row]));
  for (const [id, answer] of answers) assertEquals(toAnswer(kept.get(id)), answer, id);
  for (const { tenant, key } of counted) assertEquals(key, keys.get(tenant));
  const unseen = counted.length - answers.size - checks;
  assertLessOrEqual(unseen, broken.answer);
  return unseen;
}

function toAnswer(row: UsageRow | undefined): Answer | undefined {
  if (row === undefined) return undefined;
  const { tenant, kind, model, prompt, cached, completion } = row;
  return { tenant, kind: kind as Answer["kind"], model, prompt, cached, completion };
}

/** Jobs of the same rows and seed came to the same, and each trained token is counted once. */
async function checkJobs(
  store: Store,
  rows: readonly UsageRow[],
  tenants: readonly Tenant[],
  ledger: Ledger,
): Promise<void> {
  const trained = new Map<string, number>();
  for (const row of rows) trained.set(row.job, (trained.get(row.job) ?? 0) + row.trained);
  const outcomes = new Set<string>();
  let known = 0;
  for (const { id: tenant } of tenants) {
    const { jobs, files } = store.forTenant(tenant);
    for (const job of await jobs.all()) {
      known++;
      await checkEvents(store, job, ledger);
      assert(["succeeded", "cancelled"].includes(job.status) || !ledger.jobs.has(job.id));
      if (job.status !== "succeeded") continue;
      assertEquals(trained.get(job.id), job.trainedTokens);
      const core = await readFile(files, job.resultFiles[1] ?? "");
      outcomes.add(`${job.trainedTokens} ${await digestOf(core)}`);
    }
  }
  assertLessOrEqual(known, ledger.jobs.size + ledger.broken.job);
  assertEquals(outcomes.size, 1, [...outcomes].join());
}

/** No event that was seen is lost, and none is told twice. */
async function checkEvents(store: Store, job: JobRecord, ledger: Ledger): Promise<void> {
  const all = { after: undefined, limit: Infinity, order: "asc" } as const;
  const { items } = await store.forTenant(job.tenant).jobs.events(job.id, all);
  const ids = new Set(items.map(({ id }) => id));
  for (const id of ledger.jobs.get(job.id)?.events ?? []) assert(ids.has(id), id);
  const steps = items.map(({ message }) => message).filter((text) => /training loss/.test(text));
  assertEquals(steps.length, new Set(steps).size);
}

async function checkTotals(store: Store, rows: readonly UsageRow[]): Promise<void> {
  for (const total of await store.usage.total({ by: "tenant" })) {
    const own = rows.filter(({ tenant }) => tenant === total.key);
    const sum = (of: (row: UsageRow) => number) => own.reduce((all, row) => all + of(row), 0);
    assertEquals(total, {
      key: total.key,
      requests: own.length,
      promptTokens: sum(({ prompt }) => prompt),
      cachedTokens: sum(({ cached }) => cached),
      completionTokens: sum(({ completion }) => completion),
      trainedTokens: sum(({ trained }) => trained),
    });
  }
}

/** What is counted for the quota is what is there. */
async function checkBytes(store: Store, tenant: string): Promise<void> {
  const [row] = await query(
    store.database,
    `SELECT (SELECT coalesce(sum(bytes), 0) FROM files JOIN contents c ON c.id = content
        WHERE tenant = '${tenant}')
      + (SELECT coalesce(sum(bytes), 0) FROM core_versions WHERE tenant = '${tenant}')
      + (SELECT coalesce(sum(bytes), 0) FROM responses WHERE tenant = '${tenant}')
      + (SELECT coalesce(sum(k.bytes), 0) FROM checkpoints k JOIN jobs j ON j.id = k.job
        WHERE tenant = '${tenant}') AS sum`,
  );
  assertEquals(await store.tenants.storedBytes(tenant), Number(row?.sum));
}
