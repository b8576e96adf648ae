/**
 * How much of a shared resource (a lane's rows, bytes of keys and values) each tenant holds, and
 * whose row gives way to another tenant: that of the tenant with the lower priority, else of the
 * one that holds most for its weight; of its rows the newest.
 */
import type { Sequence } from "../sequence.ts";
import type { Account } from "./accounts.ts";
import { compareInLine } from "./queue.ts";

/** The holdings as they will be once the plan in the making is carried out. */
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
