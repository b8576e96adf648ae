/**
 * The limits of tenants: as the store says them, and requests and tokens a minute as they are counted
 * against them, with OpenAI's headers and refusals.
 */
import {
  type Changes,
  NO_LIMITS,
  type TenantLimits,
  type TenantStore,
} from "../../adapters/store/store.ts";
import { Answers } from "../../src/util/memo.ts";
import { ApiError } from "../errors.ts";

/** Milliseconds for which a copy of the store's is used if the store tells of no change. */
const KEEP_MILLISECONDS = 30_000;
/** Most copies; the least recently used are forgotten first. */
const MOST_COPIES = 10_000;

export interface TenantLimitsOptions {
  readonly tenants: Pick<TenantStore, "find">;
  readonly changes: Pick<Changes, "on">;
  /** Monotonic milliseconds. Default: since the process began. */
  readonly now?: () => number;
}

/**
 * The limits of tenants as requests read them: a copy of the store's for 30 seconds, or until the
 * store tells of a change. Where the store does not answer, an older copy is used.
 */
export class TenantLimitsReader implements Disposable {
  readonly #tenants: Pick<TenantStore, "find">;
  readonly #copies: Answers<TenantLimits>;
  readonly #news: readonly Disposable[];

  constructor({ tenants, changes, now }: TenantLimitsOptions) {
    this.#tenants = tenants;
    const freshMs = KEEP_MILLISECONDS;
    this.#copies = new Answers({ most: MOST_COPIES, freshMs, onFailure: "last", now });
    this.#news = [
      changes.on("tenant", ({ id, tenant = id }) => this.#forget(tenant)),
      changes.on("resync", () => this.#copies.clear()),
    ];
  }

  /**
   * A tenant's limits. A tenant that is not in the store has none.
   * @throws what the store throws, where there is not even an old copy
   */
  limitsOf(tenant: string): Promise<TenantLimits> {
    return this.#copies.get(tenant, async () => {
      const record = await this.#tenants.find(tenant);
      return record?.limits ?? NO_LIMITS;
    });
  }

  [Symbol.dispose](): void {
    for (const one of this.#news) one[Symbol.dispose]();
  }

  #forget(tenant: string | undefined): void {
    if (tenant === undefined) this.#copies.clear();
    else this.#copies.forget(tenant);
  }
}

// ---- requests and tokens a minute ----

type Kind = "requests" | "tokens";
const NAMES = {
  requests: "requests per min (RPM)",
  tokens: "tokens per min (TPM)",
} as const;
/** Tenants with buckets; those that are full again are forgotten first. */
const SWEEP_SIZE = 4096;

/** A limit over all replicas, and this one's share of it. */
interface Limit {
  readonly perMinute: number;
  readonly replicas: number;
  readonly bucket: TokenBucket;
}

/** A tenant's limits, by kind; what is missing is not limited. */
type Limits = Partial<Record<Kind, Limit>>;

export interface RateLimitsOptions {
  /** Monotonic milliseconds. Default: since the process began. */
  readonly now?: () => number;
  /** How many processes share the limits. Default: this one alone. */
  readonly replicas?: { readonly count: number };
}

/**
 * Requests and tokens a minute for each tenant.
 *
 * Each of N replicas has buckets of its own with an Nth of the limit. Together they give the whole
 * limit where requests are spread over them, and no request waits for a database; a tenant whose
 * requests all go to one replica gets an Nth. Headers and refusals name the whole limit, and N
 * times what is left here.
 *
 * A request is charged when it comes: one request, and the tokens of its prompt plus those it asks
 * for (`max_tokens`). At its end the tokens that it did not use are given back. What it used
 * beyond them (without `max_tokens`) is owed: the tenant waits until the minutes have paid for it.
 */
export class RateLimits {
  readonly #now: () => number;
  readonly #replicas: { readonly count: number };
  readonly #tenants = new Map<string, Limits>();

  constructor({ now = () => performance.now(), replicas = { count: 1 } }: RateLimitsOptions = {}) {
    this.#now = now;
    this.#replicas = replicas;
  }

  /**
   * Counts a request.
   * @param spared share of a minute that the request leaves to others, 0 to 1
   * @throws {ApiError} 429 where the tenant has used up its requests, or owes tokens
   */
  begin(tenant: string, limits: TenantLimits, spared = 0): RateTicket {
    const ticket = new RateTicket(tenant, this.#limitsOf(tenant, limits), this.#now, spared);
    ticket.begin();
    return ticket;
  }

  #limitsOf(tenant: string, { requestsPerMinute, tokensPerMinute }: TenantLimits): Limits {
    if (requestsPerMinute === null && tokensPerMinute === null) {
      this.#tenants.delete(tenant);
      return {};
    }
    const now = this.#now();
    let own = this.#tenants.get(tenant);
    if (own === undefined) {
      if (this.#tenants.size >= SWEEP_SIZE) this.#sweep(now);
      this.#tenants.set(tenant, own = {});
    }
    const replicas = this.#replicas.count;
    setLimit(own, "requests", { perMinute: requestsPerMinute, replicas, now });
    setLimit(own, "tokens", { perMinute: tokensPerMinute, replicas, now });
    return own;
  }

  /** Forgets full buckets: a new one would be the same. */
  #sweep(now: number): void {
    for (const [tenant, limits] of this.#tenants) {
      const full = Object.values(limits).every(({ bucket }) =>
        bucket.level(now) >= bucket.perMinute
      );
      if (full) this.#tenants.delete(tenant);
    }
  }
}

function setLimit(
  limits: Limits,
  kind: Kind,
  { perMinute, replicas, now }: {
    readonly perMinute: number | null;
    readonly replicas: number;
    readonly now: number;
  },
): void {
  if (perMinute === null) return void delete limits[kind];
  const share = perMinute / replicas;
  const bucket = limits[kind]?.bucket ?? new TokenBucket(share, now);
  if (bucket.perMinute !== share) bucket.resize(share, now);
  limits[kind] = { perMinute, replicas, bucket };
}

/** One request, as its tenant's limits count it. */
export class RateTicket {
  readonly #tenant: string;
  readonly #limits: Limits;
  readonly #now: () => number;
  readonly #spared: number;
  #reserved = 0;
  #settled = false;

  constructor(tenant: string, limits: Limits, now: () => number, spared = 0) {
    this.#tenant = tenant;
    this.#limits = limits;
    this.#now = now;
    this.#spared = spared;
  }

  /** @throws {ApiError} 429 */
  begin(): void {
    this.#check("tokens", 0);
    this.#check("requests", 1);
    this.#limits.requests?.bucket.take(1, this.#now());
  }

  /**
   * Counts the tokens of the prompt and those asked for.
   * @throws {ApiError} 429 where that is more than is left, or more than a minute ever has
   */
  reserve(tokens: number): void {
    this.#check("tokens", tokens);
    this.#limits.tokens?.bucket.take(tokens, this.#now());
    this.#reserved = tokens;
  }

  /** Replaces the reserved tokens by the used ones. Only the first call counts. */
  settle(tokens: number): void {
    if (this.#settled) return;
    this.#settled = true;
    this.#limits.tokens?.bucket.take(tokens - this.#reserved, this.#now());
  }

  /** OpenAI's `x-ratelimit-*` headers, of the limits that there are. */
  headers(): Record<string, string> {
    const now = this.#now();
    const headers: Record<string, string> = {};
    for (const kind of ["requests", "tokens"] as const) {
      const limit = this.#limits[kind];
      if (limit === undefined) continue;
      headers[`x-ratelimit-limit-${kind}`] = String(limit.perMinute);
      headers[`x-ratelimit-remaining-${kind}`] = String(Math.max(0, leftOf(limit, now)));
      headers[`x-ratelimit-reset-${kind}`] = durationText(limit.bucket.waitFor(Infinity, now));
    }
    return headers;
  }

  #check(kind: Kind, wanted: number): void {
    const limit = this.#limits[kind];
    if (limit === undefined) return;
    const { bucket, perMinute } = limit;
    const level = bucket.level(this.#now());
    // what is more than this replica's share, though not than the limit, takes all and owes the rest
    const needed = Math.min(wanted + this.#spared * bucket.perMinute, bucket.perMinute);
    if (wanted <= perMinute && level >= needed && level >= 0) return;
    throw this.#refusal(kind, limit, wanted, needed);
  }

  #refusal(kind: Kind, limit: Limit, wanted: number, needed: number): ApiError {
    const now = this.#now();
    const { perMinute, bucket } = limit;
    const used = perMinute - leftOf(limit, now);
    const figures = `Limit ${perMinute}, Used ${used}, Requested ${wanted}.`;
    const whose = `for tenant '${this.#tenant}' on ${NAMES[kind]}: ${figures}`;
    if (wanted > perMinute) {
      return rateError(kind, `Request too large ${whose} Ask for fewer tokens.`, this.headers());
    }
    const wait = bucket.waitFor(needed, now);
    return rateError(
      kind,
      `Rate limit reached ${whose} Please try again in ${durationText(wait)}.`,
      { ...this.headers(), ...retryAfter(wait) },
    );
  }
}

/** What is left of a limit over all replicas, if the others have as much left as this one. */
function leftOf({ bucket, replicas }: Limit, now: number): number {
  return Math.floor(bucket.level(now) * replicas);
}

function rateError(
  kind: Kind,
  message: string,
  headers: Readonly<Record<string, string>>,
): ApiError {
  return new ApiError(429, message, { type: kind, code: "rate_limit_exceeded", headers });
}

/** In whole seconds as HTTP has it, and finer for OpenAI's clients. */
function retryAfter(milliseconds: number): Record<string, string> {
  return {
    "retry-after": String(Math.max(1, Math.ceil(milliseconds / 1000))),
    "retry-after-ms": String(Math.max(1, Math.ceil(milliseconds))),
  };
}

/** As OpenAI writes times: `20ms`, `8.64s`, `6m0s`. */
export function durationText(milliseconds: number): string {
  const whole = Math.ceil(milliseconds);
  if (whole < 1000) return `${whole}ms`;
  const minutes = Math.floor(whole / 60_000);
  const seconds = `${(whole - minutes * 60_000) / 1000}s`;
  return minutes === 0 ? seconds : `${minutes}m${seconds}`;
}

const MINUTE = 60_000;

export class TokenBucket {
  #perMinute: number;
  #level: number;
  #at: number;

  /** Full. @param perMinute above 0 */
  constructor(perMinute: number, now: number) {
    this.#perMinute = perMinute;
    this.#level = perMinute;
    this.#at = now;
  }

  /** What it holds at most, which is what a minute brings. */
  get perMinute(): number {
    return this.#perMinute;
  }

  /** Another rate from now on; what was taken stays taken. */
  resize(perMinute: number, now: number): void {
    const taken = this.#perMinute - this.level(now);
    this.#perMinute = perMinute;
    this.#level = perMinute - taken;
  }

  /** What may be taken; below 0 where more was used than there was. */
  level(now: number): number {
    const gained = (now - this.#at) * this.#perMinute / MINUTE;
    this.#level = Math.min(this.#perMinute, this.#level + gained);
    this.#at = now;
    return this.#level;
  }

  /** Takes an amount whether it is there or not; a negative one is given back. */
  take(amount: number, now: number): void {
    this.#level = Math.min(this.#perMinute, this.level(now) - amount);
  }

  /** Milliseconds until it holds `amount`, at most a whole bucket. */
  waitFor(amount: number, now: number): number {
    const missing = Math.min(amount, this.#perMinute) - this.level(now);
    return Math.max(0, missing) * MINUTE / this.#perMinute;
  }
}
