/** What holds of training jobs on any database. */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { DEFAULT_HYPERPARAMETERS } from "../../../adapters/training/hyperparameters.ts";
import { newId } from "../../../src/util/ids.ts";
import type { CheckpointRecord, JobEvent, JobRecord } from "../../../adapters/store/store.ts";
import { ALL, type Cases, coreFile, damage, FACTORS } from "./cases.ts";

const JOBS = { ...ALL, metadata: undefined };

export function jobOf(
  tenant: string,
  more: Partial<JobRecord> = {},
): Omit<JobRecord, "id" | "createdAt"> {
  return {
    ...{ model: "tiny", tenant, suffix: null, seed: 1, trainingFile: "file-x" },
    ...{ validationFile: null, settled: null, metadata: null, status: "queued", validated: true },
    ...{ finishedAt: null, error: null, fineTunedModel: null, resultFiles: [] },
    ...{ trainedTokens: null, attempts: 0 },
    hyperparameters: { ...DEFAULT_HYPERPARAMETERS, rank: "auto", factors: null },
    ...more,
  };
}

function event(message: string): JobEvent {
  const id = newId("ftevent");
  return { id, createdAt: 1, level: "info", message, type: "message", data: null };
}

function checkpoint(jobId: string, step: number): CheckpointRecord {
  const { digest } = coreFile(100 + step);
  return {
    ...{ id: newId("ftckpt"), jobId, createdAt: step, step, metrics: { step } },
    ...{ core: digest, factors: FACTORS.digest },
  };
}

export const JOB_CASES: Cases = {
  "jobs are found and listed in the order in which they were made": async (
    { store, newTenant },
  ) => {
    const tenant = await newTenant();
    const { jobs } = store.forTenant(tenant);
    const made: JobRecord[] = [];
    for (const seed of [1, 2, 3]) made.push(await jobs.create(jobOf(tenant, { seed })));
    const [a, b, c] = made;
    assertEquals(await jobs.all(), made);
    assertEquals(await jobs.find(b?.id ?? ""), b);
    const page = await jobs.list({ ...JOBS, limit: 2 });
    assertEquals(page, { items: [c, b].flatMap((one) => one ?? []), hasMore: true });
    const rest = await jobs.list({ ...JOBS, after: b?.id });
    assertEquals(rest, { items: [a].flatMap((one) => one ?? []), hasMore: false });
    assertEquals(await jobs.endingWith(b?.id.slice(-6) ?? ""), [b].flatMap((one) => one ?? []));
    await assertRejects(() => jobs.list({ ...JOBS, after: "ftjob-none" }), RangeError);
  },

  "jobs are found by metadata, or by having none": async ({ store, newTenant }) => {
    const tenant = await newTenant();
    const { jobs } = store.forTenant(tenant);
    const given = [null, { team: "a", run: "1" }, { team: "a" }, { team: "b'\"" }];
    for (const metadata of given) await jobs.create(jobOf(tenant, { metadata }));
    const count = async (metadata: JobRecord["metadata"] | undefined) =>
      (await jobs.list({ ...JOBS, metadata })).items.length;
    assertEquals(await count(undefined), 4);
    assertEquals(await count(null), 1);
    assertEquals(await count({ team: "a" }), 2);
    assertEquals(await count({ team: "a", run: "1" }), 1);
    assertEquals(await count({ team: "b'\"" }), 1);
    assertEquals(await count({ team: "c" }), 0);
  },

  "changes of a job come one after the other, and none is lost": async ({ store, newTenant }) => {
    const tenant = await newTenant();
    const { jobs } = store.forTenant(tenant);
    const { id } = await jobs.create(jobOf(tenant));
    const more = () => jobs.change(id, ({ attempts }) => ({ attempts: attempts + 1 }));
    await Promise.all(Array.from({ length: 10 }, more));
    assertEquals((await jobs.find(id))?.attempts, 10);
    const paused = await jobs.change(id, { status: "paused" });
    assertEquals([paused.status, paused.attempts], ["paused", 10]);
    const refuse = () =>
      jobs.change(id, () => {
        throw new TypeError("not now");
      });
    await assertRejects(refuse, TypeError, "not now");
    assertEquals(await jobs.find(id), paused);
    await assertRejects(() => jobs.change("ftjob-none", {}), RangeError, "ftjob-none");
  },

  "the runner sees unfinished jobs of all tenants, and how many there are": async (
    { store, newTenant },
  ) => {
    const [tenant, other] = [await newTenant(), await newTenant()];
    const before = await store.jobs.counts();
    const made = await store.forTenant(tenant).jobs.create(jobOf(tenant, { status: "paused" }));
    const done = await store.forTenant(other).jobs.create(jobOf(other, { status: "succeeded" }));
    const ids = (await store.jobs.unfinished()).map(({ id }) => id);
    assertEquals([ids.includes(made.id), ids.includes(done.id)], [true, false]);
    assert((await store.jobs.all()).some(({ id }) => id === done.id));
    const counts = await store.jobs.counts();
    assertEquals(counts.get("paused"), (before.get("paused") ?? 0) + 1);
  },

  "an administrator's list has ended jobs of all tenants, by page": async (
    { store, newTenant },
  ) => {
    const [tenant, other] = [await newTenant(), await newTenant()];
    const made: string[] = [];
    for (
      const [owner, status] of [[tenant, "failed"], [other, "succeeded"], [
        tenant,
        "queued",
      ]] as const
    ) {
      made.push((await store.forTenant(owner).jobs.create(jobOf(owner, { status }))).id);
    }
    const newest = await store.jobs.list({ after: undefined, limit: 2, order: "desc" });
    assertEquals(newest.items.map(({ id }) => id), [made[2], made[1]]);
    assertEquals(newest.hasMore, true);
    const next = await store.jobs.list({ after: made[1], limit: 1, order: "desc" });
    assertEquals(next.items.map(({ id, tenant }) => [id, tenant]), [[made[0], tenant]]);
    const unknown = { after: "ftjob-none", limit: 1, order: "desc" } as const;
    await assertRejects(() => store.jobs.list(unknown), RangeError, "ftjob-none");
  },

  "events are paged in both orders, once each, and an unknown cursor is refused": async (
    { store, newTenant },
  ) => {
    const tenant = await newTenant();
    const { jobs } = store.forTenant(tenant);
    const { id } = await jobs.create(jobOf(tenant));
    const events = ["a", "b", "c", "d"].map(event);
    await jobs.addEvents(id, events.slice(0, 3));
    await jobs.addEvents(id, events);
    const page = async (after: string | undefined, order: "asc" | "desc") => {
      const { items, hasMore } = await jobs.events(id, { after, limit: 2, order });
      return [items.map(({ message }) => message).join(""), hasMore];
    };
    assertEquals(await page(undefined, "desc"), ["dc", true]);
    assertEquals(await page(events[2]?.id, "desc"), ["ba", false]);
    assertEquals(await page(events[0]?.id, "desc"), ["", false]);
    assertEquals(await page(events[0]?.id, "asc"), ["bc", true]);
    const all = await jobs.events(id, { ...ALL, limit: Infinity, order: "asc" });
    assertEquals(all.items, events);
    await assertRejects(() => page("ftevent-none", "desc"), RangeError, "ftevent-none");
  },

  "progress is replaced, dropped, and given up where it is damaged": async (
    { store, newTenant, log },
  ) => {
    const tenant = await newTenant();
    const { jobs } = store.forTenant(tenant);
    const { id } = await jobs.create(jobOf(tenant));
    assertEquals(await jobs.progress(id), undefined);
    const bytes = new Uint8Array(3_000_000).map((_, i) => i);
    await jobs.saveProgress(id, Uint8Array.of(1));
    await jobs.saveProgress(id, bytes);
    assertEquals(await jobs.progress(id), bytes);
    await damage(store, "job_progress", `job = '${id}'`);
    assertEquals(await jobs.progress(id), undefined);
    assertStringIncludes(log.warnings.at(-1) ?? "", id);
    await jobs.saveProgress(id, Uint8Array.of(2, 3));
    await jobs.dropProgress(id);
    await jobs.dropProgress(id);
    assertEquals(await jobs.progress(id), undefined);
  },

  "of many checkpoints the newest are kept, and count": async ({ store, newTenant }) => {
    const tenant = await newTenant();
    const { jobs } = store.forTenant(tenant);
    const { id } = await jobs.create(jobOf(tenant));
    for (let step = 1; step <= 12; step++) {
      await jobs.addCheckpoint(checkpoint(id, step), coreFile(100 + step).bytes);
    }
    await jobs.addCheckpoint(checkpoint(id, 12), coreFile(112).bytes);
    const kept = await jobs.checkpoints(id);
    assertEquals(kept.map(({ step }) => step), [12, 11, 10, 9, 8, 7, 6, 5]);
    const [newest] = kept;
    assert(newest !== undefined);
    assertEquals(await jobs.checkpointCore(newest), coreFile(112).bytes);
    await assertRejects(() => jobs.checkpointCore(checkpoint(id, 1)), RangeError, "dropped");
    assertEquals(await store.tenants.storedBytes(tenant), 8 * coreFile(112).bytes.length);
    const wrong = () => jobs.addCheckpoint(checkpoint(id, 13), coreFile(1).bytes);
    await assertRejects(wrong, TypeError, "its core is");
  },

  "a job of another tenant is unknown in every look-up": async ({ store, newTenant }) => {
    const [tenant, other] = [await newTenant(), await newTenant()];
    const mine = store.forTenant(tenant).jobs;
    const { jobs } = store.forTenant(other);
    const job = await mine.create(jobOf(tenant));
    const { id } = job;
    const saved = checkpoint(id, 1);
    await mine.addCheckpoint(saved, coreFile(101).bytes);
    await mine.saveProgress(id, Uint8Array.of(1));
    assertEquals(await jobs.find(id), undefined);
    assertEquals([await jobs.all(), await jobs.endingWith(id)], [[], []]);
    assertEquals([await jobs.progress(id), await jobs.checkpoints(id)], [undefined, []]);
    for (
      const attempt of [
        () => jobs.change(id, { seed: 2 }),
        () => jobs.addEvents(id, [event("x")]),
        () => jobs.events(id, ALL),
        () => jobs.saveProgress(id, Uint8Array.of(2)),
        () => jobs.dropProgress(id),
        () => jobs.addCheckpoint(checkpoint(id, 2), coreFile(102).bytes),
        () => jobs.checkpointCore(saved),
        () => jobs.create(jobOf(tenant)),
        () => jobs.list({ ...JOBS, after: id }),
      ]
    ) await assertRejects(attempt, RangeError);
    assertEquals(await mine.find(id), job);
    assertEquals(await mine.progress(id), Uint8Array.of(1));
  },
};
