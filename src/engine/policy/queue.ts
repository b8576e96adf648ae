/**
 * Tenants in the queue: what each has been served, a line for each, and the order in which their
 * sequences are admitted. Between tenants: by the tenant's priority, then by who has been served
 * least (`Account`), then by who has fewer rows for its weight, then by arrival. Inside one tenant:
 * by the request's priority, then by arrival.
 */
import type { TenantStanding } from "../request/request.ts";
import type { Sequence } from "../sequence.ts";

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

  constructor(readonly tenant: string) {}

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

  /**
   * Lifts the counter of an account that begins to wait to the lowest among those that already wait,
   * so that idle time is not saved up. Where none waits it is lifted to the highest counter of all
   * (the paper: to that of the tenant that left last), because what was served while none waited was
   * taken from none.
   */
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
   * The tenants that are heavy (`HEAVY_FACTOR`). A tenant that is present without samples counts
   * with a demand of 0; a tenant that is present alone is never heavy.
   */
  heavy(now: number): ReadonlySet<Account> {
    const present = [...this.#accounts.values()].filter((each) => isPresent(each, now));
    if (present.length < 2) return new Set();
    const least = present.reduce((low, { demand }) => Math.min(low, demand), Infinity);
    const limit = HEAVY_FACTOR * Math.max(1, least);
    return new Set(present.filter(({ demand }) => demand > limit));
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

/** Negative where `a` runs sooner than `b` of the same tenant. */
export function compareInLine(a: Sequence, b: Sequence): number {
  return a.request.priority - b.request.priority || a.arrival - b.arrival;
}

export interface OrderOptions {
  /** Rows that a tenant has, divided by its weight. */
  readonly share: (account: Account) => number;
  /** Accounts whose sequences are passed over from now on; asked before each sequence. */
  readonly closed: (account: Account) => boolean;
}

/** How far a reader of the order has gone in one tenant's line. */
interface Cursor {
  readonly account: Account;
  readonly line: readonly Sequence[];
  next: number;
  /** The account's counter once everything read so far is admitted. */
  served: number;
}

export class WaitingQueue {
  readonly #ledger: Ledger;
  readonly #lines = new Map<Account, Sequence[]>();
  #size = 0;
  #arrivals = 0;

  constructor(ledger: Ledger) {
    this.#ledger = ledger;
  }

  get size(): number {
    return this.#size;
  }

  /** Each tenant's line, in order. */
  get lines(): ReadonlyMap<Account, readonly Sequence[]> {
    return this.#lines;
  }

  /** All sequences, tenant by tenant. */
  *[Symbol.iterator](): Generator<Sequence> {
    for (const line of this.#lines.values()) yield* line;
  }

  /** The arrival number of the next sequence. */
  nextArrival(): number {
    return this.#arrivals++;
  }

  has(sequence: Sequence): boolean {
    return this.#lines.get(sequence.account)?.includes(sequence) ?? false;
  }

  /** Adds a sequence; the counter of a tenant that did not wait is lifted to those that do. */
  add(sequence: Sequence): void {
    const { account } = sequence;
    let line = this.#lines.get(account);
    if (line === undefined) {
      this.#ledger.lift(account, this.#lines.keys());
      this.#lines.set(account, line = []);
    }
    line.splice(lowerBound(line, (other) => compareInLine(other, sequence) < 0), 0, sequence);
    this.#size++;
  }

  /** @throws {Error} `internal: …` where it does not wait. */
  remove(sequence: Sequence): void {
    const line = this.#lines.get(sequence.account) ?? [];
    const at = line.indexOf(sequence);
    if (at === -1) throw new Error(`internal: sequence ${sequence.label} does not wait`);
    line.splice(at, 1);
    if (line.length === 0) this.#lines.delete(sequence.account);
    this.#size--;
  }

  /**
   * Sequences in the order in which they are to be admitted; each is counted as served to its
   * tenant before the next one is chosen. The queue must not change meanwhile.
   */
  *inOrder({ share, closed }: OrderOptions): Generator<Sequence> {
    const shares = new Map([...this.#lines.keys()].map((account) => [account, share(account)]));
    const compare = (a: Cursor, b: Cursor) => compareCursors(a, b, shares);
    const cursors = [...this.#lines].map(([account, line]): Cursor => ({
      account,
      line,
      next: 0,
      served: account.served,
    })).sort(compare);
    for (let cursor = cursors.shift(); cursor !== undefined; cursor = cursors.shift()) {
      const sequence = cursor.line[cursor.next];
      if (sequence === undefined || closed(cursor.account)) continue;
      yield sequence;
      cursor.next++;
      cursor.served += promptCost(sequence.length) / cursor.account.standing.weight;
      cursors.splice(lowerBound(cursors, (other) => compare(other, cursor) < 0), 0, cursor);
    }
  }
}

function compareCursors(a: Cursor, b: Cursor, shares: ReadonlyMap<Account, number>): number {
  return a.account.standing.priority - b.account.standing.priority ||
    a.served - b.served ||
    (shares.get(a.account) ?? 0) - (shares.get(b.account) ?? 0) ||
    arrivalOf(a) - arrivalOf(b);
}

function arrivalOf({ line, next }: Cursor): number {
  return line[next]?.arrival ?? Infinity;
}

/** The first index of `sorted` for which `before` does not hold. */
function lowerBound<T>(sorted: readonly T[], before: (element: T) => boolean): number {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    const element = sorted[middle];
    if (element !== undefined && before(element)) low = middle + 1;
    else high = middle;
  }
  return low;
}
