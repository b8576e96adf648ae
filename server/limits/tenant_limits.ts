/**
 * The limits of tenants as requests read them: a copy of the store's for 30 seconds, or until the
 * store tells of a change. Where the store does not answer, an older copy is used.
 */
import {
  type Changes,
  NO_LIMITS,
  type TenantLimits,
  type TenantStore,
} from "../../adapters/store/store.ts";
import { Lru } from "../../src/util/lru.ts";

/** Milliseconds for which a copy is used if the store tells of no change. */
const KEEP_MILLISECONDS = 30_000;
/** Most copies; the least recently used are forgotten first. */
const MOST_COPIES = 10_000;

export interface TenantLimitsOptions {
  readonly tenants: Pick<TenantStore, "find">;
  readonly changes: Pick<Changes, "on">;
  /** Monotonic milliseconds. Default: since the process began. */
  readonly now?: () => number;
}

interface Copy {
  readonly limits: TenantLimits;
  readonly readAt: number;
}

export class TenantLimitsReader implements Disposable {
  readonly #tenants: Pick<TenantStore, "find">;
  readonly #now: () => number;
  readonly #copies = new Lru<string, Copy>(MOST_COPIES);
  readonly #reading = new Map<string, Promise<TenantLimits>>();
  readonly #subscriptions: readonly Disposable[];
  /**
   * Counts the changes that the store told of, so that a limit read before a change is not kept
   * after it.
   */
  #generation = 0;

  constructor({ tenants, changes, now = () => performance.now() }: TenantLimitsOptions) {
    this.#tenants = tenants;
    this.#now = now;
    this.#subscriptions = [
      changes.on("tenant", ({ id, tenant = id }) => this.#forget(tenant)),
      changes.on("resync", () => this.#forget(undefined)),
    ];
  }

  /**
   * A tenant's limits, at once where there is a copy. A tenant that is not in the store has none.
   * @throws what the store throws, where there is not even an old copy
   */
  limitsOf(tenant: string): TenantLimits | Promise<TenantLimits> {
    const copy = this.#copies.get(tenant);
    if (copy !== undefined && this.#now() - copy.readAt < KEEP_MILLISECONDS) return copy.limits;
    const reading = this.#reading.get(tenant) ?? this.#read(tenant, copy);
    this.#reading.set(tenant, reading);
    return reading;
  }

  [Symbol.dispose](): void {
    for (const subscription of this.#subscriptions) subscription[Symbol.dispose]();
  }

  async #read(tenant: string, older: Copy | undefined): Promise<TenantLimits> {
    const generation = this.#generation;
    try {
      const record = await this.#tenants.find(tenant);
      const limits = record?.limits ?? NO_LIMITS;
      if (generation === this.#generation) {
        this.#copies.set(tenant, { limits, readAt: this.#now() });
      }
      return limits;
    } catch (error) {
      if (older === undefined) throw error;
      return older.limits;
    } finally {
      this.#reading.delete(tenant);
    }
  }

  #forget(tenant: string | undefined): void {
    this.#generation++;
    this.#reading.clear();
    if (tenant === undefined) this.#copies.clear();
    else this.#copies.delete(tenant);
  }
}
