/**
 * Schemas that wait to be compiled. Tenants take turns, and of each tenant at most one schema is
 * compiled at a time, so that one who sends many or slow ones does not hold up the others.
 */
import { OverloadedError } from "../util/errors.ts";
import type { ThreadMatcher } from "./matcher.ts";

/** A schema that matchers wait for. */
export interface CompileJob {
  readonly tenant: string;
  readonly schema: string;
  readonly matchers: Set<ThreadMatcher>;
}

/** How many schemas of one tenant may wait. */
export const MOST_WAITING_SCHEMAS = 16;
const RETRY_SECONDS = 5;

export class CompileQueue {
  /** Waiting jobs by tenant; the tenant whose turn is next comes first. */
  readonly #waiting = new Map<string, CompileJob[]>();
  readonly #running = new Set<CompileJob>();

  /** The job of a tenant for a schema, waiting or running. */
  find(tenant: string, schema: string): CompileJob | undefined {
    const fits = (job: CompileJob) => job.tenant === tenant && job.schema === schema;
    return (this.#waiting.get(tenant) ?? []).find(fits) ?? [...this.#running].find(fits);
  }

  /** @throws {OverloadedError} where the tenant has too many waiting. */
  add(job: CompileJob): void {
    const own = this.#waiting.get(job.tenant) ?? [];
    if (own.length >= MOST_WAITING_SCHEMAS) {
      throw new OverloadedError(
        `Too many JSON schemas of '${job.tenant}' wait to be compiled: at most ` +
          `${MOST_WAITING_SCHEMAS}`,
        RETRY_SECONDS,
        "tenant",
      );
    }
    this.#waiting.set(job.tenant, [...own, job]);
  }

  /**
   * Puts a schema that was compiled before in front of its tenant's line, even where that is full.
   */
  restore(job: CompileJob): void {
    this.#waiting.set(job.tenant, [job, ...this.#waiting.get(job.tenant) ?? []]);
  }

  /** The next job to run, of a tenant that has none running; it counts as running until `end`. */
  take(): CompileJob | undefined {
    const busy = new Set([...this.#running].map(({ tenant }) => tenant));
    for (const [tenant, [job, ...others]] of this.#waiting) {
      if (busy.has(tenant) || job === undefined) continue;
      this.#waiting.delete(tenant);
      if (others.length > 0) this.#waiting.set(tenant, others);
      this.#running.add(job);
      return job;
    }
    return undefined;
  }

  end(job: CompileJob): void {
    this.#running.delete(job);
  }
}
