/**
 * What a request is allowed and what it used: the tenant's limits before it runs, its usage record in
 * the store when it ends. Without limits nothing is limited; without a recorder nothing is written
 * down.
 */
import type { TenantStanding } from "../../src/engine/request/request.ts";
import { fulfilledWithin } from "../../src/util/time.ts";
import {
  NO_LIMITS,
  type Store,
  type TenantLimits,
  type UsageRecord,
  type UsageStore,
} from "../../adapters/store/store.ts";
import type { Access, Principal } from "../access/access.ts";
import { ApiError } from "../errors.ts";
import type { UsageBody } from "../http/schema/common.ts";
import { RateLimits, type RateTicket, TenantLimitsReader } from "../limits/tenant_limits.ts";
import type { Log } from "../telemetry/log.ts";

/** Share of each minute's requests and tokens that a batch's lines leave to other requests. */
const BACKGROUND_SPARES = 1 / 2;

export interface MeteringOptions {
  /** Undefined = no tenant has limits. */
  readonly limits?: Pick<TenantLimitsReader, "limitsOf">;
  /**
   * As `limits`, for requests that leave nothing behind: it makes no tenant in open mode.
   * Default: `limits`.
   */
  readonly known?: MeteringOptions["limits"];
  readonly rates: Pick<RateLimits, "begin">;
  /** Undefined = usage is not written down. */
  readonly recorder?: Pick<UsageRecorder, "record" | "full">;
}

/** What a request did, for its record. */
export interface Use {
  /** The completion's id: the record's too. */
  readonly id: string;
  readonly kind: "chat" | "completion" | "embedding";
  /** The base's or the adapter's name, without a version. */
  readonly model: string;
  readonly usage: UsageBody;
}

export class Metering {
  readonly #options: MeteringOptions;

  constructor(options: MeteringOptions) {
    this.#options = options;
  }

  /**
   * Counts a request of a principal. One in the background leaves half of each minute to others.
   * @throws {ApiError} 429 where its tenant has used up its requests, 503 where the store does
   *   not answer or takes no usage
   */
  async begin(
    principal: Principal,
    requestId: string,
    { background = false }: { readonly background?: boolean } = {},
  ): Promise<MeteredRequest> {
    const { rates, recorder } = this.#options;
    if (recorder?.full === true) throw unavailable("usage cannot be written down");
    const limits = await limitsOf(this.#options.limits, principal.tenant);
    const ticket = rates.begin(principal.tenant, limits, background ? BACKGROUND_SPARES : 0);
    return new MeteredRequest({ principal, requestId, limits, ticket, recorder });
  }

  /** Counts a request that leaves no usage. @throws as `begin` does */
  async count(principal: Principal, requestId: string): Promise<MeteredRequest> {
    const { rates, limits: admitting, known = admitting } = this.#options;
    const limits = await limitsOf(known, principal.tenant);
    const ticket = rates.begin(principal.tenant, limits);
    return new MeteredRequest({ principal, requestId, limits, ticket, recorder: undefined });
  }
}

async function limitsOf(
  reader: MeteringOptions["limits"],
  tenant: string,
): Promise<TenantLimits> {
  try {
    return await reader?.limitsOf(tenant) ?? NO_LIMITS;
  } catch (cause) {
    throw unavailable("the tenant's limits cannot be read", cause);
  }
}

function unavailable(why: string, cause?: unknown): ApiError {
  return new ApiError(503, `The server cannot take requests just now: ${why}. Please retry.`, {
    code: "store_unavailable",
    headers: { "retry-after": "1" },
    cause,
  });
}

interface MeteredParts {
  readonly principal: Principal;
  readonly requestId: string;
  readonly limits: TenantLimits;
  readonly ticket: RateTicket;
  readonly recorder: Pick<UsageRecorder, "record"> | undefined;
}

/** One request, from its admission to its record. */
export class MeteredRequest {
  readonly #parts: MeteredParts;
  #ended = false;

  constructor(parts: MeteredParts) {
    this.#parts = parts;
  }

  /** The tenant's weight, priority and limits, for the engine. */
  get standing(): TenantStanding {
    const { weight, priority, concurrency, queued } = this.#parts.limits;
    return { weight, priority, concurrency: concurrency ?? undefined, queued: queued ?? undefined };
  }

  /** OpenAI's rate-limit headers as they are now. */
  headers(): Record<string, string> {
    return this.#parts.ticket.headers();
  }

  /** Counts the tokens it may use. @throws {ApiError} 429 where they are more than are left */
  reserve(tokens: number): void {
    this.#parts.ticket.reserve(tokens);
  }

  /**
   * Records its usage at a regular end; resolves when the record is durable (see `UsageRecorder`).
   */
  async complete(use: Use): Promise<void> {
    if (this.#ended) return;
    this.#end(use);
    await this.#record(use);
  }

  /** For a request that was cut off or refused: records later what was generated. */
  abandon(use: Use | undefined): void {
    if (this.#ended) return;
    this.#end(use);
    if (use !== undefined && use.usage.completion_tokens > 0) void this.#record(use);
  }

  #end(use: Use | undefined): void {
    this.#ended = true;
    this.#parts.ticket.settle(use?.usage.total_tokens ?? 0);
  }

  async #record({ id, kind, model, usage }: Use): Promise<void> {
    const { principal, requestId, recorder } = this.#parts;
    const record: UsageRecord = {
      id,
      at: Date.now(),
      tenant: principal.tenant,
      keyId: principal.keyId,
      model,
      kind,
      promptTokens: usage.prompt_tokens,
      cachedTokens: usage.prompt_tokens_details.cached_tokens,
      completionTokens: usage.completion_tokens,
      trainedTokens: 0,
      requestId,
    };
    await recorder?.record(record);
  }
}

export interface StoreMeteringOptions {
  /** How many processes share the limits; default: this one alone. */
  readonly replicas?: { readonly count: number } | undefined;
  /** The tenant that a request is counted under (`Access.admit`); default: where it is there. */
  readonly admit?: Access["admit"];
}

export class StoreMetering extends Metering implements AsyncDisposable {
  /** For records of other work than requests. */
  readonly recorder: UsageRecorder;
  readonly #readers: readonly TenantLimitsReader[];

  constructor(
    { tenants, changes, usage }: Pick<Store, "tenants" | "changes"> & {
      readonly usage: Pick<UsageStore, "add">;
    },
    log: Log,
    { replicas, admit = (id) => tenants.find(id) }: StoreMeteringOptions = {},
  ) {
    const limits = new TenantLimitsReader({ tenants: { find: admit }, changes });
    const known = new TenantLimitsReader({ tenants, changes });
    const recorder = new UsageRecorder({ store: usage, log });
    super({ limits, known, rates: new RateLimits(replicas && { replicas }), recorder });
    this.recorder = recorder;
    this.#readers = [limits, known];
  }

  /** Writes what is left. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const reader of this.#readers) reader[Symbol.dispose]();
    await this.recorder[Symbol.asyncDispose]();
  }
}

// ---- usage, written down ----

/** Records of one write. */
const BATCH = 500;
/** Records that may wait for a store that does not answer. */
const MOST_PENDING = 100_000;
/** How long an answer waits for its record. */
const PATIENCE_MILLISECONDS = 2000;
const FIRST_RETRY_MILLISECONDS = 100;
const LAST_RETRY_MILLISECONDS = 5000;

export interface UsageRecorderOptions {
  readonly store: Pick<UsageStore, "add">;
  readonly log: Pick<Log, "warning" | "info">;
  /** Milliseconds that `record` waits at most. Default 2000. */
  readonly patience?: number;
}

interface Pending {
  readonly record: UsageRecord;
  readonly written: () => void;
}

/**
 * Writes usage records to the store. Records that come during a write go together in the next one,
 * so a busy server writes a few times a second and nobody waits longer than two writes.
 *
 * The guarantee: when `record` resolves with "durable", the record is in the store and survives
 * the death of the process. The last event of an answer waits for that, so every request whose end
 * a client has seen is counted, once (records have ids). Where the store takes longer than 2
 * seconds, the answer goes out ("pending"); the record is tried again until the store takes it or
 * the process dies, and the log says so. A request that the death of the process cut off is not
 * counted.
 */
export class UsageRecorder implements AsyncDisposable {
  readonly #options: UsageRecorderOptions;
  readonly #pending: Pending[] = [];
  #writing: Promise<void> | undefined;
  #failures = 0;
  #closing = false;
  #wake = () => {};

  constructor(options: UsageRecorderOptions) {
    this.#options = options;
  }

  /** Whether so many records wait that no new request should be taken. */
  get full(): boolean {
    return this.#pending.length >= MOST_PENDING;
  }

  /** Records that are not durable yet. */
  get pending(): number {
    return this.#pending.length;
  }

  /** Resolves when the record is durable, or when that takes too long. */
  async record(record: UsageRecord): Promise<"durable" | "pending"> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#pending.push({ record, written: resolve });
    this.#writing ??= this.#write();
    const { patience = PATIENCE_MILLISECONDS } = this.#options;
    return await fulfilledWithin(patience, promise) ? "durable" : "pending";
  }

  /**
   * Tries once more to write what is left. What the store does not take then is lost, and logged.
   */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing = true;
    this.#wake();
    await this.#writing;
    if (this.#pending.length === 0) return;
    this.#options.log.warning("usage records lost: the store did not take them", {
      records: this.#pending.length,
    });
  }

  async #write(): Promise<void> {
    while (this.#pending.length > 0) {
      if (await this.#writeBatch()) continue;
      if (this.#closing && !await this.#writeBatch()) break;
      await this.#pause();
    }
    this.#writing = undefined;
  }

  async #writeBatch(): Promise<boolean> {
    const batch = this.#pending.slice(0, BATCH);
    try {
      await this.#options.store.add(batch.map(({ record }) => record));
    } catch (error) {
      this.#failed(error);
      return false;
    }
    this.#pending.splice(0, batch.length);
    for (const { written } of batch) written();
    if (this.#failures > 0) this.#options.log.info("usage records are written again");
    this.#failures = 0;
    return true;
  }

  #failed(error: unknown): void {
    this.#failures++;
    this.#options.log.warning("usage records cannot be written, trying again", {
      records: this.#pending.length,
      error: error instanceof Error ? error.message : String(error),
    });
  }

  #pause(): Promise<void> {
    const wait = FIRST_RETRY_MILLISECONDS * 2 ** Math.min(this.#failures, 10);
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, Math.min(LAST_RETRY_MILLISECONDS, wait));
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
      if (this.#closing) this.#wake();
    });
  }
}
