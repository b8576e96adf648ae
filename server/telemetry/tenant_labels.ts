/**
 * Which tenants have a label of their own in the metrics: a bounded number of those with the most
 * traffic, all others share one. It owns the choice and its steadiness; it knows no metric.
 *
 * Traffic is counted for a bounded number of tenants too (Space-Saving, Metwally et al. 2005: a
 * newcomer takes the place of the least and inherits its count), and halved from time to time, so
 * that what was long ago weighs little.
 */

/** The label of all tenants without one of their own. */
export const OTHER = "other";

export interface TenantLabelsOptions {
  /** Tenants with labels of their own. */
  readonly most: number;
  /** Called with a label that is given up: its series end. */
  readonly onRelease: (label: string) => void;
  /** Monotonic, milliseconds. Default: since the process began. */
  readonly now?: () => number;
}

/** Milliseconds after which traffic weighs half. */
const HALF_LIFE = 10 * 60 * 1000;
/** Tenants whose traffic is counted, for each label. */
const COUNTED_PER_LABEL = 16;
/** How many times the traffic of the least labelled tenant another one needs to take its label. */
const LEAD = 2;

export class TenantLabels {
  readonly #options: TenantLabelsOptions;
  readonly #now: () => number;
  readonly #traffic = new Map<string, number>();
  readonly #labelled = new Set<string>();
  #halvedAt: number;

  /** @throws {RangeError} where no label may be given */
  constructor(options: TenantLabelsOptions) {
    if (!(options.most >= 1)) {
      throw new RangeError(`Cannot label ${options.most} tenants: it must be 1 or more`);
    }
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
    this.#halvedAt = this.#now();
  }

  /** Labels of tenants; `OTHER` is not among them. */
  get labels(): ReadonlySet<string> {
    return this.#labelled;
  }

  /**
   * The label for a tenant's next observation, which counts as `traffic` (tokens, above 0). A tenant
   * that is called like the others' label never gets its own.
   */
  observe(tenant: string, traffic: number): string {
    this.#age();
    this.#count(tenant, traffic);
    if (tenant === OTHER) return OTHER;
    if (!this.#labelled.has(tenant)) this.#consider(tenant);
    return this.label(tenant);
  }

  /** The label that a tenant has now. */
  label(tenant: string): string {
    return this.#labelled.has(tenant) ? tenant : OTHER;
  }

  #count(tenant: string, traffic: number): void {
    const before = this.#traffic.get(tenant);
    if (before === undefined && this.#traffic.size >= this.#options.most * COUNTED_PER_LABEL) {
      const least = this.#least(
        [...this.#traffic.keys()].filter((one) => !this.#labelled.has(one)),
      );
      const inherited = this.#traffic.get(least) ?? 0;
      this.#traffic.delete(least);
      this.#traffic.set(tenant, inherited + traffic);
    } else this.#traffic.set(tenant, (before ?? 0) + traffic);
  }

  #consider(tenant: string): void {
    if (this.#labelled.size < this.#options.most) {
      this.#labelled.add(tenant);
      return;
    }
    const least = this.#least([...this.#labelled]);
    const [own = 0, its = 0] = [this.#traffic.get(tenant), this.#traffic.get(least)];
    if (own <= LEAD * its) return;
    this.#labelled.delete(least);
    this.#options.onRelease(least);
    this.#labelled.add(tenant);
  }

  #least(tenants: readonly string[]): string {
    return tenants.reduce((least, one) =>
      (this.#traffic.get(one) ?? 0) < (this.#traffic.get(least) ?? 0) ? one : least
    );
  }

  #age(): void {
    const halvings = Math.floor((this.#now() - this.#halvedAt) / HALF_LIFE);
    if (halvings === 0) return;
    this.#halvedAt += halvings * HALF_LIFE;
    for (const [tenant, traffic] of this.#traffic) {
      this.#traffic.set(tenant, traffic / 2 ** halvings);
    }
  }
}
