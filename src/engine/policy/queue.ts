/**
 * The sequences that wait, a line for each tenant, and the order in which they are admitted.
 * Between tenants: by the tenant's priority, then by who has been served least (`Account`),
 * then by who has fewer rows for its weight, then by arrival. Inside one tenant: by the request's
 * priority, then by arrival.
 */
import type { Sequence } from "../sequence.ts";
import { type Account, type Ledger, promptCost } from "./accounts.ts";

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
