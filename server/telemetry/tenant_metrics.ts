/**
 * Metrics by tenant: traffic, latency and refusals of the 50 tenants with the most traffic, and of
 * all others together (`other`). A tenant that gets a label of its own begins at zero; what came
 * before stays with the others, and its series end when it loses the label. So each series only
 * grows, as Prometheus wants counters, and rates add up.
 *
 * The traffic of up to 16 times as many tenants is counted (Space-Saving, Metwally et al. 2005: a
 * newcomer takes the place of the least and inherits its count), and halved every ten minutes.
 */
import { Counter, Histogram, type Registry } from "prom-client";
import type { FinishedObservation } from "../../src/engine/metrics.ts";
import type { FinishReason } from "../../src/engine/request/request.ts";

/** Tenants with series of their own in one scrape, besides the others' sum. */
export const MOST_TENANTS = 50;

/** Upper bounds in seconds: few, since every tenant has them. */
const LATENCY = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

const REASONS = ["stop", "length", "abort", "error"] as const satisfies readonly FinishReason[];
/** Few, with 429 by itself: it tells of limits. */
const STATUSES = ["2xx", "4xx", "429", "5xx"] as const;

export interface TenantMetrics {
  /** Counts a sample that has ended. */
  finished(seen: FinishedObservation): void;
  /** Counts an HTTP response for a tenant, by its status. */
  response(tenant: string, status: number): void;
  /** Counts tokens trained on. */
  trained(tenant: string, tokens: number): void;
}

/** Registers the series. @throws {RangeError} where `most` is below 1 */
export function tenantMetrics(registry: Registry, most: number = MOST_TENANTS): TenantMetrics {
  const counters = {
    samples: counter(registry, "lembas_tenant_samples_total", "Samples that ended.", ["reason"]),
    prompt: counter(registry, "lembas_tenant_prompt_tokens_total", "Prompt tokens of samples."),
    cached: counter(
      registry,
      "lembas_tenant_cached_tokens_total",
      "Prompt tokens not computed again.",
    ),
    output: counter(registry, "lembas_tenant_generation_tokens_total", "Tokens generated."),
    trained: counter(registry, "lembas_tenant_training_tokens_total", "Tokens trained on."),
    responses: counter(
      registry,
      "lembas_tenant_http_responses_total",
      "HTTP responses by status; 429 are refusals by a limit.",
      ["status"],
    ),
  };
  const latencies = {
    first: latency(
      registry,
      "lembas_tenant_time_to_first_token_seconds",
      "Arrival to first token.",
    ),
    queued: latency(registry, "lembas_tenant_queue_time_seconds", "Arrival to admission."),
  };
  const forget = (tenant: string) => {
    for (const reason of REASONS) counters.samples.remove({ tenant, reason });
    for (const status of STATUSES) counters.responses.remove({ tenant, status });
    const plain = [counters.prompt, counters.cached, counters.output, counters.trained];
    for (const series of [...plain, ...Object.values(latencies)]) series.remove({ tenant });
  };
  const labels = new TenantLabels({ most, onRelease: forget });
  return {
    finished: (seen) => {
      const { promptTokens, cachedTokens, generationTokens, reason, firstToken, queued } = seen;
      const tenant = labels.observe(seen.tenant, 1 + promptTokens + generationTokens);
      counters.samples.inc({ tenant, reason });
      counters.prompt.inc({ tenant }, promptTokens);
      counters.cached.inc({ tenant }, cachedTokens);
      counters.output.inc({ tenant }, generationTokens);
      if (firstToken !== undefined) latencies.first.observe({ tenant }, firstToken);
      if (queued !== undefined) latencies.queued.observe({ tenant }, queued);
    },
    response: (tenant, status) => {
      counters.responses.inc({ tenant: labels.observe(tenant, 1), status: statusLabel(status) });
    },
    trained: (tenant, tokens) => {
      counters.trained.inc({ tenant: labels.observe(tenant, tokens) }, tokens);
    },
  };
}

function counter(
  registry: Registry,
  name: string,
  help: string,
  more: readonly string[] = [],
): Counter {
  const labelNames = ["tenant", ...more];
  return new Counter({ name, help, labelNames, registers: [registry] });
}

function latency(registry: Registry, name: string, help: string): Histogram<"tenant"> {
  return new Histogram({
    name,
    help,
    labelNames: ["tenant"],
    buckets: LATENCY,
    registers: [registry],
  });
}

function statusLabel(status: number): typeof STATUSES[number] {
  if (status === 429) return "429";
  if (status >= 500) return "5xx";
  return status >= 400 ? "4xx" : "2xx";
}

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

/** Milliseconds after which traffic counts half. */
const HALF_LIFE = 10 * 60 * 1000;
/** Tenants whose traffic is counted, for each label that there may be. */
const COUNTED_PER_LABEL = 16;
/**
 * A tenant takes a label from the labelled tenant with the least traffic when it has this many
 * times as much.
 */
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
