/**
 * The order in which sequences wait. Between tenants: the tenant's priority, then who has been
 * served least (`accounts.ts`), then who has fewer rows for its weight, then who came first; inside
 * one tenant: the request's priority, then first come first served. It knows neither memory nor
 * slots. With one tenant the order is plain arrival within priority.
 */
import { type Account, type Ledger, promptCost } from "./accounts.ts";
import type { Sequence } from "./sequence.ts";

/** Where a sequence stands in its tenant's line; fixed, so a preempted one comes back to the front. */
export interface Place {
  readonly priority: number;
  readonly arrival: number;
}

/** Negative where `a` runs sooner than `b` of the same tenant. */
export function comparePlaces(a: Place, b: Place): number {
  return a.priority - b.priority || a.arrival - b.arrival;
}

export interface TurnOptions {
  /** Rows that a tenant has, by weight. */
  readonly share: (account: Account) => number;
  /** Accounts whose sequences are passed over from now on; asked before each sequence. */
  readonly closed: (account: Account) => boolean;
}

/** A tenant's line, and how far a reader of the order has gone in it. */
interface Turn {
  readonly account: Account;
  readonly line: readonly Sequence[];
  next: number;
  /** What the account will have been served when what was read so far is admitted. */
  served: number;
}

/** Waiting sequences, a line for each tenant. */
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

  /** The place of the next sequence that arrives. */
  place(priority: number): Place {
    return { priority, arrival: this.#arrivals++ };
  }

  has(sequence: Sequence): boolean {
    return this.#lines.get(sequence.account)?.includes(sequence) ?? false;
  }

  /** Adds a sequence; a tenant that did not wait is lifted to those who do. */
  add(sequence: Sequence): void {
    const { account } = sequence;
    let line = this.#lines.get(account);
    if (line === undefined) {
      this.#ledger.lift(account, this.#lines.keys());
      this.#lines.set(account, line = []);
    }
    line.splice(indexOf(line, sequence.place), 0, sequence);
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
   * Sequences in the order in which they are to be admitted, each charged to its tenant's turn as if
   * it had been. The queue must not change meanwhile.
   */
  *inTurn({ share, closed }: TurnOptions): Generator<Sequence> {
    const shares = new Map([...this.#lines.keys()].map((account) => [account, share(account)]));
    const compare = (a: Turn, b: Turn) => compareTurns(a, b, shares);
    const turns = [...this.#lines].map(([account, line]): Turn => ({
      account,
      line,
      next: 0,
      served: account.served,
    })).sort(compare);
    for (let turn = turns.shift(); turn !== undefined; turn = turns.shift()) {
      const sequence = turn.line[turn.next];
      if (sequence === undefined || closed(turn.account)) continue;
      yield sequence;
      turn.next++;
      turn.served += promptCost(sequence.length) / turn.account.standing.weight;
      turns.splice(lowerBound(turns, (other) => compare(other, turn) < 0), 0, turn);
    }
  }
}

function compareTurns(a: Turn, b: Turn, shares: ReadonlyMap<Account, number>): number {
  return a.account.standing.priority - b.account.standing.priority ||
    a.served - b.served ||
    (shares.get(a.account) ?? 0) - (shares.get(b.account) ?? 0) ||
    arrivalOf(a) - arrivalOf(b);
}

function arrivalOf({ line, next }: Turn): number {
  return line[next]?.place.arrival ?? Infinity;
}

function indexOf(line: readonly Sequence[], place: Place): number {
  return lowerBound(line, (other) => comparePlaces(other.place, place) < 0);
}

/** The first index whose element is not before what is looked for. */
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
