/**
 * Requests and tokens a minute, by tenant: OpenAI's limits, headers and refusals. It owns one
 * process's buckets; where limits are written down is `tenant_limits.ts`'s.
 *
 * Buckets are this process's own: behind N replicas a tenant gets up to N times its limits, and
 * exactly its limits where its requests go to one replica (a gateway that routes by key does that).
 * That keeps a database's round trip out of every request; what must hold over all replicas, bytes
 * stored and who may come in, is the store's.
 *
 * A request counts when it comes, and its tokens then: those of the prompt and those it asks for at
 * most (`max_tokens`). When it has ended, what it did not use is given back, and what it used beyond
 * that (no `max_tokens`) is owed: the tenant waits until the minute has paid for it.
 */
import type { TenantLimits } from "../../adapters/store/store.ts";
import { ApiError } from "../errors.ts";
import { TokenBucket } from "./token_bucket.ts";

type Kind = "requests" | "tokens";
const NAMES = {
  requests: "requests per min (RPM)",
  tokens: "tokens per min (TPM)",
} as const;
/** Tenants with buckets; those that are full again are forgotten first. */
const SWEEP_SIZE = 4096;

/** A tenant's limits of one kind each, as far as it has them. */
type Buckets = Partial<Record<Kind, TokenBucket>>;

export class RateLimits {
  readonly #now: () => number;
  readonly #tenants = new Map<string, Buckets>();

  /** @param now monotonic milliseconds; default: since the process began */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /**
   * Counts a request.
   * @throws {ApiError} 429 where the tenant has had its requests, or owes tokens
   */
  begin(tenant: string, limits: TenantLimits): RateTicket {
    const buckets = this.#bucketsOf(tenant, limits);
    const ticket = new RateTicket(tenant, buckets, this.#now);
    ticket.begin();
    return ticket;
  }

  #bucketsOf(tenant: string, limits: TenantLimits): Buckets {
    const now = this.#now();
    let buckets = this.#tenants.get(tenant);
    if (buckets === undefined) {
      if (this.#tenants.size >= SWEEP_SIZE) this.#sweep(now);
      this.#tenants.set(tenant, buckets = {});
    }
    setLimit(buckets, "requests", limits.requestsPerMinute, now);
    setLimit(buckets, "tokens", limits.tokensPerMinute, now);
    return buckets;
  }

  /** A full bucket says no more than a new one. */
  #sweep(now: number): void {
    for (const [tenant, buckets] of this.#tenants) {
      const full = Object.values(buckets).every((each) => each.level(now) >= each.perMinute);
      if (full) this.#tenants.delete(tenant);
    }
  }
}

function setLimit(buckets: Buckets, kind: Kind, perMinute: number | null, now: number): void {
  const bucket = buckets[kind];
  if (perMinute === null) delete buckets[kind];
  else if (bucket === undefined) buckets[kind] = new TokenBucket(perMinute, now);
  else if (bucket.perMinute !== perMinute) bucket.resize(perMinute, now);
}

/** One request's part in its tenant's limits. */
export class RateTicket {
  readonly #tenant: string;
  readonly #buckets: Buckets;
  readonly #now: () => number;
  #reserved = 0;
  #settled = false;

  constructor(tenant: string, buckets: Buckets, now: () => number) {
    this.#tenant = tenant;
    this.#buckets = buckets;
    this.#now = now;
  }

  /** @throws {ApiError} 429 */
  begin(): void {
    this.#check("tokens", 0);
    this.#check("requests", 1);
    this.#buckets.requests?.take(1, this.#now());
  }

  /**
   * Counts the tokens of the prompt and those asked for.
   * @throws {ApiError} 429 where that is more than is left, or more than a minute ever has
   */
  reserve(tokens: number): void {
    this.#check("tokens", tokens);
    this.#buckets.tokens?.take(tokens, this.#now());
    this.#reserved = tokens;
  }

  /** Puts what was used in the place of what was reserved. Once; later calls change nothing. */
  settle(tokens: number): void {
    if (this.#settled) return;
    this.#settled = true;
    this.#buckets.tokens?.take(tokens - this.#reserved, this.#now());
  }

  /** OpenAI's `x-ratelimit-*` headers, of the limits that there are. */
  headers(): Record<string, string> {
    const now = this.#now();
    const headers: Record<string, string> = {};
    for (const kind of ["requests", "tokens"] as const) {
      const bucket = this.#buckets[kind];
      if (bucket === undefined) continue;
      const remaining = Math.max(0, Math.floor(bucket.level(now)));
      headers[`x-ratelimit-limit-${kind}`] = String(bucket.perMinute);
      headers[`x-ratelimit-remaining-${kind}`] = String(remaining);
      headers[`x-ratelimit-reset-${kind}`] = durationText(bucket.waitFor(Infinity, now));
    }
    return headers;
  }

  #check(kind: Kind, wanted: number): void {
    const bucket = this.#buckets[kind];
    if (bucket === undefined) return;
    const now = this.#now();
    const level = bucket.level(now);
    if (level >= wanted && level >= 0) return;
    throw this.#refusal(kind, bucket, wanted);
  }

  #refusal(kind: Kind, bucket: TokenBucket, wanted: number): ApiError {
    const now = this.#now();
    const { perMinute } = bucket;
    const used = Math.ceil(perMinute - bucket.level(now));
    const figures = `Limit ${perMinute}, Used ${used}, Requested ${wanted}.`;
    const whose = `for tenant '${this.#tenant}' on ${NAMES[kind]}: ${figures}`;
    if (wanted > perMinute) {
      return rateError(kind, `Request too large ${whose} Ask for fewer tokens.`, this.headers());
    }
    const wait = bucket.waitFor(wanted, now);
    return rateError(
      kind,
      `Rate limit reached ${whose} Please try again in ${durationText(wait)}.`,
      { ...this.headers(), ...retryAfter(wait) },
    );
  }
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
