/**
 * The engine of an encoder: texts of many requests and tenants in, a vector each out, computed in
 * passes of packed texts. Who is next is the tenant that was served least (`policy/accounts.ts`). A
 * pass runs in one lane: the first text's factor set says which, and texts of the base go with any.
 */
import type { EncoderLane } from "../../executor/encoder/encoder_base.ts";
import { OverloadedError } from "../../util/errors.ts";
import type { EngineListener, EngineStats } from "../metrics.ts";
import { type Account, EQUAL_STANDING, Ledger } from "../policy/accounts.ts";
import type { AdapterSource, CoreLease } from "../request/request.ts";
import { type Embedding, type EmbedRequest, observationOf } from "./embedding.ts";
import { EmbedCounters, type EmbedGauges, statsOf } from "./embed_stats.ts";
import { EmbedLanes } from "./embed_lanes.ts";
import { choosePass, type PassLimits, type Waiting } from "./pass.ts";

export interface EmbedEngineOptions {
  /** Opens a lane of a factor set, or of the base alone. */
  readonly openLane: (factors: string | undefined) => Promise<EncoderLane>;
  readonly adapters: AdapterSource;
  /** Tokens of the longest text. */
  readonly maxTokens: number;
  readonly limits: PassLimits;
  /** Requests that wait or run at once. */
  readonly maxQueue: number;
  readonly listener?: EngineListener | undefined;
}

export class EmbedEngine {
  readonly #options: EmbedEngineOptions;
  readonly #lanes: EmbedLanes;
  readonly #ledger = new Ledger();
  readonly #counters = new EmbedCounters();
  /** Texts that can run, each account's in their order. */
  readonly #waiting = new Map<Account, Waiting[]>();
  readonly #live = new Set<Embedding>();
  #running = 0;
  #loop: Promise<void> | undefined;
  #refused: Error | undefined;

  constructor(options: EmbedEngineOptions) {
    this.#options = options;
    this.#lanes = new EmbedLanes(options.openLane);
  }

  /** Tokens of the longest text. */
  get maxContext(): number {
    return this.#options.maxTokens;
  }

  /** An encoder keeps no keys and values. */
  get kvBlocks(): number {
    return 0;
  }

  /** Opens the base's lane, which the first request would wait for. */
  async ready(): Promise<void> {
    await this.#lanes.ready(undefined);
  }

  /**
   * The vector of each text, as pooling makes it.
   * @throws {OverloadedError} where too many wait; the signal's reason; what loading a core throws
   */
  async embed(request: EmbedRequest): Promise<readonly Float32Array[]> {
    request.signal.throwIfAborted();
    if (this.#refused !== undefined) throw this.#refused;
    const embedding = this.#arrive(request);
    const abort = () => this.#end(embedding, request.signal.reason);
    request.signal.addEventListener("abort", abort, { once: true });
    try {
      await this.#load(embedding);
      return await embedding.settled.promise;
    } catch (error) {
      this.#end(embedding, error);
      throw error;
    } finally {
      request.signal.removeEventListener("abort", abort);
      embedding.lease?.release();
      embedding.lease = undefined;
    }
  }

  /** What generates is not offered over an encoder. @throws {TypeError} always */
  generate(): never {
    return this.generateAll();
  }

  /** @throws {TypeError} always */
  generateAll(): never {
    throw new TypeError("internal: an encoder was asked to generate");
  }

  stats(): EngineStats {
    const waiting = [...this.#waiting.values()].reduce((sum, { length }) => sum + length, 0);
    const gauges: EmbedGauges = {
      running: this.#running,
      waiting,
      loading:
        [...this.#live].filter(({ lease, request }) =>
          request.adapter !== undefined && lease === undefined
        ).length,
      lanes: this.#lanes.count,
    };
    return statsOf(this.#counters, gauges);
  }

  /** Refuses new requests and fails all present ones. */
  fail(error: Error): void {
    this.#refused = error;
    for (const embedding of [...this.#live]) this.#end(embedding, error);
  }

  /** Ends what runs, waits for the pass in flight and releases the lanes. */
  async close(): Promise<void> {
    this.fail(new OverloadedError("The server is going down.", 1));
    await this.#loop;
    await this.#lanes.release();
  }

  /** @throws {Error} `internal: …` where something is left of no request */
  checkIntegrity(): void {
    if (this.#live.size > 0) return;
    for (const [{ tenant }, texts] of this.#waiting) {
      if (texts.length > 0) {
        throw new Error(`internal: ${texts.length} texts of ${tenant} are left`);
      }
    }
    this.#options.adapters.checkIntegrity?.();
  }

  #arrive(request: EmbedRequest): Embedding {
    const { maxQueue } = this.#options;
    const { tenant, standing = EQUAL_STANDING, background, texts } = request;
    if (this.#live.size >= maxQueue) {
      this.#counters.rejected++;
      throw new OverloadedError(`Too many requests wait: ${maxQueue}.`, 1);
    }
    const now = performance.now();
    const account = background
      ? this.#ledger.background(tenant, standing, now)
      : this.#ledger.account(tenant, standing, now);
    if (
      standing.queued !== undefined && account.live >= standing.queued + (standing.concurrency ?? 1)
    ) {
      this.#counters.rejected++;
      const text = `Too many requests of '${tenant}' wait: at most ${standing.queued} may`;
      throw new OverloadedError(text, 1, "tenant");
    }
    const settled = Promise.withResolvers<readonly Float32Array[]>();
    // whoever waits hears of it, though perhaps after its core has come
    settled.promise.catch(() => {});
    const vectors = new Array<Float32Array>(texts.length);
    const embedding = {
      ...{ request, account, vectors, left: texts.length, lease: undefined, settled },
      ...{ arrived: now, admitted: undefined },
    };
    account.live++;
    this.#live.add(embedding);
    return embedding;
  }

  /** Fetches the core, then queues the texts. */
  async #load(embedding: Embedding): Promise<void> {
    const { adapter, signal, texts } = embedding.request;
    if (adapter !== undefined) {
      await this.#lanes.ready(adapter.factors);
      embedding.lease = await this.#options.adapters.acquire(adapter, signal);
    }
    if (!this.#live.has(embedding)) return;
    if (texts.length === 0) return this.#finish(embedding);
    this.#queue(embedding);
    this.#loop ??= this.#run().finally(() => this.#loop = undefined);
  }

  /** Texts of like length are neighbours, so that a pass's grid has little padding. */
  #queue(embedding: Embedding): void {
    const { account, request: { texts } } = embedding;
    const others = [...this.#waiting].filter(([, { length }]) => length > 0).map(([one]) => one);
    if (!others.includes(account)) this.#ledger.lift(account, others);
    const order = texts.map((_, index) => index)
      .sort((a, b) => texts[b].ids.length - texts[a].ids.length);
    const queue = this.#waiting.get(account) ?? [];
    for (const index of order) queue.push({ embedding, index });
    this.#waiting.set(account, queue);
  }

  async #run(): Promise<void> {
    // requests of one turn of the event loop go together
    await new Promise((resolve) => setTimeout(resolve));
    for (;;) {
      const pass = choosePass(this.#waiting, this.#options.limits);
      if (pass.texts.length === 0) break;
      try {
        await this.#compute(pass.texts, pass.factors);
      } catch (error) {
        for (const { embedding } of pass.texts) this.#end(embedding, error);
      }
      await this.#lanes.trim();
    }
    this.#options.listener?.idle?.();
  }

  async #compute(texts: readonly Waiting[], factors: string | undefined): Promise<void> {
    const lane = await this.#lanes.get(factors);
    const started = performance.now();
    this.#running = texts.length;
    for (const { embedding } of texts) embedding.admitted ??= started;
    try {
      const rows = texts.map(({ embedding: { request, lease }, index }) => ({
        text: request.texts[index],
        core: coreOf(lease),
      }));
      const vectors = await lane.run(rows);
      const tokens = rows.reduce((sum, { text }) => sum + text.ids.length, 0);
      this.#counters.pass(tokens);
      const seconds = (performance.now() - started) / 1000;
      this.#options.listener?.step?.({
        ...{ kind: "prefill", rows: rows.length, tokens, steps: 1, first: 0, seconds },
      });
      texts.forEach(({ embedding, index }, i) => this.#deliver(embedding, index, vectors[i]));
    } finally {
      this.#running = 0;
    }
  }

  #deliver(embedding: Embedding, index: number, vector: Float32Array): void {
    embedding.vectors[index] = vector;
    if (--embedding.left === 0) this.#finish(embedding);
  }

  #finish(embedding: Embedding): void {
    if (!this.#leave(embedding, "stop")) return;
    embedding.settled.resolve(embedding.vectors);
  }

  #end(embedding: Embedding, reason: unknown): void {
    if (!this.#leave(embedding, embedding.request.signal.aborted ? "abort" : "error")) return;
    const queue = this.#waiting.get(embedding.account);
    if (queue !== undefined) {
      this.#waiting.set(
        embedding.account,
        queue.filter((text) => text.embedding !== embedding),
      );
    }
    embedding.settled.reject(reason);
  }

  #leave(embedding: Embedding, reason: "stop" | "abort" | "error"): boolean {
    if (!this.#live.delete(embedding)) return false;
    embedding.account.live--;
    this.#counters.finished[reason]++;
    this.#options.listener?.finished?.(observationOf(embedding, reason));
    return true;
  }
}

function coreOf(lease: CoreLease | undefined) {
  if (lease === undefined) return undefined;
  if ("data" in lease.core) return lease.core;
  throw new TypeError("internal: an encoder was given a LoRA");
}
