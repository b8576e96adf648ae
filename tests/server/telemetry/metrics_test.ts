/** What the metrics under vLLM's names mean, by vLLM's definitions. */
import { assertStringIncludes } from "@std/assert";
import { createMetrics } from "../../../server/telemetry/metrics.ts";

Deno.test("time per output token is from the first to the last, without the prompt's", async () => {
  const metrics = createMetrics();
  const seen = {
    ...{ requestId: "r", index: 0, tenant: "acme", adapter: undefined, reason: "stop" as const },
    ...{ promptTokens: 4000, cachedTokens: 0, generationTokens: 5 },
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
