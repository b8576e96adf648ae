/**
 * Metrics by tenant: traffic, latency and refusals of those with the most traffic, all others summed
 * up as one. It owns these series; who has some is `tenant_labels.ts`'s. A tenant that gets a label
 * begins at zero, what came before stays with the others, and its series end where it loses it: so
 * each series only grows, as Prometheus wants counters, and rates add up.
 */
import { Counter, Histogram, type Registry } from "prom-client";
import type { FinishedObservation } from "../../src/engine/metrics.ts";
import type { FinishReason } from "../../src/engine/request/request.ts";
import { TenantLabels } from "./tenant_labels.ts";

/** Tenants with series of their own in one scrape, besides the others' sum. */
export const MOST_TENANTS = 50;

/** Upper bounds in seconds: few, since every tenant has them. */
const LATENCY = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

const REASONS = ["stop", "length", "abort", "error"] as const satisfies readonly FinishReason[];
/** Few, and the one that tells of limits. */
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
