/**
 * What a request is allowed and what it used: the tenant's limits before it runs, its usage record
 * when it ends. Without limits nothing is limited; without a recorder nothing is written down.
 */
import type { TenantStanding } from "../../src/engine/request/request.ts";
import {
  NO_LIMITS,
  type Store,
  type TenantLimits,
  type UsageRecord,
  type UsageStore,
} from "../../adapters/store/store.ts";
import type { Access, Principal } from "../access/access.ts";
import { ApiError } from "../http/errors.ts";
import type { UsageBody } from "../http/schema/common.ts";
import { RateLimits, type RateTicket } from "../limits/rate_limits.ts";
import { TenantLimitsReader } from "../limits/tenant_limits.ts";
import type { Log } from "../telemetry/log.ts";
import { UsageRecorder } from "./recorder.ts";

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
  readonly kind: "chat" | "completion";
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
   * Counts a request of a principal.
   * @throws {ApiError} 429 where its tenant has used up its requests, 503 where the store does
   *   not answer or takes no usage
   */
  async begin(principal: Principal, requestId: string): Promise<MeteredRequest> {
    const { rates, recorder } = this.#options;
    if (recorder?.full === true) throw unavailable("usage cannot be written down");
    const limits = await limitsOf(this.#options.limits, principal.tenant);
    const ticket = rates.begin(principal.tenant, limits);
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
    return {
      weight,
      priority,
      concurrency: concurrency ?? undefined,
      queued: queued ?? undefined,
    };
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
   * Records its usage at a regular end; resolves when the record is durable (see `recorder.ts`).
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
  readonly replicas?: { readonly count: number };
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
