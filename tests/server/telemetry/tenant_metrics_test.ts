/** Which tenants get labels in the metrics, and the series that they get. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { createMetrics } from "../../../server/telemetry/metrics.ts";
import { MOST_TENANTS, OTHER, TenantLabels } from "../../../server/telemetry/tenant_metrics.ts";
import type { FinishedObservation } from "../../../src/engine/metrics.ts";

function labels(most: number, clock = { now: 0 }) {
  const released: string[] = [];
  const onRelease = (label: string) => void released.push(label);
  const made = new TenantLabels({ most, onRelease, now: () => clock.now });
  return { made, released, clock };
}

Deno.test("the first tenants get labels, the next ones share one", () => {
  const { made } = labels(2);
  assertEquals(made.observe("ada", 10), "ada");
  assertEquals(made.observe("bob", 10), "bob");
  assertEquals(made.observe("cyd", 10), OTHER);
  assertEquals(made.label("nobody"), OTHER);
});

Deno.test("a label goes to a tenant with more than twice the traffic of the least", () => {
  const { made, released } = labels(2);
  made.observe("ada", 100);
  made.observe("bob", 10);
  assertEquals(made.observe("cyd", 20), OTHER);
  assertEquals(made.observe("cyd", 1), "cyd");
  assertEquals(released, ["bob"]);
  assertEquals([...made.labels], ["ada", "cyd"]);
});

Deno.test("traffic of long ago weighs little", () => {
  const { made, released, clock } = labels(1);
  made.observe("ada", 1000);
  assertEquals(made.observe("bob", 100), OTHER);
  clock.now = 3 * 60 * 60 * 1000;
  assertEquals(made.observe("bob", 100), "bob");
  assertEquals(released, ["ada"]);
});

Deno.test("a tenant called like the others' label is one of them", () => {
  const { made } = labels(1);
  assertEquals(made.observe(OTHER, 100), OTHER);
  assertEquals(made.labels.size, 0);
  assertThrows(() => labels(0), RangeError, "1 or more");
});

Deno.test("a crowd of one-time tenants neither takes labels from the busy ones nor much memory", () => {
  const { made, released } = labels(2);
  for (let i = 0; i < 5000; i++) {
    made.observe("ada", 50);
    made.observe("bob", 50);
    assertEquals(made.observe(`passer-by-${i}`, 1), OTHER);
  }
  assertEquals(released, []);
});

function finished(tenant: string, tokens: number): FinishedObservation {
  return {
    requestId: "r",
    index: 0,
    tenant,
    adapter: undefined,
    reason: "stop",
    promptTokens: tokens,
    cachedTokens: 1,
    generationTokens: 2,
    ...{ preemptions: 0, maxTokens: undefined, samples: 1 },
    endToEnd: 1,
    queued: 0.1,
    firstToken: 0.2,
    lastToken: 1,
  };
}

Deno.test("tenants' series are bounded and add up to the whole", async () => {
  const metrics = createMetrics();
  const crowd = 4 * MOST_TENANTS;
  for (let i = 0; i < crowd; i++) metrics.listener.finished?.(finished(`t${i}`, 10));
  const { text } = await metrics.expose();
  const series = [
    ...text.matchAll(/^lembas_tenant_prompt_tokens_total\{tenant="(\w+)"\} (\d+)$/gm),
  ];
  assertEquals(series.length, MOST_TENANTS + 1);
  assertEquals(series.reduce((sum, [, , value]) => sum + Number(value), 0), 10 * crowd);
  assert(text.includes('lembas_tenant_time_to_first_token_seconds_count{tenant="t0"} 1'));
});

Deno.test("a tenant that loses its label loses all of its series", async () => {
  const metrics = createMetrics();
  for (let i = 0; i < MOST_TENANTS; i++) {
    metrics.listener.finished?.(finished(`t${i}`, i === 7 ? 5 : 100));
  }
  metrics.response(429, "t7");
  metrics.training.tokens(3, "t7");
  assert((await metrics.expose()).text.includes('responses_total{tenant="t7",status="429"} 1'));
  metrics.listener.finished?.(finished("loud", 1000));
  const { text } = await metrics.expose();
  assert(!text.includes('"t7"'), "t7 is gone");
  assert(text.includes('lembas_tenant_samples_total{tenant="loud",reason="stop"} 1'));
});
