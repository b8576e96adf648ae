// deno-lint-ignore-file camelcase -- names of the wire format
/**
 * The load as a header of an answer, for load balancers that send `endpoint-load-metrics-format`
 * (ORCA, as vLLM has it). It tells what `/metrics` does, and so only those who may read that.
 */
import { isAdministrator } from "../access/access.ts";
import type { AppContext, ServerContext } from "../context.ts";

const ASKED = "endpoint-load-metrics-format";
const REPORT = "endpoint-load-metrics";
/** Paths that generate. */
const GENERATING: ReadonlySet<string> = new Set([
  "/v1/chat/completions",
  "/v1/completions",
  "/v1/messages",
  "/v1/responses",
  "/invocations",
]);

export function reportsLoad(
  { engine, options }: Pick<ServerContext, "engine" | "options">,
): (c: AppContext, next: () => Promise<void>) => Promise<void> {
  const mayRead = (c: AppContext) =>
    options.metricsAccess === "open" || isAdministrator(c.get("principal"));
  return async (c, next) => {
    await next();
    const format = c.req.header(ASKED)?.toLowerCase();
    if (format === undefined || !GENERATING.has(c.req.path) || !c.res.ok || !mayRead(c)) return;
    const report = reportIn(format, engine.stats());
    if (report !== undefined) c.res.headers.set(REPORT, report);
  };
}

type Stats = ReturnType<ServerContext["engine"]["stats"]>;

/** Undefined for a format that ORCA has not as text. */
function reportIn(format: string, { kvUsage, waiting, loading }: Stats): string | undefined {
  const metrics = { kv_cache_usage_perc: kvUsage, num_requests_waiting: waiting + loading };
  if (format === "json") return `JSON ${JSON.stringify({ named_metrics: metrics })}`;
  if (format !== "text") return undefined;
  const named = Object.entries(metrics).map(([name, value]) => `named_metrics.${name}=${value}`);
  return `TEXT ${named.join(", ")}`;
}
