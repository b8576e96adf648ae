/** What probes and scrapers see: alive, ready, and who may read the metrics. */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { createApp } from "../../server/http/app.ts";
import type { ReadinessCheck, ServerContext } from "../../server/context.ts";
import { errorSchema } from "../../server/http/schema/common.ts";
import { fakeContext } from "./fake_context.ts";

function ask(context: ServerContext, path: string): Promise<Response> {
  return Promise.resolve(createApp(context).request(path));
}

function withStore(check: ReadinessCheck["check"]): ServerContext {
  return { ...fakeContext(), readiness: [{ name: "store", check }] };
}

Deno.test("ready says so while the store answers", async () => {
  const response = await ask(withStore(() => Promise.resolve()), "/ready");
  assertEquals([response.status, await response.json()], [200, { status: "ready" }]);
});

Deno.test("a store that fails or does not answer makes it unready, not dead", async () => {
  const silent = () => new Promise<void>(() => {});
  const failing = () => Promise.reject(new Error("connection refused by db.internal:5432"));
  for (const check of [silent, failing]) {
    const context = withStore(check);
    const response = await ask(context, "/ready");
    const { error } = errorSchema.parse(await response.json());
    assertEquals([response.status, error.code], [503, "not_ready"]);
    assertEquals(error.message, "Not ready: the store does not answer.");
    assertEquals(response.headers.get("retry-after"), "1");
    assertEquals((await ask(context, "/health")).status, 200);
  }
});

Deno.test("a draining server is alive and not ready", async () => {
  const context = fakeContext();
  await context.lifecycle.drain();
  assertEquals((await ask(context, "/health")).status, 200);
  const response = await ask(context, "/ready");
  assertEquals([response.status, response.headers.get("retry-after")], [503, "5"]);
});

Deno.test("what scrapers read of versions and load is open where metrics are", async () => {
  for (const path of ["/version", "/load"]) {
    assertEquals((await ask(fakeContext({ apiKey: "s3cret" }), path)).status, 401);
    const open = fakeContext({ apiKey: "s3cret", metricsAccess: "open" });
    assertEquals((await ask(open, path)).status, 200);
  }
});

Deno.test("metrics want an administrator's key unless they are open", async () => {
  assertEquals((await ask(fakeContext({ apiKey: "s3cret" }), "/metrics")).status, 401);
  const open = await ask(fakeContext({ apiKey: "s3cret", metricsAccess: "open" }), "/metrics");
  assertEquals(open.status, 200);
  assertStringIncludes(await open.text(), "vllm:num_requests_waiting");
});
