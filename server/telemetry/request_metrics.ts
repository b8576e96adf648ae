/** Histograms over requests and runs of the model, by vLLM's names and definitions. */
import { Histogram, type Registry } from "prom-client";
import type { EngineListener, FinishedObservation } from "../../src/engine/metrics.ts";
import type { TenantMetrics } from "./tenant_metrics.ts";

/** Upper bounds in seconds. */
const FIRST_TOKEN = [0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120];
const PER_TOKEN = [0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.08, 0.1, 0.15, 0.25, 0.5, 1, 2.5];
const REQUEST = [0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600];
/** Upper bounds in tokens, samples and preemptions. */
const TOKENS = [1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768];
const SAMPLES = [1, 2, 5, 10, 20];
const PREEMPTIONS = [1, 2, 3, 4, 5, 10, 20];

type Request = [name: string, help: string, buckets: number[]];

/** What each sample tells at its end. */
const REQUESTS = {
  whole: ["e2e_request_latency_seconds", "Arrival to end.", REQUEST],
  queue: ["request_queue_time_seconds", "Arrival to admission.", FIRST_TOKEN],
  prefill: ["request_prefill_time_seconds", "Admission to first token.", REQUEST],
  decode: ["request_decode_time_seconds", "First token to last.", REQUEST],
  inference: ["request_inference_time_seconds", "Admission to last token.", REQUEST],
  perToken: [
    "request_time_per_output_token_seconds",
    "Mean time from one output token to the next, by request: no prompt's.",
    PER_TOKEN,
  ],
  prompt: ["request_prompt_tokens", "Prompt tokens by request.", TOKENS],
  computed: [
    "request_prefill_kv_computed_tokens",
    "Prompt tokens by request that no cache had.",
    TOKENS,
  ],
  output: ["request_generation_tokens", "Output tokens by request.", TOKENS],
  preemptions: ["request_num_preemptions", "How often a request was put back.", PREEMPTIONS],
  maxTokens: ["request_params_max_tokens", "max_tokens, of requests that say it.", TOKENS],
  samples: ["request_params_n", "Samples of each prompt.", SAMPLES],
} as const satisfies Record<string, readonly [string, string, readonly number[]]>;

type Name = keyof typeof REQUESTS;

/** Registers them; the engine's listener fills them. */
export function requestMetrics(registry: Registry, tenants: TenantMetrics): EngineListener {
  const histogram = (...[name, help, buckets]: Request) =>
    new Histogram({ name: `vllm:${name}`, help, buckets, registers: [registry] });
  const first = histogram(
    "time_to_first_token_seconds",
    "Arrival to the first token.",
    FIRST_TOKEN,
  );
  const between = histogram("inter_token_latency_seconds", "Token to token.", PER_TOKEN);
  const tokens = histogram(
    "iteration_tokens_total",
    "Tokens of a step of the model: those computed, and those drawn behind prompts.",
    TOKENS,
  );
  const step = new Histogram({
    name: "lembas_step_seconds",
    help: "One run of the model, sampling included.",
    labelNames: ["kind"],
    buckets: PER_TOKEN,
    registers: [registry],
  });
  const requests = new Map(
    Object.entries(REQUESTS).map(([key, [name, help, buckets]]) => [
      key,
      histogram(name, help, [...buckets]),
    ]),
  );
  return {
    firstToken: (seconds) => first.observe(seconds),
    interToken: (seconds) => between.observe(seconds),
    step: ({ kind, seconds, tokens: computed, steps, first }) => {
      step.observe({ kind }, seconds);
      for (let i = 0; i < steps; i++) tokens.observe(computed / steps + first);
    },
    finished: (seen) => {
      tenants.finished(seen);
      for (const [key, value] of Object.entries(told(seen))) {
        if (value !== undefined) requests.get(key)?.observe(value);
      }
    },
  };
}

/** Seconds and counts; undefined where it never came to that. */
function told(seen: FinishedObservation): Readonly<Record<Name, number | undefined>> {
  const { queued, firstToken, lastToken, generationTokens, promptTokens } = seen;
  const decode = between(firstToken, lastToken);
  return {
    whole: seen.endToEnd,
    queue: queued,
    prefill: between(queued, firstToken),
    decode,
    inference: between(queued, lastToken),
    perToken: decode === undefined || generationTokens < 2
      ? undefined
      : decode / (generationTokens - 1),
    prompt: promptTokens,
    computed: firstToken === undefined ? undefined : promptTokens - seen.cachedTokens,
    output: generationTokens,
    preemptions: seen.preemptions,
    maxTokens: seen.maxTokens,
    // once a request, not once a sample
    samples: seen.index === 0 ? seen.samples : undefined,
  };
}

function between(from: number | undefined, to: number | undefined): number | undefined {
  return from === undefined || to === undefined ? undefined : to - from;
}
