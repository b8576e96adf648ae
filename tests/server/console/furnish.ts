// deno-lint-ignore-file camelcase -- names of the wire format
/**
 * A server with something to show: cores in several versions, a job that has trained, usage of two
 * weeks, and a little traffic. It owns the data; the server is `keyed_app.ts`'s.
 */
import { writeCore } from "../../../adapters/lotr/format.ts";
import type { UsageRecord } from "../../../adapters/store/store.ts";
import { someCore } from "../engine_context.ts";
import type { KeyedApp } from "../keyed_app.ts";
import { ROWS } from "../tuning_server.ts";

const DAY = 86_400_000;

/** Two versions of `acme/shelf` and one of `globex/order`, each other's by seed. */
export async function addCores({ store, loaded }: KeyedApp): Promise<void> {
  await store.factors.add(loaded.factors.digest, new Uint8Array());
  const put = (tenant: string, name: string, seed: number) =>
    store.cores.put(tenant, name, writeCore(someCore(loaded.factors, seed)), {
      source: "upload",
      publish: "now",
    });
  await put("acme", "shelf", 1);
  await put("acme", "shelf", 2);
  await put("globex", "order", 3);
}

/** A job of acme that has succeeded; returns its id. */
export async function trainJob({ ask, keys: { acme: key } }: KeyedApp): Promise<string> {
  const body = new FormData();
  body.set("purpose", "fine-tune");
  body.set("file", new File([ROWS], "rows.jsonl"));
  const file = await (await ask("POST", "/v1/files", { key, body })).json();
  const json = {
    model: "tiny",
    training_file: file.id,
    suffix: "notes",
    hyperparameters: { n_epochs: 4, batch_size: 4, rank: 2 },
  };
  const { id } = await (await ask("POST", "/v1/fine_tuning/jobs", { key, json })).json();
  while (true) {
    const job = await (await ask("GET", `/v1/fine_tuning/jobs/${id}`, { key })).json();
    if (job.status === "succeeded") return id;
    if (["failed", "cancelled"].includes(job.status)) throw new Error(JSON.stringify(job.error));
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Usage of both tenants over the last days, more each day. */
export async function addUsage({ store }: KeyedApp): Promise<void> {
  const now = Date.now();
  const records = Array.from({ length: 24 }, (_, i): UsageRecord => ({
    id: `use-${i}`,
    at: now - Math.floor(i / 2) * DAY,
    tenant: i % 2 === 0 ? "acme" : "globex",
    keyId: null,
    model: i % 2 === 0 ? "acme/shelf" : "tiny",
    kind: "chat",
    promptTokens: 9000 - 300 * i,
    cachedTokens: 100,
    completionTokens: 4000 - 130 * i,
    trainedTokens: i === 4 ? 12_000 : 0,
    requestId: `req-${i}`,
  }));
  await store.usage.add(records);
}

/** Completions that the engine works on for a while. */
export async function addTraffic({ ask, keys: { acme: key } }: KeyedApp): Promise<void> {
  const json = {
    model: "tiny",
    prompt: "many words ".repeat(4),
    max_tokens: 100,
    ignore_eos: true,
  };
  const answers = await Promise.all(
    Array.from({ length: 6 }, () => ask("POST", "/v1/completions", { key, json })),
  );
  for (const answer of answers) await answer.body?.cancel();
}
