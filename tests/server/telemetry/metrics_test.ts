// deno-lint-ignore-file camelcase -- names of the metrics
/** What the metrics under vLLM's names mean, by vLLM's definitions. */
import { assertAlmostEquals, assertEquals, assertStringIncludes } from "@std/assert";
import { createMetrics } from "../../../server/telemetry/metrics.ts";

Deno.test("time per output token is from the first to the last, without the prompt's", async () => {
  const metrics = createMetrics();
  const seen = {
    ...{ requestId: "r", index: 0, tenant: "acme", adapter: undefined, reason: "stop" as const },
    ...{ promptTokens: 4000, cachedTokens: 0, generationTokens: 5 },
    ...{ preemptions: 0, maxTokens: undefined, samples: 1 },
    ...{ queued: 0.5, firstToken: 3, lastToken: 3.4, endToEnd: 3.5 },
  };
  metrics.listener.finished?.(seen);
  // of one token there is no time between two
  metrics.listener.finished?.({ ...seen, generationTokens: 1, lastToken: 3 });
  const { text } = await metrics.expose();
  const name = "vllm:request_time_per_output_token_seconds";
  assertStringIncludes(text, `${name}_count 1`);
  const sum = Number(new RegExp(`${name}_sum (\\S+)`).exec(text)?.[1]);
  assertStringIncludes(sum.toFixed(6), "0.100000");
});

/** The sum and the count of a histogram. */
function histogramIn(text: string, name: string): readonly [number, number] {
  const value = (part: string) =>
    Number(new RegExp(`^vllm:${name}_${part} (\\S+)`, "m").exec(text)?.[1]);
  return [value("sum"), value("count")];
}

Deno.test("a request's phases, its preemptions and what it asked for are histograms", async () => {
  const metrics = createMetrics();
  const seen = {
    ...{ requestId: "r", index: 0, tenant: "acme", adapter: undefined, reason: "stop" as const },
    ...{ promptTokens: 100, cachedTokens: 60, generationTokens: 5 },
    ...{ preemptions: 2, maxTokens: 64, samples: 3 },
    ...{ queued: 0.5, firstToken: 2, lastToken: 5, endToEnd: 5.5 },
  };
  metrics.listener.finished?.(seen);
  // the same request's next sample, which was refused its first token
  const none = { queued: undefined, firstToken: undefined, lastToken: undefined };
  metrics.listener.finished?.({ ...seen, ...none, index: 1, maxTokens: undefined });
  metrics.listener.step?.({
    kind: "prefill",
    rows: 2,
    tokens: 40,
    steps: 1,
    first: 2,
    seconds: 0.1,
  });
  metrics.listener.step?.({ kind: "decode", rows: 2, tokens: 6, steps: 3, first: 0, seconds: 0.1 });
  const { text } = await metrics.expose();
  const wanted = {
    request_prefill_time_seconds: [1.5, 1],
    request_decode_time_seconds: [3, 1],
    request_inference_time_seconds: [4.5, 1],
    request_prefill_kv_computed_tokens: [40, 1],
    request_num_preemptions: [4, 2],
    request_params_max_tokens: [64, 1],
    request_params_n: [3, 1],
    iteration_tokens_total: [48, 4],
  };
  for (const [name, [sum = NaN, count]] of Object.entries(wanted)) {
    const found = histogramIn(text, name);
    assertAlmostEquals(found[0], sum, 1e-9);
    assertEquals(found[1], count, name);
  }
});
