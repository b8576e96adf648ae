/**
 * vLLM's `metrics` of an answer, in milliseconds. The trap: time to first token begins when the request
 * leaves the queue, not when it arrives.
 */
import type { GenerationTimes } from "../../../src/engine/request/request.ts";
import type { ServerContext } from "../../context.ts";
import type { RequestMetricsBody } from "../../http/schema/common.ts";
import type { Run } from "../run.ts";

/** What an answer tells of its times: nothing, unless the server was told to. */
export function metricsTold(
  { options }: ServerContext,
  run: Pick<Run, "times" | "usage">,
): { readonly metrics?: RequestMetricsBody } {
  const times = options.requestTimes ? run.times() : undefined;
  if (times === undefined) return {};
  return { metrics: metricsOf(times, run.usage().completion_tokens) };
}

function metricsOf(
  { arrived, admitted, firstToken, lastToken }: GenerationTimes,
  tokens: number,
): RequestMetricsBody {
  const generation = between(firstToken, lastToken);
  const inference = between(admitted, lastToken);
  const gaps = tokens - 1;
  return defined({
    time_to_first_token_ms: between(admitted, firstToken),
    generation_time_ms: generation,
    queue_time_ms: between(arrived, admitted),
    mean_itl_ms: generation !== undefined && gaps > 0 ? generation / gaps : undefined,
    tokens_per_second: inference ? 1000 * tokens / inference : undefined,
  });
}

function between(from: number | undefined, to: number | undefined): number | undefined {
  return from === undefined || to === undefined ? undefined : to - from;
}

function defined(values: Readonly<Record<keyof RequestMetricsBody, number | undefined>>) {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined));
}
