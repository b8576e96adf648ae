/**
 * Who goes first, and who gives way: sequences that wait, a line for each tenant, and the order in
 * which they are admitted; whose requests leave a full queue; and whose row leaves a lane or its
 * memory. Who gives way is the newest one of the tenant that holds most for its weight, and all are
 * chosen before any leaves, so none leaves in vain.
 */
import type { Sequence } from "../sequence.ts";
import { type Account, type Ledger, promptCost } from "./accounts.ts";

// ---- who goes first ----

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

/**
 * The order between tenants: by the tenant's priority, then by who has been served least
 * (`Account`), then by who has fewer rows for its weight, then by arrival. Inside one tenant: by the
 * request's priority, then by arrival.
 */
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

// ---- who gives way ----

export interface Newcomer {
  readonly account: Account;
  /** Sequences that it adds. */
  readonly samples: number;
  /** Sequences that must leave for them. */
  readonly missing: number;
}

/**
 * The requests that leave, at least `missing` sequences together; undefined where those that may
 * leave are too few.
 * @param waiting each tenant's line
 */
export function chooseVictims(
  waiting: ReadonlyMap<Account, readonly Sequence[]>,
  { account, samples, missing }: Newcomer,
): readonly Victim[] | undefined {
  if (missing <= 0) return [];
  const own = ((waiting.get(account)?.length ?? 0) + samples) / account.standing.weight;
  const lines = [...waiting].flatMap(([other, line]) =>
    other === account ? [] : new Line(other, line)
  );
  const victims: Victim[] = [];
  let freed = 0;
  while (freed < missing) {
    const victim = longest(lines, own)?.takeNewest();
    if (victim === undefined) return undefined;
    victims.push(victim);
    freed += victim.samples;
  }
  return victims.filter(({ samples }) => {
    const spared = freed - samples >= missing;
    if (spared) freed -= samples;
    return !spared;
  });
}

/** A request that may give way. */
export interface Victim {
  /** One of its samples. */
  readonly sequence: Sequence;
  /** All of them: a request leaves whole. */
  readonly samples: number;
}

/** Another tenant's line, as it will be once the requests that give way have left. */
class Line {
  readonly #weight: number;
  /** Sequences of requests that have not begun, in order. */
  #movable: readonly Sequence[];
  #length: number;

  constructor(account: Account, line: readonly Sequence[]) {
    this.#weight = account.standing.weight;
    this.#movable = line.filter((sequence) => !hasBegun(sequence));
    this.#length = line.length;
  }

  /**
   * Its length divided by weight once its newest request has left; undefined where none can leave.
   */
  get left(): number | undefined {
    const newest = this.#movable.at(-1);
    return newest && (this.#length - newest.request.n) / this.#weight;
  }

  takeNewest(): Victim | undefined {
    const sequence = this.#movable.at(-1);
    if (sequence === undefined) return undefined;
    const kept = this.#movable.filter(({ request }) => request !== sequence.request);
    this.#length -= this.#movable.length - kept.length;
    this.#movable = kept;
    return { sequence, samples: sequence.request.n };
  }
}

/** The line that is left longest without its newest request, and no shorter than `own`. */
function longest(lines: readonly Line[], own: number): Line | undefined {
  let best: { readonly line: Line; readonly left: number } | undefined;
  for (const line of lines) {
    const { left = -1 } = line;
    if (left >= own && left > (best?.left ?? -1)) best = { line, left };
  }
  return best?.line;
}

/** Whether some sample of its request has been in a batch: the caller may have read from it. */
function hasBegun({ group }: Sequence): boolean {
  return group.sequences.some(({ admittedAt }) => admittedAt !== undefined);
}

/**
 * How much of a shared resource (a lane's rows, bytes of keys and values) each tenant holds, as it
 * will be once the plan in the making is carried out, and whose row gives way: that of the tenant
 * with the lower priority, else of the one that holds most for its weight; of its rows the newest.
 */
export class Shares {
  readonly #rows: Map<Account, Sequence[]> = new Map();
  readonly #use: Map<Account, number> = new Map();
  readonly #sizeOf: (row: Sequence) => number;

  /** @param sizeOf what a row holds: 1 where slots are counted, else bytes. */
  constructor(rows: readonly Sequence[], sizeOf: (row: Sequence) => number) {
    this.#sizeOf = sizeOf;
    for (const row of rows) {
      const own = this.#rows.get(row.account);
      if (own === undefined) this.#rows.set(row.account, [row]);
      else own.push(row);
      this.add(row.account, sizeOf(row));
    }
    for (const own of this.#rows.values()) own.sort(compareInLine);
  }

  /** What a tenant holds. */
  held(account: Account): number {
    return this.#use.get(account) ?? 0;
  }

  /** What a tenant holds, divided by its weight. */
  share(account: Account): number {
    return this.held(account) / account.standing.weight;
  }

  /** Counts so much more for a tenant. */
  add(account: Account, size: number): void {
    this.#use.set(account, this.held(account) + size);
  }

  /** Takes a row out, if it is there: that of a victim, for one. */
  remove(row: Sequence): void {
    const own = this.#rows.get(row.account) ?? [];
    const at = own.indexOf(row);
    if (at === -1) return;
    own.splice(at, 1);
    this.add(row.account, -this.#sizeOf(row));
  }

  /**
   * The row that gives way so that `account` can have `size` more: that of a tenant of lower
   * priority, or of one that is left with no less for its weight than `account` then has, so that
   * neither can take it back.
   */
  victimFor(account: Account, size: number): Sequence | undefined {
    const wanted = (this.held(account) + size) / account.standing.weight;
    return this.#worst((other) => {
      if (other === account) return false;
      const lower = other.standing.priority - account.standing.priority;
      return lower > 0 || (lower === 0 && this.#left(other) >= wanted);
    });
  }

  /** The row that gives way where one must. */
  victim(): Sequence | undefined {
    return this.#worst(() => true);
  }

  #worst(eligible: (account: Account) => boolean): Sequence | undefined {
    let worst: Sequence | undefined;
    for (const [account, rows] of this.#rows) {
      const newest = rows.at(-1);
      if (newest === undefined || !eligible(account)) continue;
      if (worst === undefined || this.#compare(newest, worst) > 0) worst = newest;
    }
    return worst;
  }

  /** Positive where `a` is to give way rather than `b`, each its tenant's newest row. */
  #compare(a: Sequence, b: Sequence): number {
    return a.account.standing.priority - b.account.standing.priority ||
      this.#left(a.account) - this.#left(b.account) ||
      a.arrival - b.arrival;
  }

  /** What a tenant holds without its newest row, divided by its weight. */
  #left(account: Account): number {
    const newest = this.#rows.get(account)?.at(-1);
    const size = newest === undefined ? 0 : this.#sizeOf(newest);
    return (this.held(account) - size) / account.standing.weight;
  }
}
