/**
 * Who holds how many of what is shared (rows of a lane, bytes of keys and values), and who gives way
 * when another tenant is to have some: the one with the lower priority, else the one that holds most
 * for its weight, and of its rows the newest. It counts given rows; it moves and frees nothing.
 */
import type { Account } from "./accounts.ts";
import type { Sequence } from "./sequence.ts";
import { comparePlaces } from "./waiting.ts";

/** Rows as they will be when the plan that is being made is carried out. */
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
    for (const own of this.#rows.values()) own.sort((a, b) => comparePlaces(a.place, b.place));
  }

  /** What a tenant holds. */
  held(account: Account): number {
    return this.#use.get(account) ?? 0;
  }

  /** What a tenant holds, by weight. */
  share(account: Account): number {
    return this.held(account) / account.standing.weight;
  }

  /** A tenant is to have so much more. */
  add(account: Account, size: number): void {
    this.#use.set(account, this.held(account) + size);
  }

  /** Takes a row out; the row of a victim, for one. */
  remove(row: Sequence): void {
    const own = this.#rows.get(row.account) ?? [];
    const at = own.indexOf(row);
    if (at === -1) return;
    own.splice(at, 1);
    this.add(row.account, -this.#sizeOf(row));
  }

  /**
   * Whose row gives way so that `account` can have `size`: a tenant of lower priority, or one that
   * is left with no less for its weight than `account` then has, so that neither can take it back.
   */
  victimFor(account: Account, size: number): Sequence | undefined {
    const wanted = (this.held(account) + size) / account.standing.weight;
    return this.#worst((other) => {
      if (other === account) return false;
      const lower = other.standing.priority - account.standing.priority;
      return lower > 0 || (lower === 0 && this.#left(other) >= wanted);
    });
  }

  /** Whose row gives way where somebody's must. */
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
      a.place.arrival - b.place.arrival;
  }

  /** What a tenant holds by weight without its newest row. */
  #left(account: Account): number {
    const newest = this.#rows.get(account)?.at(-1);
    const size = newest === undefined ? 0 : this.#sizeOf(newest);
    return (this.held(account) - size) / account.standing.weight;
  }
}
