/** A tenant with one of everything, for others to reach for. It owns what is there to be found. */
import { writeFactors } from "../../adapters/lotr/format.ts";
import { line } from "./batch_client.ts";
import { coreText, type Json, type KeyedApp } from "./keyed_app.ts";
import { rowsOf } from "./tuning_server.ts";

/** What globex has; every name of it has this word in it, or is an id. */
export interface Victim {
  readonly file: string;
  /** A pending upload, and its part. */
  readonly upload: string;
  readonly part: string;
  /** A completed batch, its requests and its answers. */
  readonly batch: string;
  readonly requests: string;
  readonly answers: string;
  readonly job: string;
  readonly result: string;
  /** `ft:tiny:globex:…` */
  readonly model: string;
  /** The name of a checkpoint of its job. */
  readonly checkpoint: string;
  readonly event: string;
  /** Of the stored core `globex/zeppelin`. */
  readonly digest: string;
  readonly key: string;
  /** A stored response, and the item that it was asked with. */
  readonly response: string;
  readonly item: string;
  /** A summary that was sealed for it. */
  readonly sealed: string;
  /** A conversation, and an item of it. */
  readonly conversation: string;
  readonly turn: string;
  /** A stored chat completion. */
  readonly chat: string;
  /** What no answer to another tenant may say. */
  readonly secrets: readonly string[];
}

export const VICTIM = "globex";
export const CORE = "zeppelin";
/** In its training data and its prompts. */
export const MARKER = "pumpernickel";

export async function makeVictim(
  served: KeyedApp,
  key = served.keys.globex,
  tenant = VICTIM,
): Promise<Victim> {
  const { ask, loaded, store } = served;
  const send = async (method: string, path: string, json?: unknown): Promise<Json> => {
    const response = await ask(method, path, { key, json });
    if (response.ok) return await response.json();
    throw new Error(`${method} ${path}: ${await response.text()}`);
  };
  await store.factors.add(loaded.factors.digest, writeFactors(loaded.factors));
  const file = await upload(served, key);
  const pending = await send("POST", "/v1/uploads", {
    filename: `${MARKER}.jsonl`,
    bytes: 12,
    mime_type: "application/jsonl",
    purpose: "batch",
  });
  const part = await addPart(served, key, String(pending["id"]));
  const requests = await upload(served, key, MARKER, "batch");
  const batch = await send("POST", "/v1/batches", {
    input_file_id: requests,
    endpoint: "/v1/completions",
    completion_window: "24h",
  });
  const completed = await ended(() => send("GET", `/v1/batches/${batch["id"]}`), "completed");
  const core = await send("POST", `/v1/cores/${CORE}`, { cores: coreText(loaded, 5) });
  await send("POST", `/v1/cores/${CORE}`, { cores: coreText(loaded, 6) });
  const created = await send("POST", "/v1/fine_tuning/jobs", {
    model: "tiny",
    training_file: file,
    suffix: "blimp",
    hyperparameters: { n_epochs: 2, batch_size: 4, learning_rate_multiplier: 15 },
  });
  const path = `/v1/fine_tuning/jobs/${created["id"]}`;
  const job = await ended(() => send("GET", path));
  const first = async (more: string) => (await send("GET", `${path}/${more}`))["data"] as Json[];
  const [event] = await first("events");
  const [checkpoint] = await first("checkpoints");
  const response = await send("POST", "/v1/responses", { input: MARKER, max_output_tokens: 2 });
  const items = await send("GET", `/v1/responses/${response["id"]}/input_items`);
  const chat = await send("POST", "/v1/chat/completions", {
    messages: [{ role: "user", content: MARKER }],
    ...{ max_tokens: 2, store: true, metadata: { word: MARKER } },
  });
  const compacted = await send("POST", "/v1/responses/compact", { input: MARKER });
  const compaction = (compacted["output"] as Json[]).at(-1);
  const conversation = await send("POST", "/v1/conversations", {
    items: [{ role: "user", content: MARKER }],
    metadata: { word: MARKER },
  });
  const turns = await send("GET", `/v1/conversations/${conversation["id"]}/items`);
  const listed = await store.keys.list(tenant, { after: undefined, limit: 1, order: "asc" });
  const ids = {
    file,
    upload: String(pending["id"]),
    part,
    batch: String(batch["id"]),
    requests,
    answers: String(completed["output_file_id"]),
    job: String(job["id"]),
    result: String((job["result_files"] as string[])[0]),
    model: String(job["fine_tuned_model"]),
    checkpoint: String(checkpoint?.["fine_tuned_model_checkpoint"]),
    event: String(event?.["id"]),
    digest: String(core["digest"]),
    key: listed.items[0]?.id ?? "",
    response: String(response["id"]),
    item: String(items["last_id"]),
    sealed: String(compaction?.["encrypted_content"]),
    conversation: String(conversation["id"]),
    turn: String(turns["last_id"]),
    chat: String(chat["id"]),
  };
  return { ...ids, secrets: [VICTIM, CORE, MARKER, "blimp", ...Object.values(ids)] };
}

async function ended(look: () => Promise<Json>, well = "succeeded"): Promise<Json> {
  while (true) {
    const job = await look();
    if (job["status"] === well) return job;
    if (job["error"] || job["errors"]) throw new Error(JSON.stringify(job));
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Adds a part with the marker to an upload; returns its id. */
async function addPart({ ask }: KeyedApp, key: string, upload: string): Promise<string> {
  const body = new FormData();
  body.set("data", new File([MARKER], "part"));
  return (await (await ask("POST", `/v1/uploads/${upload}/parts`, { key, body })).json()).id;
}

/** Uploads rows with a word in them, or a request; returns the file's id. */
export async function upload(
  { ask }: KeyedApp,
  key: string,
  word = MARKER,
  purpose: "fine-tune" | "batch" = "fine-tune",
): Promise<string> {
  const body = new FormData();
  const content = purpose === "batch"
    ? line(word, { prompt: word })
    : rowsOf(24).replaceAll("row", word);
  body.set("purpose", purpose);
  body.set("file", new File([content], `${word}.jsonl`));
  const { id } = await (await ask("POST", "/v1/files", { key, body })).json();
  return id;
}
