/**
 * What each tenant has been served, as one number that is compared between tenants: the virtual
 * token counter of Sheng et al., "Fairness in Serving Large Language Models" (arXiv 2401.00588). It
 * owns the counters, who counts as present, and whose demand is heavy; it orders no sequence, runs
 * nothing and knows no slot.
 *
 * A counter grows by what its tenant is served, divided by the tenant's weight: a prompt token that
 * had to be computed counts 1, a generated one 2, as in the paper; one that came from the prefix
 * cache, or is computed again after a preemption, counts nothing. Whoever has the least is served
 * next. A tenant that comes back from having nothing to wait for is lifted to the least of those who
 * wait, so that idling saves up nothing; where nobody waits it is lifted to the most anyone has (the
 * paper: to who left last), because what was served while nobody waited was taken from nobody.
 */
import type { TenantStanding } from "./request/request.ts";

/** The paper's weights of input and output tokens. */
const PROMPT_TOKEN = 1;
const OUTPUT_TOKEN = 2;
/** Live samples per weight that are never heavy, and times the least loaded other's that are. */
const HEAVY_FACTOR = 4;
/** How long a tenant that has gone is expected back. */
const PRESENT_MILLISECONDS = 60_000;
/** Accounts kept before those that have gone are forgotten. */
const SWEEP_SIZE = 4096;

/** What tenants have where nobody said otherwise: equal shares, no limits. */
export const EQUAL_STANDING: TenantStanding = {
  weight: 1,
  priority: 0,
  concurrency: undefined,
  queued: undefined,
};

/** One tenant's counter and presence. */
export class Account {
  /** As the newest request has it. */
  standing: TenantStanding = EQUAL_STANDING;
  /** Samples that have not finished. */
  live = 0;
  /** When it last came or ended something, milliseconds of `performance.now()`. */
  seenAt = 0;
  #served = 0;

  constructor(readonly tenant: string) {}

  /** Virtual tokens by weight; comparable between accounts of one ledger. */
  get served(): number {
    return this.#served;
  }

  /** Charges prompt tokens that have to be computed. */
  chargePrompt(tokens: number): void {
    this.#served += promptCost(tokens) / this.standing.weight;
  }

  /** Charges one generated token. */
  chargeOutput(): void {
    this.#served += OUTPUT_TOKEN / this.standing.weight;
  }

  /** It owes at least so much. */
  lift(served: number): void {
    if (served > this.#served) this.#served = served;
  }

  /** Live samples by weight. */
  get demand(): number {
    return this.live / this.standing.weight;
  }
}

/** What a prompt of so many tokens counts. */
export function promptCost(tokens: number): number {
  return PROMPT_TOKEN * tokens;
}

/** The accounts of one engine. */
export class Ledger {
  readonly #accounts = new Map<string, Account>();
  /** The most that a forgotten account had. */
  #forgotten = 0;

  /** A tenant's account, with the standing that this request brings. `now` in milliseconds. */
  account(tenant: string, standing: TenantStanding, now: number): Account {
    let account = this.#accounts.get(tenant);
    if (account === undefined) {
      if (this.#accounts.size >= SWEEP_SIZE) this.#sweep(now);
      account = new Account(tenant);
      this.#accounts.set(tenant, account);
    }
    account.standing = standing;
    account.seenAt = now;
    return account;
  }

  /** Accounts with live samples. */
  present(): Account[] {
    return [...this.#accounts.values()].filter((account) => account.live > 0);
  }

  /** Where an account begins that did not wait until now, beside those that do. */
  lift(account: Account, waiting: Iterable<Account>): void {
    let least = Infinity;
    for (const other of waiting) least = Math.min(least, other.served);
    if (least === Infinity) {
      least = this.#forgotten;
      for (const other of this.#accounts.values()) least = Math.max(least, other.served);
    }
    account.lift(least);
  }

  /**
   * Whose demand is heavy: more than a few live samples, and several times what the least demanding
   * other tenant has, those expected back (with none) included. Nobody's, where a tenant is alone.
   */
  heavy(now: number): ReadonlySet<Account> {
    const around = [...this.#accounts.values()].filter((each) => isAround(each, now));
    if (around.length < 2) return new Set();
    const least = around.reduce((low, { demand }) => Math.min(low, demand), Infinity);
    const limit = HEAVY_FACTOR * Math.max(1, least);
    return new Set(around.filter(({ demand }) => demand > limit));
  }

  /** Forgets who has gone; what they owe is at most what the last one served had. */
  #sweep(now: number): void {
    for (const [tenant, account] of this.#accounts) {
      if (isAround(account, now)) continue;
      this.#accounts.delete(tenant);
      this.#forgotten = Math.max(this.#forgotten, account.served);
    }
  }
}

function isAround(account: Account, now: number): boolean {
  return account.live > 0 || now - account.seenAt < PRESENT_MILLISECONDS;
}
