// deno-lint-ignore-file camelcase -- names of the wire format
/** ORCA's header: what it says, in which format, and to whom. */
import { assertEquals } from "@std/assert";
import { fakeContext } from "../fake_context.ts";
import { openKeyedApp } from "../keyed_app.ts";
import { HELLO, type Json, post } from "../asked.ts";

const FORMAT = "endpoint-load-metrics-format";

async function report(path: string, body: Json, headers: HeadersInit) {
  const response = await post(fakeContext(), path, body, headers);
  await response.body?.cancel();
  return response.headers.get("endpoint-load-metrics");
}

Deno.test("an answer has the load in the format that its request names, streamed or not", async () => {
  const text = "TEXT named_metrics.kv_cache_usage_perc=0.25, named_metrics.num_requests_waiting=0";
  assertEquals(await report("/v1/chat/completions", HELLO, { [FORMAT]: "TEXT" }), text);
  const streamed = { model: "tiny", prompt: "a", stream: true };
  const json = 'JSON {"named_metrics":{"kv_cache_usage_perc":0.25,"num_requests_waiting":0}}';
  assertEquals(await report("/v1/completions", streamed, { [FORMAT]: "JSON" }), json);
});

Deno.test("no load is told where none was asked for, in another format, nor of a refusal", async () => {
  assertEquals(await report("/v1/chat/completions", HELLO, {}), null);
  assertEquals(await report("/v1/chat/completions", HELLO, { [FORMAT]: "BIN" }), null);
  assertEquals(await report("/v1/chat/completions", {}, { [FORMAT]: "TEXT" }), null);
});

Deno.test("tenants, who cannot read the metrics, are told no load", async () => {
  await using own = await openKeyedApp();
  const told = async (key: string) => {
    const json = { prompt: "a", max_tokens: 1 };
    const asked = { key, json, headers: { [FORMAT]: "TEXT" } };
    const response = await own.ask("POST", "/v1/completions", asked);
    assertEquals(response.status, 200, await response.text());
    return response.headers.has("endpoint-load-metrics");
  };
  assertEquals([await told(own.keys.acme), await told(own.keys.admin)], [false, true]);
});
