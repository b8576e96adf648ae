// deno-lint-ignore-file camelcase -- names of the wire format
/**
 * What clients of two tenants do to a server that is killed meanwhile: uploads, jobs, cores and
 * answers, all at once. It owns the ledger of what was acknowledged and of what was under way when a
 * connection broke; what must hold of it, `kill_audit.ts` says.
 */
import { writeCore } from "../../adapters/lotr/format.ts";
import type { FactorSet } from "../../adapters/lotr/factors.ts";
import { someCore } from "./engine_context.ts";
import { ROWS } from "./tuning_server.ts";

/** The server has gone before the answer's end. */
export class BrokenOff extends Error {}

export interface Tenant {
  readonly id: string;
  readonly key: string;
  readonly keyId: string;
}

/** An answer whose end was seen. */
export interface Answer {
  readonly tenant: string;
  readonly kind: "chat" | "completion";
  readonly model: string;
  readonly prompt: number;
  readonly cached: number;
  readonly completion: number;
}

/** A job as it was last seen. */
export interface SeenJob {
  readonly tenant: string;
  status: string;
  /** The final answer, word for word. */
  end: string | undefined;
  /** Whether it was to be cancelled, and that was not acknowledged. */
  cancelling: boolean;
  readonly events: Set<string>;
}

/** A tenant's core of one name: versions by number, and what the name stands for. */
export interface SeenCore {
  readonly digests: Map<number, string>;
  current: number;
  /** What is under way may have happened, when the connection breaks. */
  pending: { readonly digest: string | undefined; readonly current: number } | undefined;
}

export class Ledger {
  /** Digests of contents; undefined = removed. */
  readonly files = new Map<string, { readonly tenant: string; readonly digest?: string }>();
  readonly jobs = new Map<string, SeenJob>();
  readonly cores = new Map<string, SeenCore>();
  readonly answers = new Map<string, Answer>();
  /** Outputs of responses that are stored, as JSON. */
  readonly responses = new Map<string, { readonly tenant: string; readonly output: string }>();
  /** Answers that only the check of what is served asked for. */
  checks = 0;
  /** Requests that broke off, by what they were. */
  readonly broken = { upload: 0, job: 0, answer: 0, other: 0 };
}

export interface TrafficOptions {
  readonly url: string;
  readonly ledger: Ledger;
  readonly factors: FactorSet;
  /** Of [0, 1). */
  readonly random: () => number;
}

/** The name whose versions come and go. */
export const CORE = "bot";
/** Jobs of a tenant under way at once. */
const JOBS = 2;
const TUNING = { n_epochs: 6, batch_size: 4, learning_rate_multiplier: 15 } as const;
const ENDS = ["succeeded", "failed", "cancelled"];

/** Works for tenants until the server has gone. @throws {Error} for an answer that is not 2xx */
export async function drive(tenants: readonly Tenant[], options: TrafficOptions): Promise<void> {
  const clients = tenants.flatMap((tenant) => {
    const client = new Client(tenant, options);
    const work = [() => client.upload(), () => client.tune(), () => client.publish()];
    return [
      ...work,
      () => client.ask("chat"),
      () => client.ask("completion"),
      () => client.respond(),
    ];
  });
  await Promise.all(clients.map(untilBroken));
}

async function untilBroken(work: () => Promise<void>): Promise<void> {
  try {
    for (;;) await work();
  } catch (error) {
    if (!(error instanceof BrokenOff)) throw error;
  }
}

export class Client {
  readonly #tenant: Tenant;
  readonly #options: TrafficOptions;

  constructor(tenant: Tenant, options: TrafficOptions) {
    this.#tenant = tenant;
    this.#options = options;
  }

  /** Uploads a file of some size; removes every fifth again. */
  async upload(): Promise<void> {
    const { ledger: { files } } = this.#options;
    const { id: tenant } = this.#tenant;
    const text = `${crypto.randomUUID()}\n`.repeat(1 + this.#below(2000));
    const id = await this.#uploadText(text);
    if (this.#below(5) > 0) return await sleep(30);
    files.delete(id);
    await this.#json("DELETE", `/v1/files/${id}`);
    files.set(id, { tenant });
  }

  async #uploadText(text: string): Promise<string> {
    const form = new FormData();
    form.set("purpose", "fine-tune");
    form.set("file", new File([text], "rows.jsonl"));
    const { id } = await this.#counting("upload", () => this.#json("POST", "/v1/files", form));
    this.#options.ledger.files.set(`${id}`, {
      tenant: this.#tenant.id,
      digest: await digestOf(new TextEncoder().encode(text)),
    });
    return `${id}`;
  }

  /** Keeps a few jobs under way and looks at them; cancels every fourth. */
  async tune(): Promise<void> {
    const { jobs } = this.#options.ledger;
    const own = [...jobs].filter(([, { tenant }]) => tenant === this.#tenant.id);
    const open = own.filter(([, { end }]) => end === undefined);
    if (open.length < JOBS) {
      const id = await this.#createJob();
      if (own.length % 4 === 3) await this.#cancel(id);
    }
    for (const [id, seen] of open) await this.look(id, seen);
    await sleep(30);
  }

  async #createJob(): Promise<string> {
    const training_file = await this.#uploadText(ROWS);
    const body = { model: "tiny", training_file, hyperparameters: TUNING, seed: 5 };
    const job = await this.#counting("job", () => this.#json("POST", "/v1/fine_tuning/jobs", body));
    const seen = { tenant: this.#tenant.id, status: `${job["status"]}`, events: new Set<string>() };
    this.#options.ledger.jobs.set(`${job["id"]}`, { ...seen, end: undefined, cancelling: false });
    return `${job["id"]}`;
  }

  async #cancel(id: string): Promise<void> {
    const seen = this.#options.ledger.jobs.get(id);
    if (seen === undefined) return;
    seen.cancelling = true;
    const job = await this.#json("POST", `/v1/fine_tuning/jobs/${id}/cancel`);
    Object.assign(seen, { cancelling: false, status: job["status"], end: JSON.stringify(job) });
  }

  /** Notes where a job is and what has happened to it. */
  async look(id: string, seen: SeenJob): Promise<void> {
    const path = `/v1/fine_tuning/jobs/${id}`;
    const job = await this.#json("GET", path);
    const { data } = await this.#json("GET", `${path}/events?limit=100`);
    for (const event of data as { readonly id: string }[]) seen.events.add(event.id);
    seen.status = `${job["status"]}`;
    if (ENDS.includes(seen.status)) seen.end = JSON.stringify(job);
  }

  /** Puts, publishes or rolls back, and notes what the name stands for. */
  async publish(): Promise<void> {
    const { ledger } = this.#options;
    const seen = ledger.cores.get(this.#tenant.id);
    const versions = [...seen?.digests.keys() ?? []].sort((a, b) => a - b);
    const before = versions.findLast((version) => version < (seen?.current ?? 0));
    const kind = this.#below(versions.length < 3 ? 2 : 5);
    if (kind < 2 || seen === undefined) await this.#put(kind === 0 ? "later" : "now");
    else if (kind === 2 && before !== undefined) {
      await this.#change(seen, "rollback", { digest: undefined, current: before });
    } else {
      const version = versions[this.#below(versions.length)] ?? 0;
      await this.#change(seen, "publish", { digest: undefined, current: version }, { version });
    }
    await sleep(20);
  }

  async #put(publish: "now" | "later"): Promise<void> {
    const { ledger: { cores }, factors } = this.#options;
    const core = someCore(factors, this.#options.random() * 1e6);
    const seen = cores.get(this.#tenant.id) ?? newCore();
    cores.set(this.#tenant.id, seen);
    const next = 1 + Math.max(0, ...seen.digests.keys());
    const current = publish === "now" ? next : seen.current;
    const body = { cores: writeCore(core).toBase64(), publish };
    await this.#change(seen, "", { digest: core.digest, current }, body);
  }

  async #change(
    seen: SeenCore,
    action: "" | "publish" | "rollback",
    pending: NonNullable<SeenCore["pending"]>,
    body?: object,
  ): Promise<void> {
    seen.pending = pending;
    const path = `/v1/cores/${CORE}${action === "" ? "" : `/${action}`}`;
    const { version, digest, current } = await this.#json("POST", path, body);
    seen.digests.set(Number(version), `${digest}`);
    if (current === true) seen.current = Number(version);
    seen.pending = undefined;
  }

  /** Asks the base or the tenant's core; every other answer is streamed. */
  async ask(kind: Answer["kind"]): Promise<void> {
    const isThere = (this.#options.ledger.cores.get(this.#tenant.id)?.current ?? 0) > 0;
    const model = isThere && this.#below(2) === 0 ? CORE : "tiny";
    const stream = this.#below(2) === 0;
    const text = "ab ".repeat(1 + this.#below(10));
    const body = {
      ...{ model, stream, max_tokens: 1 + this.#below(20), ignore_eos: true },
      ...(stream && { stream_options: { include_usage: true } }),
      ...(kind === "chat" ? { messages: [{ role: "user", content: text }] } : { prompt: text }),
    };
    const path = kind === "chat" ? "/v1/chat/completions" : "/v1/completions";
    const bytes = await this.#counting("answer", () => this.#bytes("POST", path, body));
    const { id, usage } = stream ? lastEvent(bytes) : JSON.parse(textOf(bytes));
    this.#options.ledger.answers.set(id, {
      ...{ tenant: this.#tenant.id, kind },
      model: model === CORE ? `${this.#tenant.id}/${CORE}` : model,
      prompt: usage.prompt_tokens,
      cached: usage.prompt_tokens_details.cached_tokens,
      completion: usage.completion_tokens,
    });
  }

  /** Has a response stored; every other one is streamed. */
  async respond(): Promise<void> {
    const stream = this.#below(2) === 0;
    const max_output_tokens = 1 + this.#below(20);
    const body = { model: "tiny", stream, max_output_tokens, input: "ab ".repeat(this.#below(10)) };
    const send = () => this.#bytes("POST", "/v1/responses", { ...body, temperature: 0 });
    const bytes = await this.#counting("answer", send);
    const { id, usage, output } = stream ? lastResponse(bytes) : JSON.parse(textOf(bytes));
    const { id: tenant } = this.#tenant;
    this.#options.ledger.responses.set(id, { tenant, output: JSON.stringify(output) });
    this.#options.ledger.answers.set(id, {
      ...{ tenant, kind: "chat", model: "tiny" },
      prompt: usage.input_tokens,
      cached: usage.input_tokens_details.cached_tokens,
      completion: usage.output_tokens,
    });
  }

  async #counting<T>(kind: "upload" | "job" | "answer", work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (error instanceof BrokenOff) this.#options.ledger.broken[kind]++;
      throw error;
    }
  }

  async #json(method: string, path: string, body?: object): Promise<Record<string, unknown>> {
    return JSON.parse(textOf(await this.#bytes(method, path, body)));
  }

  #bytes(method: string, path: string, body?: object): Promise<Uint8Array<ArrayBuffer>> {
    return exchange({ url: this.#options.url, key: this.#tenant.key }, method, path, body);
  }

  #below(count: number): number {
    return Math.floor(this.#options.random() * count);
  }
}

/**
 * Sends a request and reads its answer to the end.
 * @throws {BrokenOff} where the server goes meanwhile; {Error} for an answer that is not 2xx
 */
export async function exchange(
  { url, key }: { readonly url: string; readonly key: string },
  method: string,
  path: string,
  body?: object,
): Promise<Uint8Array<ArrayBuffer>> {
  const isForm = body instanceof FormData;
  const headers = {
    authorization: `Bearer ${key}`,
    ...(body !== undefined && !isForm && { "content-type": "application/json" }),
  };
  const sent = body === undefined ? {} : { body: isForm ? body : JSON.stringify(body) };
  try {
    const response = await fetch(`${url}${path}`, { method, headers, ...sent });
    const bytes = await response.bytes();
    if (response.ok) return bytes;
    throw new Error(`${method} ${path}: ${response.status} ${textOf(bytes)}`);
  } catch (error) {
    throw error instanceof TypeError ? new BrokenOff(error.message, { cause: error }) : error;
  }
}

export function newCore(): SeenCore {
  return { digests: new Map(), current: 0, pending: undefined };
}

export async function digestOf(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
}

export function textOf(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}

/** The event with the usage. @throws {BrokenOff} where the stream has no end */
function lastEvent(bytes: Uint8Array) {
  const events = textOf(bytes).split("\n\n");
  if (events.at(-2) !== "data: [DONE]") throw new BrokenOff("the stream has no end");
  return JSON.parse((events.at(-3) ?? "").slice("data: ".length));
}

/** What the last event of a response tells. @throws {BrokenOff} where the stream has no end */
function lastResponse(bytes: Uint8Array) {
  const last = textOf(bytes).trimEnd().split("\n\n").at(-1) ?? "";
  const found = /^event: response\.(completed|incomplete)\ndata: (.*)$/.exec(last);
  if (found === null) throw new BrokenOff("the stream has no end");
  return JSON.parse(found[2] ?? "").response;
}

function sleep(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
