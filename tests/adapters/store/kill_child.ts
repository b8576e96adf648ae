/**
 * A process that writes to a store until it is killed: uploads, publishes, jobs and usage, all at
 * once. Each line on stdout is a write that was acknowledged.
 */
import { openStore, type StoreLocation } from "../../../adapters/store/open_store.ts";
import { newId } from "../../../src/util/ids.ts";
import type { Store } from "../../../adapters/store/store.ts";
import { addFile, coreFile, loraFile } from "./cases.ts";
import { jobOf } from "./jobs_suite.ts";
import { keepingLog } from "./test_store.ts";

export const TENANT = "acme";

/** What was promised. */
export type Promised =
  | { readonly type: "open" }
  | { readonly type: "file"; readonly id: string; readonly text: string }
  | { readonly type: "core"; readonly version: number; readonly digest: string }
  | { readonly type: "job"; readonly id: string; readonly attempts: number }
  | { readonly type: "usage"; readonly requests: number };

/** Prompt tokens of each usage record. */
export const TOKENS = 10;
/** Usage records of a batch. */
export const BATCH = 7;

async function upload(store: Store, tell: (promised: Promised) => void): Promise<void> {
  for (let i = 0;; i++) {
    const text = `${crypto.randomUUID()} `.repeat(1 + 997 * (i % 50));
    tell({ type: "file", id: await addFile(store, TENANT, text), text: text.slice(0, 36) });
  }
}

async function publish(store: Store, tell: (promised: Promised) => void): Promise<void> {
  for (let turn = 0;;) {
    const [seed] = crypto.getRandomValues(new Uint32Array(1));
    const { bytes, digest } = (turn++ % 2 === 0 ? coreFile : loraFile)(seed ?? 0);
    const meta = { source: "test", publish: "now" } as const;
    const { version } = await store.cores.put(TENANT, "bot", bytes, meta);
    tell({ type: "core", version, digest });
  }
}

/** A job's attempts, events and progress go up together. */
async function train(store: Store, tell: (promised: Promised) => void): Promise<void> {
  const { jobs } = store.forTenant(TENANT);
  const { id } = await jobs.create(jobOf(TENANT));
  for (let attempts = 1;; attempts++) {
    await jobs.saveProgress(id, new TextEncoder().encode(`${attempts} `.repeat(9999)));
    const event = { createdAt: 1, level: "info", message: `${attempts}`, type: "message" } as const;
    await jobs.addEvents(id, [{ ...event, id: newId("ftevent"), data: null }]);
    await jobs.change(id, (job) => ({ attempts: job.attempts + 1 }));
    tell({ type: "job", id, attempts });
  }
}

async function use(store: Store, tell: (promised: Promised) => void): Promise<void> {
  for (;;) {
    const record = {
      ...{ at: Date.now(), tenant: TENANT, keyId: null, model: "m", kind: "chat" } as const,
      ...{ promptTokens: TOKENS, cachedTokens: 0, completionTokens: 1, trainedTokens: 0 },
    };
    const batch = Array.from({ length: BATCH }, () => {
      const id = crypto.randomUUID();
      return { ...record, id, requestId: id };
    });
    await store.usage.add(batch);
    // told again, as by a client that did not see the answer
    await store.usage.add(batch);
    tell({ type: "usage", requests: BATCH });
  }
}

if (import.meta.main) {
  const location = JSON.parse(Deno.args[0] ?? "") as StoreLocation;
  const store = await openStore(location, keepingLog());
  await store.tenants.ensure(TENANT);
  const tell = (promised: Promised) => {
    Deno.stdout.writeSync(new TextEncoder().encode(JSON.stringify(promised) + "\n"));
  };
  tell({ type: "open" });
  await Promise.all([upload, publish, train, use].map((work) => work(store, tell)));
}
