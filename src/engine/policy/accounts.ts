/**
 * What each tenant has been served, and how much it asks for now: who is served next, and who is
 * heavy, is decided by these.
 */
import type { TenantStanding } from "../request/request.ts";

/** The paper's weights of input and output tokens. */
const PROMPT_TOKEN = 1;
const OUTPUT_TOKEN = 2;
/**
 * A tenant is heavy when it has more than 4 live samples per weight and more than 4 times the least
 * loaded other tenant's.
 */
const HEAVY_FACTOR = 4;
/** A tenant stays present for so long after its last request came or its last sample ended. */
const PRESENT_MILLISECONDS = 60_000;
/** With so many accounts, those of absent tenants are forgotten. */
const SWEEP_SIZE = 4096;

/** Added to the priority of requests that nobody waits for: behind all that tenants may have. */
const BACKGROUND_PRIORITY = 1e9;

/** A tenant's standing unless its request brings another: equal shares, no limits. */
export const EQUAL_STANDING: TenantStanding = {
  weight: 1,
  priority: 0,
  concurrency: undefined,
  queued: undefined,
};

/**
 * What a tenant has been served, as one number that is compared between tenants, and its presence:
 * the virtual token counter of Sheng et al., "Fairness in Serving Large Language Models" (arXiv
 * 2401.00588). It grows by the tokens that the tenant is served, divided by the tenant's weight: a
 * computed prompt token counts 1 and a generated token 2, as in the paper. A token from the prefix
 * cache, or one computed again after a preemption, counts 0.
 */
export class Account {
  /** As its newest request brought it. */
  standing: TenantStanding = EQUAL_STANDING;
  /** Samples that have not finished. */
  live = 0;
  /** When its last request came or its last sample ended, milliseconds of `performance.now()`. */
  seenAt = 0;
  #served = 0;

  /** @param foreground the tenant's own account, where this is that of its background requests */
  constructor(readonly tenant: string, readonly foreground?: Account) {}

  /** Whether it is that of requests that nobody waits for. */
  get background(): boolean {
    return this.foreground !== undefined;
  }

  /** Virtual tokens divided by weight; comparable between accounts of one ledger. */
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

  /** Raises the counter to `served`, if it is lower. */
  lift(served: number): void {
    if (served > this.#served) this.#served = served;
  }

  /** Live samples divided by weight. */
  get demand(): number {
    return this.live / this.standing.weight;
  }
}

/** Virtual tokens of a prompt of so many tokens. */
export function promptCost(tokens: number): number {
  return PROMPT_TOKEN * tokens;
}

/** The accounts of one engine. */
export class Ledger {
  readonly #accounts = new Map<string, Account>();
  /** The highest counter among forgotten accounts. */
  #forgotten = 0;

  /** A tenant's account, with the standing that this request brings. `now` in milliseconds. */
  account(tenant: string, standing: TenantStanding, now: number): Account {
    const account = this.#account(tenant, now, () => new Account(tenant));
    account.standing = standing;
    account.seenAt = now;
    return account;
  }

  /**
   * The account of a tenant's background requests, with the standing that this request brings: its
   * priority is behind that of all foreground requests.
   */
  background(tenant: string, standing: TenantStanding, now: number): Account {
    const foreground = this.#account(tenant, now, () => new Account(tenant));
    // no tenant's name has a blank in it
    const account = this.#account(
      `${tenant} background`,
      now,
      () => new Account(tenant, foreground),
    );
    const priority = standing.priority + BACKGROUND_PRIORITY;
    account.standing = { ...standing, priority, queued: undefined };
    account.seenAt = now;
    return account;
  }

  #account(key: string, now: number, make: () => Account): Account {
    let account = this.#accounts.get(key);
    if (account === undefined) {
      if (this.#accounts.size >= SWEEP_SIZE) this.#sweep(now);
      account = make();
      this.#accounts.set(key, account);
    }
    return account;
  }

  /**
   * Lifts the counter of an account that begins to wait to the lowest among those that already wait,
   * so that idle time is not saved up. Where none waits it is lifted to the highest counter of all
   * (the paper: to that of the tenant that left last), because what was served while none waited was
   * taken from none. Foreground and background are compared with their like alone.
   */
  lift(account: Account, waiting: Iterable<Account>): void {
    const isLike = (other: Account) => other.background === account.background;
    let least = Infinity;
    for (const other of waiting) if (isLike(other)) least = Math.min(least, other.served);
    if (least === Infinity) {
      least = this.#forgotten;
      for (const other of this.#accounts.values()) {
        if (isLike(other)) least = Math.max(least, other.served);
      }
    }
    account.lift(least);
  }

  /**
   * The tenants that are heavy (`HEAVY_FACTOR`). A tenant that is present without samples counts
   * with a demand of 0; a tenant that is present alone is never heavy. Background accounts make
   * nobody heavy, and are heavy themselves while anybody has a foreground sample.
   */
  heavy(now: number): ReadonlySet<Account> {
    const all = [...this.#accounts.values()];
    const present = all.filter((each) => !each.background && isPresent(each, now));
    const isWanted = present.some(({ live }) => live > 0);
    const behind = all.filter(({ background, live }) => background && live > 0 && isWanted);
    if (present.length < 2) return new Set(behind);
    const least = present.reduce((low, { demand }) => Math.min(low, demand), Infinity);
    const limit = HEAVY_FACTOR * Math.max(1, least);
    return new Set([...behind, ...present.filter(({ demand }) => demand > limit)]);
  }

  /**
   * Forgets absent tenants; one that comes back begins at the highest forgotten counter or above.
   */
  #sweep(now: number): void {
    for (const [tenant, account] of this.#accounts) {
      if (isPresent(account, now)) continue;
      this.#accounts.delete(tenant);
      this.#forgotten = Math.max(this.#forgotten, account.served);
    }
  }
}

function isPresent(account: Account, now: number): boolean {
  return account.live > 0 || now - account.seenAt < PRESENT_MILLISECONDS;
}
